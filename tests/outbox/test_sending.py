"""What goes to servers: everything, once, in order, from where each of them stands."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from pathlib import Path

import pytest

from chainlite.bpci.acknowledgement import Held
from chainlite.errors import SpecError, StateError, TamperError
from docklock.evidence import erasing, offering, rotation
from docklock.outbox import sending
from docklock.outbox.backoff import REFUSED_AGAIN_S
from docklock.outbox.door import HttpDoor
from docklock.outbox.record_file import get_directory
from docklock.outbox.sent import AWAY, REFUSED, TAMPERED, WELL
from tests.evidence.logs import grow
from tests.evidence.recording import append_durably, begin, make_id, make_paths, record
from tests.ledger.offered import get_size, make_host
from tests.outbox.sends import (
    check_alike,
    get_host,
    get_standing,
    make_outbox,
    make_synced,
    run_pass,
    run_passes,
    run_until_all,
)
from tests.outbox.servers import CUT, Books, BooksServer, Request


def test_all_is_sent_with_values_and_secrets_and_acknowledged(
    tmp_path: Path, server: BooksServer
) -> None:
    paths = make_host(tmp_path)
    outcome = run_pass(paths, server)
    size = get_size(paths)
    assert outcome.error is None and not outcome.is_due
    assert (outcome.standing.size, outcome.standing.state) == (size, WELL)
    assert any(one.secret for one in server.books.get_stored(get_host(paths)).values())
    check_alike(paths, server)


def test_no_leaf_but_the_first_is_sent_twice_whoever_sends(
    tmp_path: Path, server: BooksServer, small: None
) -> None:
    paths = make_paths(tmp_path)
    for number in range(1, 12):
        record(paths, make_id(number), count=20)
        assert run_pass(paths, server).error is None
    check_alike(paths, server)
    ranges = [one for one in server.starts if one[0] > 0 or one[1] > 1]
    assert ranges[0][0] == 1
    assert [start for start, _ in ranges[1:]] == [end for _, end in ranges[:-1]]
    assert len(ranges) > 20


def test_a_host_that_has_run_nothing_sends_nothing(tmp_path: Path, server: BooksServer) -> None:
    outcome = run_pass(make_paths(tmp_path), server)
    assert outcome.error is None and not outcome.is_due and not server.requests


def test_after_days_offline_all_goes_in_many_ranges_one_at_a_time(
    tmp_path: Path, server: BooksServer, small: None
) -> None:
    paths = make_paths(tmp_path)
    server.stop()
    for number in range(1, 20):
        record(paths, make_id(number), count=10)
        grow(paths, 20)
    assert run_pass(paths, server).standing.state == AWAY
    server.start()
    assert run_pass(paths, server).error is None
    assert len(server.requests) > 20 and server.under_way_most == 1
    assert max(len(one.data) for one in server.requests) < 12_000
    check_alike(paths, server)


def test_a_pass_that_ends_before_the_log_does_is_gone_on_with(
    tmp_path: Path, server: BooksServer, short: None
) -> None:
    paths = make_paths(tmp_path)
    grow(paths, 300)
    run_until_all(paths, server)
    assert len(server.requests) > 3


def test_an_open_run_a_rotation_and_redacted_values_are_sent(
    tmp_path: Path, server: BooksServer
) -> None:
    paths = make_paths(tmp_path)
    record(paths, make_id(2), count=9)
    erasing.erase_values(paths, make_id(2), frozenset(("argv",)))
    recorder = begin(paths)
    for number in range(4):
        append_durably(recorder, number)
        assert run_pass(paths, server).error is None
    rotation.rotate_host_key(paths)
    append_durably(recorder, 5)
    recorder.close(0)
    assert run_pass(paths, server).error is None
    check_alike(paths, server)
    assert any(one.is_redacted for one in server.books.get_stored(get_host(paths)).values())


def test_a_server_that_begins_anew_under_a_new_key_is_sent_all(
    tmp_path: Path, server: BooksServer
) -> None:
    paths = make_synced(tmp_path, server)
    server.stop()
    server.books = Books(90)
    server.start()
    assert run_pass(paths, server).error is None
    check_alike(paths, server)


def test_a_server_that_lost_this_host_is_sent_all_again(
    tmp_path: Path, server: BooksServer
) -> None:
    """It can acknowledge nothing, so it says so without its signature; its own log goes on."""
    paths = make_synced(tmp_path, server)
    server.books.hosts.clear()
    server.books.items.clear()
    record(paths, make_id(5))
    outcome = run_pass(paths, server)
    assert outcome.error is None and "stood at 1" in outcome.standing.trouble
    check_alike(paths, server)
    assert run_pass(paths, server).standing.trouble == ""


def test_a_server_that_says_elsewhere_to_everything_is_told_of(
    tmp_path: Path, server: BooksServer
) -> None:
    paths = make_synced(tmp_path, server)
    record(paths, make_id(5))
    server.requests.clear()
    server.act = lambda _: (409, b"", {})
    outcome = run_pass(paths, server)
    assert outcome.standing.state == AWAY and "status 409" in outcome.standing.trouble
    assert len(server.requests) == 2


def test_a_restored_server_is_sent_again_from_where_it_stands(
    tmp_path: Path, server: BooksServer
) -> None:
    """Also where the host has nothing new: it asks a server that has all whether it still has."""
    paths = make_synced(tmp_path, server)
    backup, held = server.books.copy(), get_size(paths)
    record(paths, make_id(6))
    run_pass(paths, server)
    server.books, server.requests = backup, []
    outcome = run_pass(paths, server)
    assert outcome.error is None and f"stood at {held}" in outcome.standing.trouble
    assert server.starts == [(0, 1), (held, get_size(paths))]
    assert outcome.standing.most == get_size(paths)
    check_alike(paths, server)


def test_a_restored_server_may_say_again_what_it_said_under_a_smaller_log(
    tmp_path: Path, server: BooksServer
) -> None:
    """Other hosts have not come back to it yet. What it never said it may not say so."""
    paths = make_synced(tmp_path, server)
    backup = server.books.copy()
    server.books.leaves += [Held(b"\x09" * 32, number, bytes(32)) for number in range(20)]
    record(paths, make_id(6))
    most = run_pass(paths, server).standing.size
    server.books, server.cut_after = backup, 1
    outcome = run_pass(paths, server)
    assert outcome.error is not None and outcome.standing.size < most == outcome.standing.most
    server.cut_after = None
    outcome = run_pass(paths, server)
    assert outcome.error is None and "serves a log of" in outcome.standing.trouble
    check_alike(paths, server)


def test_who_lost_the_record_asks_where_the_server_stands(
    tmp_path: Path, server: BooksServer
) -> None:
    paths = make_synced(tmp_path, server)
    shutil.rmtree(get_directory(paths))
    server.requests.clear()
    held = get_size(paths)
    record(paths, make_id(7))
    assert run_pass(paths, server).error is None
    assert server.starts == [(0, 1), (held, get_size(paths))]


def test_one_server_that_is_away_and_one_that_is_slow_hold_up_no_other(
    tmp_path: Path, server: BooksServer, other: BooksServer, small: None
) -> None:
    paths = make_host(tmp_path)
    grow(paths, 200)
    size, host = get_size(paths), get_host(paths)
    done = threading.Event()

    def wait_for_the_other(_: Request) -> None:
        assert done.wait(30), "the other server never got all"

    def tell(request: Request) -> None:
        if request.offer.end == size:
            done.set()

    server.act, other.act = wait_for_the_other, tell
    away = BooksServer(Books(79), "gone")
    slow, quick, gone = run_passes(paths, server, other, away)
    assert slow.error is None and quick.error is None
    assert gone.standing.state == AWAY and isinstance(gone.error, StateError)
    for one in (server, other):
        assert one.books.get_size(host) == size
        check_alike(paths, one)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_connection_cut_in_a_batch_loses_nothing(
    tmp_path: Path, server: BooksServer, share: float
) -> None:
    paths = make_host(tmp_path)
    record(paths, make_id(8), count=3000)
    run_pass(paths, server)
    record(paths, make_id(9), count=3000)
    server.cut_body_at = int(20_000 * share)
    outcome = run_pass(paths, server)
    assert isinstance(outcome.error, StateError) and outcome.is_due
    assert outcome.standing.state == AWAY and outcome.standing.next_ms > outcome.standing.tried_ms
    server.cut_body_at = None
    assert run_pass(paths, server).error is None
    check_alike(paths, server)


def test_a_line_that_is_too_slow_for_a_batch_gets_smaller_ones(
    tmp_path: Path, server: BooksServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not arrive is halved, by this process and by the next; what does lets it grow."""
    most = 20_000
    monkeypatch.setattr(sending, "FILL_MIN_BYTES", 4096)
    monkeypatch.setattr(sending, "BATCH", offering.BATCH._replace(fill_bytes=100_000))
    paths = make_synced(tmp_path, server)
    grow(paths, 1000)
    server.act = lambda request: CUT if len(request.offer_data) > most else None
    failures = 0
    while run_pass(paths, server).error is not None:
        failures += 1
        assert failures < 20
    run_until_all(paths, server, may_fail=True)
    sizes = [len(one.offer_data) for one in server.requests if one.offer.start]
    assert failures >= 3 and max(sizes) > 4 * most
    grow(paths, 1000)
    outbox = make_outbox(paths, server)
    [one] = outbox.servers

    async def run() -> None:
        assert (await outbox.run_pass(one)).error is not None
        assert outbox._get_fill(one) == 50_000
        server.act = None
        assert (await outbox.run_pass(one)).error is None
        assert 50_000 < outbox._get_fill(one) <= 100_000
        outbox.close()

    asyncio.run(run())


def test_an_answer_that_is_lost_after_the_server_took_it_is_no_loss(
    tmp_path: Path, server: BooksServer, small: None
) -> None:
    paths = make_host(tmp_path)
    grow(paths, 100)
    count = 0

    def act(request: Request) -> str | None:
        nonlocal count
        count += 1
        if count % 3 == 0:
            server.books.take_request(request)
            return CUT
        return None

    server.act = act
    run_until_all(paths, server, may_fail=True)
    assert count > 3


def test_a_server_that_takes_nothing_is_told_of_and_not_pressed(
    tmp_path: Path, server: BooksServer
) -> None:
    paths = make_synced(tmp_path, server)
    held = server.books.get_held(get_host(paths))
    record(paths, make_id(3))
    server.requests.clear()
    server.act = lambda _: (200, server.books.acknowledge(held), {})
    outcome = run_pass(paths, server)
    assert "took nothing" in str(outcome.error) and len(server.requests) == 1
    assert outcome.standing.state == AWAY


def test_a_refusal_is_told_with_its_reason_and_others_go_on(
    tmp_path: Path, server: BooksServer, other: BooksServer
) -> None:
    paths = make_host(tmp_path)
    server.act = lambda _: (403, b"this host is \x1b[31mrevoked\n", {})
    refused, well = run_passes(paths, server, other)
    assert refused.standing.state == REFUSED and well.error is None
    assert "status 403: this host is \\x1b[31mrevoked" in refused.standing.trouble
    wait_ms = refused.standing.next_ms - refused.standing.tried_ms
    assert wait_ms >= 1000 * REFUSED_AGAIN_S
    check_alike(paths, other)


def test_a_restored_or_rewritten_host_sends_nothing_and_says_so(
    tmp_path: Path, server: BooksServer
) -> None:
    paths = make_paths(tmp_path)
    record(paths, make_id(1))
    run_pass(paths, server)
    shutil.copytree(paths.state, tmp_path / "old")
    record(paths, make_id(2), count=5)
    run_pass(paths, server)
    old = paths._replace(state=str(tmp_path / "old"))
    shutil.copytree(get_directory(paths), get_directory(old), dirs_exist_ok=True)
    server.requests.clear()
    outcome = run_pass(old, server)
    assert isinstance(outcome.error, TamperError) and "cut, restored or rewritten" in str(
        outcome.error
    )
    assert outcome.standing.state == TAMPERED and not server.requests
    grow(old, 50)
    outcome = run_pass(old, server)
    assert isinstance(outcome.error, TamperError) and not server.requests


def test_evidence_that_is_gone_from_this_host_stops_the_pass(
    tmp_path: Path, server: BooksServer
) -> None:
    paths = make_paths(tmp_path)
    for number in (1, 2, 3):
        record(paths, make_id(number), count=4)
    for path in Path(paths.evidence).glob(f"{make_id(2)}.db*"):
        path.unlink()
    outcome = run_pass(paths, server)
    assert isinstance(outcome.error, TamperError) and make_id(2)[:12] in str(outcome.error)
    assert outcome.standing.state == TAMPERED


def test_nothing_of_what_is_sent_stays_in_memory(
    tmp_path: Path, server: BooksServer, other: BooksServer
) -> None:
    paths = make_host(tmp_path)
    outbox = sending.Outbox(paths, [server.settings, other.settings], HttpDoor)

    async def run() -> None:
        for one in outbox.servers:
            assert (await outbox.run_pass(one)).error is None
        grow(paths, 20)
        server.act = lambda _: CUT
        assert (await outbox.run_pass(outbox.servers[0])).error is not None
        assert outbox._made is None
        outbox.close()

    asyncio.run(run())


def test_a_file_that_is_no_record_is_not_written_to(tmp_path: Path, server: BooksServer) -> None:
    paths = make_host(tmp_path)
    os.makedirs(get_directory(paths))
    Path(f"{get_directory(paths)}/sent.db").write_bytes(b"not a database" * 100)
    with pytest.raises(SpecError, match="not a record of what was sent"):
        run_pass(paths, server)
    assert not server.requests


def test_what_cannot_be_written_down_is_no_acknowledgement(
    tmp_path: Path, server: BooksServer
) -> None:
    paths = make_host(tmp_path)
    outbox = sending.Outbox(paths, [server.settings], HttpDoor)

    async def run() -> None:
        try:
            outbox._sent._db.execute("PRAGMA query_only = ON")
            outcome = await outbox.run_pass(outbox.servers[0])
            assert "readonly" in str(outcome.error) and outcome.is_due
        finally:
            outbox.close()

    asyncio.run(run())
    assert server.requests and get_standing(paths, server).size == 0
    run_until_all(paths, server)
