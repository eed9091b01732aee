"""An auditor with a key of its own and public keys: two hosts' receipts, found, fetched, proven.

What is verified is verified on a machine that has neither the server's store nor a host's key.
"""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from docklock.paths import get_paths
from tests.e2e.conftest import Docklock
from tests.evidence.recording import make_id, record

LIMIT_S = 20


class Server(NamedTuple):
    """`docklock bpci serve`, and how hosts and auditors name it."""

    dock: Docklock
    directory: Path
    url: str
    keys: Path

    def grant(self, key: str, to: Path, *words: str) -> str:
        words = ("bpci", "grant", "--tenant", "acme", *words, str(self.directory), key, str(to))
        self.dock(*words)
        return str(to)

    def enrol_host(self, host: Docklock) -> str:
        """The file that names the server to the host's own commands."""
        config = host.root.parent / f"{host.root.name}.toml"
        keys = ", ".join(json.dumps(line) for line in self.keys.read_text().splitlines())
        config.write_text(f'[[server]]\nname = "office"\nurl = "{self.url}"\nkeys = [{keys}]\n')
        host("keys", "init")
        shown = json.loads(host("keys", "show", "--format", "json").stdout)
        grant = self.grant(shown["verifier"], config.with_suffix(".grant"))
        host("sync", "enrol", "--config", str(config), "office", grant)
        return str(config)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{found.getsockname()[1]}"
    dock, keys = Docklock(tmp_path / "operator"), tmp_path / "server.keys"
    directory = tmp_path / "bpci"
    keys.write_text(dock("bpci", "init", str(directory)).stdout)
    argv = dock.argv("bpci", "serve", str(directory), "--listen", place)
    process = subprocess.Popen(argv, env=dock.environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"serving on http://{place}\n"
        yield Server(dock, directory, f"http://{place}", keys)
        process.terminate()
        assert process.wait(LIMIT_S) == 0
    finally:
        process.kill()
        process.wait(LIMIT_S)
        process.stdout.close()


class Auditor(NamedTuple):
    """A member's commands at the server."""

    dock: Docklock
    call: tuple[str, ...]

    def __call__(self, verb: str, *words: str, code: int = 0) -> str:
        return self.dock("audit", verb, *self.call, *words, code=code).stdout

    def ask(self, verb: str, *words: str) -> dict[str, Any]:
        return dict(json.loads(self(verb, "--format", "json", *words)))


def enrol(server: Server, role: str, root: Path) -> Auditor:
    dock, key = Docklock(root), root.parent / f"{root.name}.key"
    public = dock("audit", "key", str(key)).stdout.strip()
    assert dock("audit", "key", str(key)).stdout.strip() == public
    grant = server.grant(public, key.with_suffix(".grant"), "--role", role)
    place = ("--server", server.url, "--server-key", str(server.keys))
    dock("audit", "enrol", *place, grant)
    return Auditor(dock, (*place, "--key", str(key)))


def test_an_auditor_with_public_keys_alone_proves_what_two_hosts_did(
    dock: Docklock, server: Server, busybox_tree: Path, tmp_path: Path
) -> None:
    second = Docklock(tmp_path / "second")
    second("import", str(busybox_tree), "busybox")
    configs = {host: server.enrol_host(host) for host in (dock, second)}
    since = str(time.time())
    dock("run", "--name", "web", "busybox", "cat", "/etc/passwd")
    second("run", "--name", "db", "busybox", "ls", "/etc")
    for host, config in configs.items():
        host("sync", "now", "--config", config)
    auditor = enrol(server, "auditor", tmp_path / "auditor")

    found = auditor.ask("search", "--syscall", "execve")
    assert found["proven"] is False
    shown = [one["receipt"] for one in found["receipts"]]
    assert {one["app"] for one in shown} == {"web", "db"}
    one = next(one for one in shown if one["app"] == "web")
    assert auditor("search", "--path", "/bin/cat", "--from", since).count(" 0:") >= 1
    assert "not proven" in auditor("search")
    assert auditor.ask("alerts") == {"alerts": [], "proofs": []}

    # fetched; then verified where nothing but public keys is
    files = {name: tmp_path / name for name in ("range", "export", "own")}
    hosts = [str(host.root / "keys/host.pub") for host in configs]
    named = [word for path in hosts for word in ("--host-key", path)]
    words = ("--run", "0", "--first", one["index"], "--last", one["index"])
    said = auditor("range", "web", *words, "-o", str(files["range"]), *named)
    assert said.startswith("whole: sealed by server ")
    auditor("export", "-o", str(files["export"]), "--from", since, code=4)
    operator = server.dock
    words = ("bpci", "export", "--tenant", "acme", str(server.directory), str(files["own"]))
    operator(*words)
    for path in hosts:
        shutil.copy(path, tmp_path / f"public{hosts.index(path)}")
    keys = [f"--host-key={tmp_path}/public{number}" for number in range(2)]
    third = Docklock(tmp_path / "third")
    trust = (*keys, "--log-key", str(server.keys))
    for name, path in files.items():
        report = json.loads(third("verify", str(path), "--json", *trust).stdout)
        assert report["trusted"] and report["ok"], name
        runs = [run for host in report["hosts"] for run in host["runs"]]
        assert {run["app"] for run in runs} == ({"web"} if name == "range" else {"web", "db"})
    assert "UNTRUSTED" in third("verify", str(files["own"]), *trust[1:], code=4).stdout
    assert "UNTRUSTED" in third("verify", str(files["own"]), *keys, code=4).stdout
    whole = files["own"].read_bytes()
    rng = random.Random(7)
    for at in (100, len(whole) // 2, len(whole) - 5, rng.randrange(len(whole))):
        spoilt = bytearray(whole)
        spoilt[at] ^= 1
        (tmp_path / "spoilt").write_bytes(spoilt)
        said = third("verify", str(tmp_path / "spoilt"), *trust, code=3).stdout
        assert said.startswith("TAMPERED: ")

    # a reader sees no value; a stranger, and who was revoked, nothing
    reader = enrol(server, "reader", tmp_path / "reader")
    assert all("values" not in one for one in reader.ask("search")["receipts"])
    reader("search", "--path", "/bin/cat", code=1)
    reader("export", "-o", str(tmp_path / "none"), code=1)
    assert not (tmp_path / "none").exists()
    auditor("range", "nothing", "-o", str(tmp_path / "none"), code=1)
    auditor("range", "web", "--first", "1", "-o", str(tmp_path / "none"), code=2)
    public = operator("audit", "key", auditor.call[-1]).stdout.strip()
    operator("bpci", "revoke", str(server.directory), public)
    auditor("search", code=1)
    dock("rm", "web")
    second("rm", "db")


def test_a_fork_is_listed_and_its_file_convicts_anywhere(server: Server, tmp_path: Path) -> None:
    host, other = Docklock(tmp_path / "host"), Docklock(tmp_path / "other")
    record(get_paths(str(host.root)), make_id(1), count=3)
    config = server.enrol_host(host)
    host("sync", "now", "--config", config)
    shutil.copytree(host.root, other.root)  # as of a machine that was put back
    record(get_paths(str(host.root)), make_id(2), count=3)
    host("sync", "now", "--config", config)
    for number in (3, 4):
        record(get_paths(str(other.root)), make_id(number), count=2)
    assert other("sync", "now", "--config", config, code=None).returncode != 0
    auditor = enrol(server, "auditor", tmp_path / "auditor")
    [alert] = auditor.ask("alerts")["alerts"]
    assert (alert["kind"], alert["first"]) == ("fork", None)
    said = auditor("alerts", "--lag", "0", "--proofs", str(tmp_path / "proofs"))
    assert "(proven)" in said and "lag" in said
    [proof] = list((tmp_path / "proofs").iterdir())
    third = Docklock(tmp_path / "third")
    assert third("verify", str(proof), code=3).stdout.startswith("FORKED: ")
    server.dock("bpci", "audit", str(server.directory))


def test_what_cannot_be_asked_is_said(tmp_path: Path) -> None:
    dock, keys = Docklock(tmp_path / "root"), tmp_path / "keys"
    keys.write_text("x")
    key = tmp_path / "member.key"
    dock("audit", "key", str(key))
    here = ("--server", "http://127.0.0.1:1", "--server-key", str(keys), "--key", str(key))
    for words, code, said in (
        (("audit",), 2, "verbs are key, enrol"),
        (("audit", "serch"), 2, "search"),
        (("audit", "search"), 2, "--server"),
        (("audit", "search", "--server", "http://x"), 2, "--server-key"),
        (("audit", "search", *here), 2, "log-key"),
        (("audit", "search", "--limit", "0", *here), 2, "--limit"),
        (("audit", "search", "--from", "x", *here), 2, "--from x"),
        (("audit", "search", "--host", "x", *here), 2, "64 hex digits"),
        (("audit", "range", "web"), 2, "--server"),
        (("bpci", "export", str(tmp_path), "x"), 2, "--tenant"),
    ):
        done = dock(*words, code=None)
        assert (done.returncode, said in done.stderr) == (code, True), (words, done.stderr)
    keys.write_text(dock("bpci", "init", str(tmp_path / "bpci")).stdout)
    dock("audit", "search", *here, code=1)  # nobody listens there
    dock("audit", "range", "web", *here, code=2)  # no file is named
    dock("bpci", "export", "--tenant", "x", str(tmp_path / "bpci"), str(tmp_path / "f"), code=1)
    assert not (tmp_path / "f").exists()
