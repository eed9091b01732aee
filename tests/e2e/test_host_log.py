"""Through the command line: what was done on this host is on record, and whose key says so."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import signal
import tarfile
from pathlib import Path

from docklock.evidence.operations import OPERATIONS
from tests.e2e.conftest import Docklock
from tests.image.conftest import build_layout, build_member, build_tar
from tests.image.scripted import Scripted, serve_layout
from tests.image.test_push import take
from tests.memory import count_in_memory, find_in_files, find_secrets, get_guarded


def read_ops(dock: Docklock, *words: str) -> list[str]:
    """The operations on record, oldest first; starts and exits too."""
    lines = dock("receipts", "--host", "--json", *words).stdout.splitlines()
    return [json.loads(line)["op"] for line in lines]


def get_children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def write_archive(path: Path) -> Path:
    """A docker archive of one empty layer."""
    layer = bytes(1024)
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]}
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}
    manifest = [{"Config": "c.json", "RepoTags": ["saved:1"], "Layers": ["l.tar"]}]
    with tarfile.open(path, "w") as tar:
        for name, data in (
            ("manifest.json", json.dumps(manifest).encode()),
            ("c.json", json.dumps(config).encode()),
            ("l.tar", layer),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_every_command_that_changes_something_is_a_leaf(
    dock: Docklock, busybox_tree: Path, tmp_path: Path
) -> None:
    before = len(read_ops(dock))
    dock("create", "--name", "made", "busybox", "sleep", "60")
    dock("start", "made")
    dock("exec", "made", "true")
    dock("kill", "-s", "WINCH", "made")
    dock("pause", "made")
    dock("unpause", "made")
    dock("update", "--pids-limit", "50", "made")
    dock("cp", "made:/etc/passwd", str(tmp_path / "passwd"))
    dock("export", "made", "-o", str(tmp_path / "made.tar"))
    dock("rename", "made", "named")
    dock("rename", "named", "made")
    dock("rm", "made", code=1)
    attached = dock.start("attach", "--no-stdin", "made")
    dock.wait_for(lambda: "attach" in read_ops(dock, "made"))
    dock("stop", "-t", "0", "made")
    attached.communicate(timeout=10)
    dock("evidence", "made", "-o", str(tmp_path / "made.evidence"))
    dock("evidence", "erase", "made", "--values", "env")
    dock("rm", "made")
    dock("run", "--rm", "busybox", "true")
    dock("import", str(busybox_tree), "other")
    dock("load", "-i", str(write_archive(tmp_path / "saved.tar")))
    dock("tag", "other", "another")
    dock("save", "other", "-o", str(tmp_path / "other.tar"))
    dock("rmi", "other", "another", "saved:1")
    dock("keys", "rotate")
    ops = read_ops(dock)[before:]
    while_it_ran = ["exec", "signal", "pause", "pause", "update", "cp", "export"]
    while_it_ran += ["rename", "rename", "remove", "denied"]
    assert ops[:15] == ["create", "start", *while_it_ran, "attach", "signal"]
    assert [op for op in ops[15:] if op not in ("signal", "exit", "remove")] == [
        "evidence", "erase", "create", "start", "import", "load",
        "tag", "save", "rmi", "rmi", "rmi", "key",
    ]  # fmt: skip
    assert ops.count("exit") == 2
    assert ops.count("remove") == 3
    assert read_ops(dock, "made")[:2] == ["create", "start"]
    dock("verify", "--all")


def test_what_the_kernel_did_and_what_was_refused_are_leaves(dock: Docklock) -> None:
    """With the test above every operation but those that wait for their commands."""
    fork = "for i in 1 2 3 4 5 6; do sleep 1 & done"
    dock("run", "--rm", "--pids-limit", "4", "busybox", "sh", "-c", fork, code=None)
    eat = "x=a; while true; do x=$x$x; done"
    dock("run", "--rm", "-m", "16m", "busybox", "sh", "-c", eat, code=137)
    dock("kill", "nobody", code=1)
    dock("run", "-d", "--name", "held", "busybox", "sleep", "60")
    dock("quarantine", "held")
    dock("update", "--policy", "strict", "held")
    dock("rm", "-f", "held")
    with Scripted(take()) as server:
        dock("tag", "busybox", f"{server.domain}/sent")
        dock("push", f"{server.domain}/sent")
    files = build_layout([build_tar(build_member("f"))], gzip.compress)
    with Scripted(serve_layout(files)) as server:
        dock("pull", f"{server.domain}/fetched")
        dock("rmi", f"{server.domain}/fetched")
    waiting = {"alert", "mount", "network", "fork", "register"}
    assert set(OPERATIONS) - waiting <= set(read_ops(dock))


def test_receipts_of_a_removed_container_stay_by_name_and_id(dock: Docklock) -> None:
    dock("run", "--name", "gone", "busybox", "true")
    container_id = str(dock.inspect("gone")["Id"])
    receipts = dock.receipts("gone")
    dock("rm", "gone")
    for reference in ("gone", container_id, container_id[:20]):
        assert dock.receipts(reference) == receipts
        assert read_ops(dock, reference)[-1] == "remove"


def test_the_guard_alone_has_the_epochs_key(dock: Docklock) -> None:
    dock("run", "-d", "--name", "live", "busybox", "sleep", "60")
    dock("exec", "live", "true")
    guard = dock.supervisor_pid("live")
    dock("verify", "live")  # all is durable; its leaves follow, and the host's key with them
    dock.wait_for(lambda: read_ops(dock, "--op", "segment", "live"))
    dock.wait_for(lambda: len(find_secrets(guard)) == 1)
    (secret,) = find_secrets(guard).values()
    host = (dock.root / "keys/host.key").read_bytes()[-32:]
    assert count_in_memory(guard, secret) == 1
    assert count_in_memory(guard, host) == 0
    assert find_in_files(dock.root, secret) == []
    others = get_children(guard)
    assert others
    for pid in others:
        assert get_guarded(pid) == []
        assert count_in_memory(pid, secret) == count_in_memory(pid, host) == 0
    dock("rm", "-f", "live")


def test_a_container_lives_on_while_the_hosts_key_changes(dock: Docklock) -> None:
    dock("run", "-d", "--name", "steady", "busybox", "sleep", "60")
    before = json.loads(dock("keys", "show", "--format", "json").stdout)
    dock("keys", "rotate")
    dock("exec", "steady", "true")
    after = json.loads(dock("keys", "revoke", "--format", "json").stdout)
    assert (before["fingerprint"], before["number"] + 2) == (after["fingerprint"], after["number"])
    dock("verify", "steady")
    dock("stop", "-t", "0", "steady")
    dock("verify", "steady")
    dock("verify", "--all")
    assert read_ops(dock, "steady")[-1] == "exit"
    assert dock("keys", "show").stdout.count("revoked from leaf") == 1
    dock("rm", "steady")


def test_a_command_that_cannot_sign_says_so_and_waits_for_nobody(
    need_root: None, busybox_tree: Path, tmp_path: Path
) -> None:
    """A shell without the credential that the host's key is sealed with; the guard goes on."""
    credential = tmp_path / "credentials/docklock-host-key"
    credential.parent.mkdir()
    credential.write_bytes(bytes(range(64)))
    sealed, bare = Docklock(tmp_path / "root"), Docklock(tmp_path / "root")
    sealed.environment["CREDENTIALS_DIRECTORY"] = str(credential.parent)
    sealed("import", str(busybox_tree), "busybox")
    sealed("run", "-d", "--name", "held", "busybox", "sleep", "600")
    for words in (("stop", "-t", "0", "held"), ("kill", "held"), ("exec", "held", "true")):
        assert "LoadCredentialEncrypted" in bare(*words, code=None).stderr, words
    assert sealed.inspect("held")["State"]["Status"] == "running"  # type: ignore[index]
    credential.unlink()  # its unit has ended
    sealed.wait_for(lambda: sealed.supervisor_pid("held"))
    os.kill(int(sealed.inspect("held")["State"]["Pid"]), signal.SIGKILL)  # type: ignore[index]
    sealed("wait", "held")
    assert "run 0 closed" in sealed("verify", "held").stdout
    credential.write_bytes(bytes(range(64)))
    sealed("rm", "held")
