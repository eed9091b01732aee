"""kill -9 of sender and server, and lines that break, at seeded bytes: nothing is lost or forked.

Real processes over real sockets. The point is a number of bytes that have passed between them, in
either direction; the server is also killed while it is brought in step after the loss of its disk.
"""

from __future__ import annotations

import random
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainlite import checkpoint, note, tlogproof
from chainlite.bpci.acknowledgement import verify_acknowledgement
from chainlite.bpci.sqlite_store import SqliteStore
from docklock.evidence.host_log import HostLog
from docklock.outbox.sent import Sent
from docklock.paths import Paths
from tests.evidence.logs import grow
from tests.evidence.recording import make_id, make_paths, record
from tests.ledger.offered import get_size
from tests.outbox.proxy import DOWN, UP, Break, Proxy
from tests.outbox.sends import get_host, start_sync
from tests.outbox.serving import Serving, run

POINTS, POINTS_SLICE = 200, 12
LOSSES_EVERY = 6
TRIES_MAX = 40
WAITS_S = 4.0


class Line:
    """Two hosts, a server that may die, the line between them, and all that the server has said."""

    def __init__(self, directory: Path, rng: random.Random) -> None:
        self.directory, self.rng = directory, rng
        self.serving = Serving(directory / "server").start()
        self.proxy = Proxy(int(self.serving.place.rpartition(":")[2]))
        self.origin = note.parse_vkey(self.serving.keys[0], "key").name
        self.keys = tuple([note.parse_vkey(one, "key") for one in self.serving.keys])
        self.is_up, self.checkpoints = True, dict[int, bytes]()
        self.hosts: list[Paths] = []
        self._containers, self._turn = 0, threading.Lock()

    def begin(self) -> None:
        direct = self.serving.write_config(self.directory / "direct.toml")
        for number in (1, 2):
            paths = make_paths(self.directory / f"host-{number}")
            self.add(paths)
            self.serving.enrol(paths, direct, self.directory / f"grant-{number}")
            self.hosts.append(paths)
        text = Path(direct).read_text()
        self.config = str(self.directory / "agent.toml")
        place = self.serving.place
        name = f"127.0.0.1:{self.proxy.port}"
        Path(self.config).write_text(text.replace(place, name))
        self.serving.names = (place, name)
        self.kill_server()

    def add(self, paths: Paths) -> None:
        self._containers += 1
        record(paths, make_id(self._containers), count=self.rng.randint(1, 60))
        grow(paths, self.rng.randint(1, 5))

    def kill_server(self) -> None:
        with self._turn:
            if self.is_up:
                self.is_up = False
                self.serving.kill()
                self.proxy.cut()

    def ensure_server(self) -> None:
        with self._turn:
            if not self.is_up:
                self.serving.start()
                self.is_up = True

    def strike(self, paths: Paths) -> None:
        """Send until a point, and there kill either end, both, or the line alone."""
        rng = self.rng
        what = rng.choice(("line", "server", "sender", "both"))
        after = int(2 ** rng.uniform(0, 15 if rng.random() < 0.7 else 11))

        def act() -> None:
            if what in ("sender", "both"):
                process.kill()
            if what in ("server", "both"):
                self.kill_server()

        process = start_sync(paths, "run", "--config", self.config)
        self.proxy.set_break(Break(rng.choice((UP, DOWN)), after, act))
        try:
            process.communicate(timeout=WAITS_S)
        except subprocess.TimeoutExpired:  # it waits for a server in restore
            process.kill()
            process.communicate()
        self.proxy.set_break(None)

    def settle(self) -> None:
        """Nothing breaks, and everybody has all."""
        self.ensure_server()
        for _ in range(TRIES_MAX):
            senders = [start_sync(one, "run", "--config", self.config) for one in self.hosts]
            for sender in senders:
                sender.communicate(timeout=90)
            if [sender.returncode for sender in senders] == [0, 0]:
                return
        raise AssertionError(self.serving.get("/readyz"))

    def check(self) -> None:
        """What was said is true, whoever died; what is served only grows."""
        served = self.serving.get_state() if self.is_up else None
        with SqliteStore(self.serving.directory, is_writer=False) as store:
            _, newest = store.find_log()
            held = {row.host: row.size for row in store.read_hosts(b"", 9)}
        state = checkpoint.parse_claim(newest)
        assert served is None or served.size <= state.size
        self.checkpoints[state.size] = state.root
        for paths in self.hosts:
            with Sent(paths) as sent, HostLog(paths, None) as log:
                standing = sent.get_standing(self.origin)
                assert sent.get_contradictions(self.origin) == []
                assert standing.size <= log.get_size()
                if standing.size:
                    assert standing.root == log.compute_root(standing.size)
                for data in sent.get_acknowledgements(self.origin, 1000):
                    made = verify_acknowledgement(data, self.keys, get_host(paths))
                    said = checkpoint.parse_claim(tlogproof.parse_log_proof(made.proof).note)
                    assert self.checkpoints.setdefault(said.size, said.root) == said.root
                    assert self.is_restoring() or made.held.size <= held[get_host(paths)]
        if not self.is_restoring():
            assert state.size == max(self.checkpoints)
            for size, root in self.checkpoints.items():
                assert self.serving.compute_root(size) == root

    def is_restoring(self) -> bool:
        return Path(self.serving.directory, "restoring").exists()


@pytest.fixture
def line(tmp_path: Path, seed: int) -> Iterator[Line]:
    made = Line(tmp_path, random.Random(seed))
    with made.proxy:
        try:
            made.begin()
            yield made
        finally:
            made.kill_server()


def test_whoever_is_killed_wherever_nothing_acknowledged_is_lost(line: Line, full: bool) -> None:
    points, rounds = POINTS if full else POINTS_SLICE, 0
    while line.proxy.breaks < points:
        rounds += 1
        paths = line.rng.choice(line.hosts)
        line.add(paths)
        line.ensure_server()
        line.strike(paths)
        line.check()
        if rounds % 5 == 0:
            line.settle()
            line.check()
        assert rounds < 10 * points
    line.settle()
    line.check()
    line.kill_server()
    assert "whole" in run("bpci", "audit", line.serving.directory)


def test_killed_while_its_log_is_brought_back_it_is_the_same_log(line: Line, full: bool) -> None:
    points, losses, copies = POINTS if full else POINTS_SLICE // 2, 0, 0
    while line.proxy.breaks < points:
        line.settle()
        copies += 1
        copy = line.directory / f"copy-{copies}"
        run("bpci", "backup", line.serving.directory, str(copy))
        for paths in line.hosts:
            line.add(paths)
            line.ensure_server()
            line.strike(paths)
        line.settle()
        line.check()
        for paths in line.hosts:
            line.add(paths)
        line.serving.lose(copy)
        line.is_up, losses = True, losses + 1
        for _ in range(LOSSES_EVERY):
            line.ensure_server()
            line.strike(line.rng.choice(line.hosts))
            line.check()
    line.settle()
    line.check()
    assert losses and not line.is_restoring()
    sizes = [get_size(paths) for paths in line.hosts]
    with SqliteStore(line.serving.directory, is_writer=False) as store:
        held = {row.host: row.size for row in store.read_hosts(b"", 9)}
    assert sorted(held.values()) == sorted(sizes)
    line.kill_server()
    assert "whole" in run("bpci", "audit", line.serving.directory)
