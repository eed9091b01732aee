"""Three hosts, a server that loses its disk, and an auditor: the whole of it, with real containers.

Agents send by themselves. The server is put back from an older backup; its log is the same log.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from chainlite import checkpoint, cosignature, merkle, note, tlogproof
from chainlite.bpci.own_log import OWNER
from chainlite.bpci.rows import make_reader
from chainlite.bpci.sqlite_store import SqliteStore
from docklock.paths import get_paths
from tests.e2e.agents import Agent
from tests.e2e.conftest import Docklock, find_leaks
from tests.outbox.serving import Serving, run

IN_STEP_S = 120.0


class Host:
    """A docklock with an agent, enrolled at the server."""

    def __init__(self, dock: Docklock, serving: Serving, directory: Path, number: int) -> None:
        self.dock, self.number, self.runs = dock, number, 0
        self.config = serving.write_config(directory / f"agent-{number}.toml")
        serving.enrol(get_paths(str(dock.root)), self.config, directory / f"grant-{number}")

    def run(self) -> None:
        """More evidence."""
        self.runs += 1
        name = f"c{self.number}-{self.runs}"
        self.dock(
            "run", "--name", name, "busybox", "sh", "-c", f"ls /; cat /etc/passwd; echo {name}"
        )

    def read_status(self) -> dict[str, Any]:
        words = ("sync", "status", "--config", self.config, "--format", "json")
        return dict(json.loads(self.dock(*words).stdout)["servers"][0])

    def is_in_step(self) -> bool:
        shown = self.read_status()
        return shown["state"] == "well" and shown["lag_leaves"] == 0


@pytest.fixture
def docks(tmp_path: Path, busybox_tree: Path, need_root: None) -> Iterator[list[Docklock]]:
    made = [Docklock(tmp_path / f"root-{number}") for number in (1, 2, 3)]
    for dock in made:
        dock("import", str(busybox_tree), "busybox")
    yield made
    for dock in made:
        names = dock("ps", "-aq").stdout.split()
        if names:
            dock("rm", "-f", *names)
        dock.wait_for(lambda dock=dock: not find_leaks(dock.root))  # type: ignore[misc]


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    made = Serving(tmp_path / "server").start()
    try:
        yield made
    finally:
        made.kill()


class Auditor:
    """A member with a key of its own, on a machine that has public keys and nothing else."""

    def __init__(self, serving: Serving, root: Path, keys: Path) -> None:
        self.dock, self._keys = Docklock(root), keys
        key, grant = root.parent / "auditor.key", root.parent / "auditor.grant"
        public = self.dock("audit", "key", str(key)).stdout.strip()
        words = ("--tenant", "acme", "--role", "auditor", serving.directory, public, str(grant))
        run("bpci", "grant", *words)
        place = ("--server", f"http://{serving.place}", "--server-key", str(keys))
        self.dock("audit", "enrol", *place, str(grant))
        self._call = (*place, "--key", str(key))

    def export(self, to: Path) -> None:
        self.dock("audit", "export", *self._call, "-o", str(to), code=4)  # no host's key is named

    def list_proven(self, path: Path, hosts: list[Host]) -> set[str]:
        """The apps of the runs that these hosts have signed, under the server's seal."""
        named = [f"--host-key={host.dock.root}/keys/host.pub" for host in hosts]
        words = ("verify", str(path), "--json", "--log-key", str(self._keys), *named)
        report = json.loads(self.dock(*words).stdout)
        assert report["ok"] and report["trusted"]
        return {run["app"] for host in report["hosts"] for run in host["runs"]}


def wait_in_step(hosts: list[Host]) -> None:
    for host in hosts:
        host.dock.wait_for(host.is_in_step, IN_STEP_S)


def test_three_hosts_bring_a_lost_server_in_step_and_an_auditor_verifies_it(
    docks: list[Docklock], serving: Serving, tmp_path: Path
) -> None:
    copy, old, keys = tmp_path / "backup", tmp_path / "old.tlog-proof", tmp_path / "server.keys"
    keys.write_text("\n".join(serving.keys))
    hosts = [Host(dock, serving, tmp_path, number) for number, dock in enumerate(docks[:2], 1)]
    with ExitStack() as agents:
        for host in hosts:
            agents.enter_context(Agent(host.dock, "--config", host.config))
            host.run()
        wait_in_step(hosts)
        words = ("sync", "proof", "office", "--config", hosts[0].config)
        docks[0](*words, "-o", str(old))
        auditor = Auditor(serving, tmp_path / "auditor", keys)
        run("bpci", "backup", serving.directory, str(copy))
        hosts.append(Host(docks[2], serving, tmp_path, 3))  # after the backup
        agents.enter_context(Agent(docks[2], "--config", hosts[2].config))
        for host in hosts:
            host.run()
        wait_in_step(hosts)
        last = tmp_path / "last.tlog-proof"
        docks[0](*words, "-o", str(last))
        before = serving.get_state()
        auditor.export(tmp_path / "last-week")
        serving.lose(copy)
        assert serving.get_state().size < before.size
        for host in hosts:
            host.run()
        wait_in_step(hosts)
    newest = serving.get_state()
    assert newest.size > before.size and serving.get("/readyz")[0] == 200
    log_keys = tuple([note.parse_vkey(line, "key") for line in serving.keys])
    with SqliteStore(serving.directory, is_writer=False) as store:
        read = make_reader(store, OWNER, {})
        seen = [tlogproof.parse_log_proof(path.read_bytes()).note for path in (old, last)]
        for one in [*[cosignature.check_checkpoint(each, log_keys) for each in seen], before]:
            proof = merkle.compute_consistency(one.size, newest.size, read)
            assert merkle.is_consistent(one.size, newest.size, proof, one.root, newest.root)
    assert checkpoint.parse_claim(seen[0]).size < checkpoint.parse_claim(seen[1]).size
    assert [host.read_status()["contradictions"] for host in hosts] == [0, 0, 0]
    assert "whole" in run("bpci", "audit", serving.directory)
    for path in (old, last):
        assert "whole" in auditor.dock("verify", str(path), "--log-key", str(keys)).stdout
    auditor.export(tmp_path / "now")
    serving.kill()  # what follows needs nobody
    ran = {f"c{host.number}-{number}" for host in hosts for number in range(1, host.runs + 1)}
    shown = auditor.list_proven(tmp_path / "now", hosts)
    assert shown == ran
    newer = {f"c{host.number}-{host.runs}" for host in hosts}
    assert auditor.list_proven(tmp_path / "last-week", hosts) == ran - newer
