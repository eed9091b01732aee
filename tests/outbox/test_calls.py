"""What a host keeps of its calls: both signatures of each that was answered, bounded, durable."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from chainlite.bpci.actor import parse_keyid
from chainlite.cage.call_record import check_call_record, decode_call_record, read_keyid
from chainlite.errors import SpecError
from docklock.outbox import calls as calls_module
from docklock.outbox.calls import Alert, CallFile, KeptCall, has_calls
from docklock.outbox.record_file import get_directory
from docklock.paths import Paths
from tests.evidence.recording import make_paths
from tests.ledger.offered import make_host
from tests.outbox.sends import get_host, run_pass
from tests.outbox.servers import CUT, BooksServer


def list_calls(paths: Paths) -> list[KeptCall]:
    """Newest first."""
    with CallFile(paths) as calls:
        return calls.list_newest(None, 100)


def test_each_call_that_was_answered_is_kept_with_both_signatures(
    tmp_path: Path, server: BooksServer
) -> None:
    paths = make_host(tmp_path)
    assert not has_calls(paths)
    run_pass(paths, server)
    found = list_calls(paths)
    assert len(found) == len(server.requests) == 2
    for one in found:
        record = decode_call_record(one.record)
        host, public = parse_keyid(read_keyid(record))
        call = check_call_record(record, public)
        assert (host, call.receipt.server) == (get_host(paths), server.books.key.public)
        assert call.is_answered and call.receipt.target == "/v1/receipts"
        assert (one.status, one.audit_id) == (200, call.receipt.audit_id)
        assert abs(one.time_ms - time.time() * 1000) < 60_000


def test_a_refusal_that_is_signed_is_kept_and_what_was_never_answered_is_not(
    tmp_path: Path, server: BooksServer
) -> None:
    paths = make_host(tmp_path)
    server.act = lambda _: (403, b"revoked", {})
    run_pass(paths, server)
    server.act = lambda _: CUT
    run_pass(paths, server)
    server.act, server.is_bare = None, True  # it answers, and signs nothing
    run_pass(paths, server)
    assert [one.status for one in list_calls(paths)] == [403]


def test_a_call_that_cannot_be_kept_is_no_acknowledgement(
    tmp_path: Path, server: BooksServer
) -> None:
    paths = make_host(tmp_path)
    with CallFile(paths) as calls:
        calls._db.execute("CREATE TRIGGER full BEFORE INSERT ON calls BEGIN SELECT"
                          " RAISE(ABORT, 'no room'); END")  # fmt: skip
    outcome = run_pass(paths, server)
    assert "no room" in str(outcome.error) and outcome.standing.size == 0
    with CallFile(paths) as calls:
        calls._db.execute("DROP TRIGGER full")
    assert run_pass(paths, server).error is None


def test_the_newest_of_each_server_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls_module, "CALLS_KEPT", 3)
    with CallFile(make_paths(tmp_path)) as calls:
        for number in range(10):
            for server in ("a", "b"):
                calls.add(KeptCall(server, number, bytes([number]) * 16, 200, b"record"))
        assert [one.time_ms for one in calls.list_newest("a", 9)] == [9, 8, 7]
        assert [one.server for one in calls.list_newest(None, 3)] == ["b", "a", "b"]
        assert calls.find(bytes([9]) * 16) is not None and calls.find(bytes(16)) is None


def test_alerts_are_kept_once_and_the_first_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls_module, "ALERTS_KEPT", 3)
    with CallFile(make_paths(tmp_path)) as calls:
        one = Alert("gap", 7, 1, "x" * 5000, b"answer", b"record")
        assert calls.add_alert("a", one) and not calls.add_alert("a", one)
        for leaf in range(8, 20):
            calls.add_alert("a", one._replace(leaf=leaf, time_ms=leaf))
        assert [found.leaf for found in calls.get_alerts("a")] == [7, 8, 9]
        assert len(calls.get_alerts("a")[0].why) < 500
        assert calls.get_alerts("b") == []


def test_a_file_that_is_no_record_of_calls_is_not_written_to(
    tmp_path: Path, server: BooksServer
) -> None:
    paths = make_host(tmp_path)
    run_pass(paths, server)
    for path in Path(get_directory(paths)).glob("calls.db*"):
        path.unlink()
    Path(f"{get_directory(paths)}/calls.db").write_bytes(b"not a database" * 100)
    outcome = run_pass(paths, server)
    assert isinstance(outcome.error, SpecError) and "not a record of calls" in str(outcome.error)
