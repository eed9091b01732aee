"""When a server is sent to: as the log grows, when it said, later and later while it is away."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from chainlite.errors import PeerError, StateError, TamperError
from docklock.outbox import backoff, sending
from docklock.outbox.backoff import note_failure
from docklock.outbox.checking import Contradicted
from docklock.outbox.door import Busy, HttpDoor
from docklock.outbox.following import LOOK_S, follow, settle
from docklock.outbox.sending import Outbox, Outcome
from docklock.outbox.sent import AWAY, BUSY, CONTRADICTED, TAMPERED, WELL, Sent, Standing
from docklock.paths import Paths
from tests.evidence.logs import grow
from tests.evidence.recording import make_id, make_paths, record
from tests.ledger.offered import get_size, make_host
from tests.outbox.sends import check_alike, get_host, get_standing, make_synced
from tests.outbox.servers import Answer, BooksServer, Request

WAIT_S = 20.0


def compute_wait_s(before: Standing, error: Exception) -> float:
    assert isinstance(error, StateError | PeerError | TamperError)
    after = note_failure(before, error, 1_000_000)
    assert after.failures == before.failures + 1 and after.trouble == str(error)
    return (after.next_ms - after.tried_ms) / 1000


def test_waits_double_up_to_a_limit_and_no_two_hosts_wait_alike() -> None:
    waits = [
        compute_wait_s(Standing(failures=failures), StateError("away")) for failures in range(40)
    ]
    for failures, wait_s in enumerate(waits):
        least = min(backoff.BACKOFF_MIN_S * 2**failures, backoff.BACKOFF_MAX_S)
        assert least <= wait_s <= least * (1 + backoff.JITTER)
    many = {compute_wait_s(Standing(failures=9), StateError("away")) for _ in range(50)}
    assert len(many) > 25


def test_a_server_is_not_asked_before_it_said_and_not_never() -> None:
    assert 70 <= compute_wait_s(Standing(), Busy("busy", 70)) <= 70 * (1 + backoff.JITTER)
    most = backoff.RETRY_AFTER_MAX_S
    assert most <= compute_wait_s(Standing(), Busy("busy", 1e8)) <= most * (1 + backoff.JITTER)
    assert 1 <= compute_wait_s(Standing(), Busy("busy", 0)) <= 1 + backoff.JITTER
    assert compute_wait_s(Standing(), PeerError("no")) >= backoff.REFUSED_AGAIN_S


def test_what_cannot_be_true_is_not_tried_again_by_itself() -> None:
    after = note_failure(Standing(), Contradicted("two roots", b"a", b"b"), 5)
    assert (after.state, after.next_ms) == (CONTRADICTED, 0)
    assert note_failure(Standing(), TamperError("a file is gone"), 5).state == TAMPERED


class Following:
    """`sync run --follow` in this process, until the block ends."""

    def __init__(self, paths: Paths, *servers: BooksServer) -> None:
        self._paths, self.said = paths, list[tuple[str, str]]()
        self.outbox = Outbox(paths, [one.settings for one in servers], HttpDoor)

    async def __aenter__(self) -> Self:
        run = follow(
            self._paths, self.outbox, 0, lambda server, text: self.said.append((server.name, text))
        )
        self._task = asyncio.ensure_future(run)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.outbox.close()

    async def wait(self, what: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not what():
                assert not self._task.done(), self._task
                await asyncio.sleep(0.02)


def test_what_is_logged_is_sent_as_it_comes(tmp_path: Path, server: BooksServer) -> None:
    paths = make_paths(tmp_path)

    async def run() -> None:
        async with Following(paths, server) as following:
            for number in range(1, 5):
                record(paths, make_id(number))
                size = get_size(paths)
                await following.wait(
                    lambda size=size: server.books.get_size(get_host(paths)) == size
                )  # type: ignore[misc]

    asyncio.run(run())
    check_alike(paths, server)


def test_at_rest_nothing_is_sent(tmp_path: Path, server: BooksServer) -> None:
    paths = make_host(tmp_path)

    async def run() -> None:
        async with Following(paths, server) as following:
            await following.wait(lambda: get_standing(paths, server).size == get_size(paths))
            count = len(server.requests)
            await asyncio.sleep(5 * LOOK_S)
            assert len(server.requests) == count

    asyncio.run(run())


def test_a_log_that_is_not_there_or_empty_is_waited_for(
    tmp_path: Path, server: BooksServer
) -> None:
    paths = make_paths(tmp_path)

    async def run() -> None:
        async with Following(paths, server) as following:
            await asyncio.sleep(2 * LOOK_S)
            grow(paths, 3)
            await following.wait(lambda: server.books.get_size(get_host(paths)) >= 5)

    asyncio.run(run())


def test_a_server_that_comes_back_gets_what_it_missed(
    tmp_path: Path, server: BooksServer, other: BooksServer
) -> None:
    paths = make_host(tmp_path)
    server.stop()

    async def run() -> None:
        async with Following(paths, server, other) as following:
            await following.wait(lambda: get_standing(paths, other).size == get_size(paths))
            await following.wait(lambda: get_standing(paths, server).failures > 0)
            grow(paths, 10)
            await following.wait(lambda: get_standing(paths, other).size == get_size(paths))
            server.start()
            await following.wait(lambda: get_standing(paths, server).size == get_size(paths))
            assert get_standing(paths, server).state == WELL
            assert any(name == "office" and text for name, text in following.said)

    asyncio.run(run())
    check_alike(paths, server)


def test_a_busy_server_is_left_alone_as_long_as_it_said(
    tmp_path: Path, server: BooksServer
) -> None:
    paths = make_host(tmp_path)
    asked_at: list[float] = []

    def act(_: Request) -> Answer | None:
        asked_at.append(time.monotonic())
        return (429, b"slowly", {"Retry-After": "1"}) if len(asked_at) == 1 else None

    server.act = act

    async def run() -> None:
        async with Following(paths, server) as following:
            await following.wait(lambda: get_standing(paths, server).state == BUSY)
            grow(paths, 10)  # is no reason to come sooner
            await following.wait(lambda: get_standing(paths, server).size == get_size(paths))

    asyncio.run(run())
    assert asked_at[1] - asked_at[0] >= 1.0


def test_a_server_that_contradicted_itself_is_asked_no_more(
    tmp_path: Path, server: BooksServer, other: BooksServer
) -> None:
    paths = make_host(tmp_path)
    with Sent(paths) as sent:
        sent.put_standing(server.books.origin, Standing(trouble="x", state=CONTRADICTED))

    async def run() -> None:
        async with Following(paths, server, other) as following:
            await following.wait(lambda: get_standing(paths, other).size == get_size(paths))
            await asyncio.sleep(2 * LOOK_S)

    asyncio.run(run())
    assert not server.requests


def settle_now(paths: Paths, *servers: BooksServer) -> list[Outcome]:
    outbox = Outbox(paths, [one.settings for one in servers], HttpDoor)

    async def run() -> list[Outcome]:
        try:
            return await settle(outbox)
        finally:
            outbox.close()

    return asyncio.run(run())


def test_now_waits_for_a_busy_server_and_not_for_ever(tmp_path: Path, server: BooksServer) -> None:
    paths = make_host(tmp_path)
    count = 0

    def act(_: Request) -> Answer | None:
        nonlocal count
        count += 1
        return (503, b"", {"Retry-After": "1"}) if count < 3 else None

    server.act = act
    [outcome] = settle_now(paths, server)
    assert outcome.error is None and not outcome.is_due and count >= 3
    record(paths, make_id(5))
    server.act = lambda _: (503, b"later", {"Retry-After": "3000"})
    [outcome] = settle_now(paths, server)
    assert outcome.is_due and outcome.standing.state == BUSY
    server.requests.clear()
    [outcome] = settle_now(paths, server)  # also the next process does as it was told
    assert outcome.is_due and not server.requests and "later" in str(outcome.error)


def test_now_goes_on_until_all_is_there(tmp_path: Path, server: BooksServer, short: None) -> None:
    paths = make_paths(tmp_path)
    grow(paths, 200)
    [outcome] = settle_now(paths, server)
    assert outcome.error is None and not outcome.is_due
    check_alike(paths, server)


def test_two_processes_at_once_send_nothing_twice(
    tmp_path: Path, server: BooksServer, small: None
) -> None:
    """Each waits for its turn, and goes on where the other has stopped."""
    paths = make_synced(tmp_path, server)
    grow(paths, 300)
    server.requests.clear()

    async def run() -> None:
        async with Following(paths, server) as following:
            second = Outbox(paths, [server.settings], HttpDoor)
            for _ in range(10):
                assert (await second.run_pass(second.servers[0])).error is None
                grow(paths, random.Random(1).randint(1, 30))
            second.close()
            await following.wait(lambda: get_standing(paths, server).size == get_size(paths))

    asyncio.run(run())
    check_alike(paths, server)
    ranges = [one for one in server.starts if one != (0, 1)]
    assert [start for start, _ in ranges[1:]] == [end for _, end in ranges[:-1]]
    assert server.under_way_most == 1


def test_it_ends_with_its_parent(tmp_path: Path, server: BooksServer) -> None:
    outbox = Outbox(make_host(tmp_path), [server.settings], HttpDoor)
    asyncio.run(follow(make_paths(tmp_path), outbox, os.getpid(), lambda *_: None))
    outbox.close()


def test_a_clock_that_is_set_back_keeps_no_server_waiting(
    tmp_path: Path, server: BooksServer
) -> None:
    paths = make_host(tmp_path)
    ahead_ms = sending.get_now_ms() + 86_400_000
    with Sent(paths) as sent:
        standing = Standing(tried_ms=ahead_ms, next_ms=ahead_ms + 1000, failures=1, state=AWAY)
        sent.put_standing(server.books.origin, standing)

    async def run() -> None:
        async with Following(paths, server) as following:
            await following.wait(lambda: get_standing(paths, server).size == get_size(paths))

    asyncio.run(run())
