"""Through the command line: what was done on this host is on record, and whose key says so."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.conftest import Docklock
from tests.memory import count_in_memory, find_in_files, find_secrets, get_guarded


def read_ops(dock: Docklock, *words: str) -> list[str]:
    """The operations on record, oldest first; starts and exits too."""
    lines = dock("receipts", "--host", "--json", *words).stdout.splitlines()
    return [json.loads(line)["op"] for line in lines]


def get_children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_every_command_that_changes_something_is_a_leaf(dock: Docklock, busybox_tree: Path) -> None:
    before = len(read_ops(dock))
    dock("create", "--name", "made", "busybox", "sleep", "60")
    dock("start", "made")
    dock("exec", "made", "true")
    dock("kill", "-s", "WINCH", "made")
    dock("stop", "-t", "0", "made")
    dock("rm", "made")
    dock("run", "--rm", "busybox", "true")
    dock("import", str(busybox_tree), "other")
    dock("rmi", "other")
    ops = read_ops(dock)[before:]
    assert ops[:5] == ["create", "start", "exec", "signal", "signal"]
    assert "exit" in ops
    assert "remove" in ops
    assert [op for op in ops if op != "remove"][-5:] == [
        "create", "start", "exit", "import", "rmi"
    ]  # fmt: skip
    assert read_ops(dock, "made")[:2] == ["create", "start"]


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
