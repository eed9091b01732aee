"""kill -9 of the sender and of the server at random points: nothing is lost, nothing is made up."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path

from docklock.evidence.host_log import HostLog
from docklock.outbox.sent import Sent
from docklock.paths import Paths
from tests.evidence.logs import grow
from tests.evidence.recording import make_id, make_paths, record
from tests.ledger.offered import get_size
from tests.outbox.sends import check_alike, get_host, run_pass, start_sync, write_config
from tests.outbox.servers import CUT, Books, BooksServer, Request

FULL = os.environ.get("DOCKLOCK_TEST_FULL") == "1"
KILLS = 200 if FULL else 12
SERVER_KILLS = 200 if FULL else 25
BEFORE, TAKEN, ANSWERED = range(3)


def check_acknowledged(paths: Paths, server: BooksServer) -> int:
    """What is written down is true of the log and of the server, whenever somebody died."""
    host = get_host(paths)
    with Sent(paths) as sent, HostLog(paths, None) as log:
        standing = sent.get_standing(server.books.origin)
        assert standing.size <= server.books.get_size(host) <= log.get_size()
        if standing.size:
            assert standing.root == log.compute_root(standing.size)
            assert sent.get_acknowledgements(server.books.origin, 1)
        assert sent.get_contradictions(server.books.origin) == []
    return standing.size


def add(paths: Paths, number: int, rng: random.Random) -> None:
    record(paths, make_id(number), count=rng.randint(1, 200))
    grow(paths, rng.randint(1, 40))


def test_a_sender_that_is_killed_anywhere_is_gone_on_with(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    paths = make_paths(tmp_path)
    with BooksServer(Books()) as server:
        config = write_config(tmp_path / "agent.toml", server)
        for number in range(1, KILLS + 1):
            add(paths, number, rng)
            kill_one(paths, server, config, rng)
            check_acknowledged(paths, server)
        assert run_pass(paths, server).error is None
        check_alike(paths, server)
        assert check_acknowledged(paths, server) == get_size(paths)


def kill_one(paths: Paths, server: BooksServer, config: str, rng: random.Random) -> None:
    """Let a sender run up to a request, and kill it before, in or after the server's work."""
    reached = threading.Event()
    point, delay_s = rng.choice((BEFORE, TAKEN, ANSWERED)), rng.uniform(0, 0.02)
    process = start_sync(paths, "run", "--follow", "--config", config)

    def act(request: Request) -> str | None:
        if point == BEFORE:
            process.kill()
            return CUT
        if point == TAKEN:
            server.books.take_request(request)
            process.kill()
            return CUT
        reached.set()
        return None

    server.act = act
    if point == ANSWERED:
        assert reached.wait(30), process.communicate()
        time.sleep(delay_s)  # a point in time is what is wanted
        process.kill()
    assert process.wait(30) == -signal.SIGKILL
    process.communicate()
    server.act = None


def test_a_server_that_is_killed_anywhere_gets_all(tmp_path: Path, seed: int, small: None) -> None:
    """Between its work and its answer too, and in the middle of a batch."""
    rng = random.Random(seed + 1)
    paths = make_paths(tmp_path)
    with BooksServer(Books()) as server:
        kills = 0
        for number in range(1, 1000):
            if kills >= SERVER_KILLS:
                break
            add(paths, number, rng)
            kills += run_with_kills(paths, server, rng)
        server.act, server.cut_body_at = None, None
        assert run_pass(paths, server).error is None
        check_alike(paths, server)
        assert check_acknowledged(paths, server) == get_size(paths)


def run_with_kills(paths: Paths, server: BooksServer, rng: random.Random) -> int:
    """Passes until the server has all; how often it died."""
    kills = 0

    def act(request: Request) -> str | None:
        nonlocal kills
        dice = rng.random()
        if dice > 0.3:
            return None
        kills += 1
        if dice < 0.15:
            server.books.take_request(request)
        return CUT

    server.act = act
    for _ in range(200):
        server.cut_body_at = rng.randint(0, 2000) if rng.random() < 0.2 else None
        outcome = run_pass(paths, server)
        check_acknowledged(paths, server)
        if outcome.error is None and not outcome.is_due:
            return kills
        if rng.random() < 0.3:
            server.stop()
            server.start()
    raise AssertionError("it never got all")
