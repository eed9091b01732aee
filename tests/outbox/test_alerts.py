"""A batch of which a part was taken: what follows on this host, against the server's own intake."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from chainlite import hostlog
from chainlite.bpci import verification
from chainlite.bpci.actor import parse_keyid
from chainlite.bpci.ingest import encode_refused
from chainlite.bpci.intake import TAKEN, Answer
from chainlite.cage.call_record import check_call_record, decode_call_record, read_keyid
from docklock.agent.metrics import format_metrics
from docklock.cli.info import get_servers
from docklock.evidence import offering
from docklock.evidence.export import open_container
from docklock.evidence.host_log import HostLog
from docklock.outbox import backoff, following, sending
from docklock.outbox.backoff import REFUSED_AGAIN_S
from docklock.outbox.door import Alerted
from docklock.outbox.figures import list_figures
from docklock.outbox.following import LOOK_S, follow
from docklock.outbox.sending import Outcome
from docklock.outbox.sent import ALERTED, REFUSED, WELL, Sent
from docklock.outbox.status import read_status
from docklock.paths import Paths
from tests.agent.openmetrics import parse_page
from tests.agent.test_metrics import COUNTS
from tests.evidence.recording import make_id, make_paths, record
from tests.ledger.offered import get_size
from tests.outbox.sends import (
    get_host,
    get_standing,
    make_outbox,
    run_pass,
    run_sync,
    write_config,
)
from tests.outbox.servers import Answer as Said
from tests.outbox.servers import Books, BooksServer, Request
from tests.outbox.test_with_intake import IntakeBooks
from tests.outbox.test_with_server import Serving, run

TURNED = make_id(2)
"""The container whose evidence is spoilt."""


class AlertingBooks(IntakeBooks):
    """The real intake, and the body that the real ingest answers with."""

    def answer(self, request: Request) -> Said:
        made = self.judge(request)
        if made.kind == TAKEN or not made.why:
            return 200, made.acknowledgement, {}
        return (422 if made.alert else 400), encode_refused(made), {}


@pytest.fixture
def real(tmp_path: Path) -> Iterator[tuple[BooksServer, AlertingBooks]]:
    books = AlertingBooks(tmp_path / "server")
    with BooksServer(books) as server:
        server.act = books.answer
        yield server, books
    books.close()


def spoil(paths: Paths) -> Callable[[], None]:
    """One stored receipt of TURNED is another: who has root has been there. What undoes it."""
    with open_container(paths, TURNED) as db:
        assert db is not None
        [tags] = db.execute("SELECT leaf_tags FROM segments").fetchone()
    put_tags(paths, bytes([tags[0] ^ 1]) + tags[1:])
    return lambda: put_tags(paths, tags)


def put_tags(paths: Paths, tags: bytes) -> None:
    import sqlite3

    db = sqlite3.connect(f"{paths.evidence}/{TURNED}.db", isolation_level=None)
    db.execute("UPDATE segments SET leaf_tags = ?", (tags,))
    db.close()


def record_three(tmp_path: Path) -> Paths:
    paths = make_paths(tmp_path)
    for number in (1, 2, 3):
        record(paths, make_id(number), count=4)
    return paths


def make_spoilt(tmp_path: Path, books: IntakeBooks) -> tuple[Paths, Callable[[], None]]:
    """Three containers' evidence, the second's spoilt; enrolled."""
    paths = record_three(tmp_path)
    books.call(lambda: books.server.enrol(paths))
    return paths, spoil(paths)


def find_bad_leaf(paths: Paths) -> int:
    with HostLog(paths, None) as log:
        for index in range(log.get_size()):
            data = log.get_leaf(index)
            if data[0] == hostlog.SEGMENT_KIND and bytes.fromhex(TURNED) in data:
                return index
    raise AssertionError("it has a segment")


def list_alert_leaves(paths: Paths) -> list[dict[str, str]]:
    """What this host's own log says of alerts."""
    with HostLog(paths, None) as log:
        leaves = [hostlog.decode_leaf(log.get_leaf(at)) for at in range(log.get_size())]
    return [
        dict(one.labels)
        for one in leaves
        if isinstance(one, hostlog.Operation) and one.name == "alert"
    ]


def check_alerted(outcome: Outcome, paths: Paths, leaf: int) -> None:
    assert isinstance(outcome.error, Alerted) and outcome.error.kind == "receipt"
    assert outcome.standing.state == ALERTED and "alert receipt" in outcome.standing.trouble
    assert outcome.standing.size == leaf, "the part before it counts"
    wait_ms = outcome.standing.next_ms - outcome.standing.tried_ms
    assert wait_ms >= 1000 * REFUSED_AGAIN_S
    assert get_size(paths) > leaf


def test_the_part_that_was_taken_counts_and_the_rest_is_not_pressed(
    tmp_path: Path, real: tuple[BooksServer, AlertingBooks]
) -> None:
    server, books = real
    paths, mend = make_spoilt(tmp_path, books)
    leaf = find_bad_leaf(paths)
    check_alerted(run_pass(paths, server), paths, leaf)
    assert server.starts[-2:] == [(1, get_size(paths) - 1), (leaf, leaf + 1)]
    assert books.get_size(get_host(paths)) == leaf
    with Sent(paths) as sent:
        assert len(sent.get_acknowledgements(server.books.origin, 9)) >= 1
    assert list_alert_leaves(paths) == [
        {"server": books.origin, "kind": "receipt", "leaf": str(leaf)}
    ]
    server.requests.clear()
    for _ in range(3):  # each by hand, or 15 min later: one leaf, one call, nothing new to say
        check_alerted(run_pass(paths, server), paths, leaf)
    assert server.starts == [(leaf, leaf + 1)] * 3
    assert len(list_alert_leaves(paths)) == 1
    mend()
    outcome = run_pass(paths, server)
    assert outcome.error is None and outcome.standing.state == WELL
    assert books.get_size(get_host(paths)) == get_size(paths)


def test_it_goes_on_batch_after_batch_until_the_leaf(
    tmp_path: Path, real: tuple[BooksServer, AlertingBooks], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "BATCH", offering.BATCH._replace(fill_bytes=2_000))
    server, books = real
    paths, _ = make_spoilt(tmp_path, books)
    leaf = find_bad_leaf(paths)
    check_alerted(run_pass(paths, server), paths, leaf)
    starts = [start for start, _ in server.starts]
    assert starts == sorted(starts) and starts.count(leaf) <= 2


def test_status_info_and_metrics_show_it(
    tmp_path: Path, real: tuple[BooksServer, AlertingBooks]
) -> None:
    server, books = real
    paths, _ = make_spoilt(tmp_path, books)
    config = write_config(tmp_path / "agent.toml", server)
    leaf = find_bad_leaf(paths)
    code, out, err = run_sync(paths, "now", "--config", config)
    assert code == 3 and "docklock: office: alert receipt: " in err
    assert "alerted" in out and f"office: alert receipt at leaf {leaf}, " in out
    code, out, _ = run_sync(paths, "status", "--format", "json")
    [shown] = json.loads(out)["servers"]
    assert code == 3 and shown["state"] == "alerted"
    [alert] = shown["alerts"]
    assert (alert["kind"], alert["leaf"]) == ("receipt", leaf) and alert["why"]
    [line] = get_servers(paths)
    assert line.endswith(", alerted, alerts: 1, the last: receipt")
    found = read_status(paths, (server.settings,))
    page = parse_page(
        format_metrics(COUNTS._replace(outbox=list_figures([one.describe() for one in found])))
    )
    assert page["docklock_outbox_alerts"].get(server="office") == 1
    assert page["docklock_outbox_well"].get(server="office") == 0


def test_an_alert_is_kept_with_the_servers_signature_over_it(
    tmp_path: Path, real: tuple[BooksServer, AlertingBooks]
) -> None:
    server, books = real
    paths, _ = make_spoilt(tmp_path, books)
    run_pass(paths, server)
    [alert] = read_status(paths, (server.settings,))[0].alerts
    kept = decode_call_record(alert.record)
    call = check_call_record(kept, parse_keyid(read_keyid(kept))[1])
    assert call.is_answered and call.receipt.server == books.key.public
    assert call.receipt.response_digest == sha256(alert.answer).digest()
    assert json.loads(alert.answer)["alert"] == "receipt"


def refuse(books: Books, paths: Paths, kind: str, held: int) -> Said:
    """The body of an alert by a server that holds so much."""
    with HostLog(paths, None) as log:
        root = log.compute_root(held)
    from chainlite.bpci.acknowledgement import Held

    made = books.acknowledge(Held(get_host(paths), held, root))
    return 422, encode_refused(Answer("refused", made, 0, "another history", kind)), {}


def make_grown(tmp_path: Path, server: BooksServer) -> tuple[Paths, int]:
    """A host whose log has grown since its server had all, and how much that was."""
    paths = make_paths(tmp_path)
    record(paths)
    run_pass(paths, server)
    held = get_size(paths)
    record(paths, make_id(4))
    return paths, held


@pytest.mark.parametrize("kind", backoff.ALERTS_FOR_GOOD)
def test_a_fork_stops_it_until_somebody_is_there(
    tmp_path: Path, server: BooksServer, other: BooksServer, kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(following, "AFTER_FAILURE_S", LOOK_S)
    paths, held = make_grown(tmp_path, server)
    server.act = lambda _: refuse(server.books, paths, kind, held)
    server.requests.clear()
    outbox = make_outbox(paths, server, other)
    said: list[str] = []

    async def run() -> None:
        task = asyncio.ensure_future(follow(paths, outbox, 0, lambda _, text: said.append(text)))
        async with asyncio.timeout(20):
            while get_standing(paths, other).size < get_size(paths):
                await asyncio.sleep(0.02)
            record(paths, make_id(5))  # is no reason to try again
            while get_standing(paths, other).size < get_size(paths):
                await asyncio.sleep(0.02)
        await asyncio.sleep(3 * LOOK_S)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        outbox.close()

    asyncio.run(run())
    assert len(server.requests) == 1, "it was pressed"
    standing = get_standing(paths, server)
    assert (standing.state, standing.next_ms) == (ALERTED, 0)
    assert f"alert {kind}: another history" in standing.trouble
    assert any(f"alert {kind}" in text for text in said)
    assert [one["kind"] for one in list_alert_leaves(paths)] == [kind]


def test_an_alert_in_place_of_where_it_stands_counts_too(
    tmp_path: Path, server: BooksServer
) -> None:
    paths, held = make_grown(tmp_path, server)

    def act(request: Request) -> Said:
        if request.offer.start:
            return 409, b"nothing of this host is here", {}
        return refuse(server.books, paths, "fork", held)

    server.act = act
    outcome = run_pass(paths, server)
    assert outcome.standing.state == ALERTED and outcome.standing.size == held
    assert [one["leaf"] for one in list_alert_leaves(paths)] == [str(held)]


def test_the_names_of_alerts_are_the_servers() -> None:
    assert backoff.ALERTS_FOR_GOOD == (verification.FORK, verification.ROLLBACK)


def test_an_alert_that_the_server_has_not_signed_is_no_more_than_a_refusal(
    tmp_path: Path, server: BooksServer
) -> None:
    paths, held = make_grown(tmp_path, server)
    server.act, server.is_bare = (lambda _: refuse(server.books, paths, "fork", held)), True
    outcome = run_pass(paths, server)
    assert outcome.standing.state == REFUSED and "status 422" in outcome.standing.trouble
    assert list_alert_leaves(paths) == []


def test_an_alert_whose_acknowledgement_contradicts_this_log_is_both(
    tmp_path: Path, server: BooksServer
) -> None:
    """A host that was set back, and has lost its record of what it sent: the server has more."""
    from chainlite.bpci.acknowledgement import Held

    paths = make_paths(tmp_path)
    record(paths)
    made = server.books.acknowledge(Held(get_host(paths), 50, bytes(32)))
    body = encode_refused(Answer("refused", made, 0, "another history", "rollback"))
    server.act = lambda _: (422, body, {})
    config = write_config(tmp_path / "agent.toml", server)
    code, out, err = run_sync(paths, "now", "--config", config)
    assert code == 3 and "holds 50 leaves" in err
    assert "contradicted" in out and "office: alert rollback at leaf 50, " in out
    assert [one["leaf"] for one in list_alert_leaves(paths)] == ["50"]
    server.requests.clear()
    assert run_sync(paths, "status")[0] == 3 and not server.requests


def test_the_whole_program_takes_the_part_says_so_and_goes_on(tmp_path: Path) -> None:
    """`docklock bpci serve` itself, and what an operator types."""
    serving = Serving(tmp_path / "server").start()
    paths = record_three(tmp_path)
    config = serving.write_config(tmp_path / "agent.toml")
    try:
        serving.enrol(paths, config, tmp_path / "grant")
        mend = spoil(paths)
        for _ in range(2):
            code, out, err = run_sync(paths, "now", "--config", config)
            assert code == 3 and "office: alert receipt: " in err and "alerted" in out
        code, out, _ = run_sync(paths, "receipts", "--format", "json")
        statuses = [one["status"] for one in json.loads(out)["calls"]]
        assert code == 0 and statuses == [422, 422, 422, 200]
        mend()
        assert run_sync(paths, "now", "--config", config)[0] == 0
        code, out, _ = run_sync(paths, "status", "--format", "json")
        [shown] = json.loads(out)["servers"]
        assert (code, shown["state"], shown["lag_leaves"]) == (0, "well", 0)
        assert len(shown["alerts"]) == 1, "what was said is not forgotten"
    finally:
        serving.kill()
    assert "whole" in run("bpci", "audit", serving.directory)
