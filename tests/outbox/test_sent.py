"""The record of what was sent: durable, whole, and every acknowledgement as it came."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from chainlite.bpci.acknowledgement import verify_acknowledgement
from docklock.outbox import sent as module
from docklock.outbox.record_file import get_directory
from docklock.outbox.sent import (
    MS_PER_MINUTE,
    Contradiction,
    Seen,
    Sent,
    Standing,
    has_sent,
)
from docklock.paths import Paths
from tests.evidence.recording import make_id, make_paths, record
from tests.ledger.offered import get_size
from tests.outbox.sends import get_host, run_pass
from tests.outbox.servers import BooksServer


def put(sent: Sent, size: int, time_ms: int, text: bytes, log_size: int = 0) -> None:
    standing = Standing(size, bytes(32), size, time_ms, time_ms)
    seen = Seen(log_size or size, bytes([size % 256]) * 32, b"note")
    sent.put_acknowledgement("s", standing, text, seen)


def test_what_is_kept_is_for_its_owner_alone(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    assert not has_sent(paths)
    with Sent(paths) as sent:
        assert sent.get_standing("s") == Standing()
    assert has_sent(paths)
    path = f"{get_directory(paths)}/sent.db"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_of_a_minute_the_largest_acknowledgement_is_kept(tmp_path: Path) -> None:
    """Also where the server says less in the same minute: then it has said both."""
    with Sent(make_paths(tmp_path)) as sent:
        put(sent, 5, 1000, b"five")
        put(sent, 9, 2000, b"nine")
        assert sent.get_acknowledgements("s", 10) == [b"nine"]
        put(sent, 3, 3000, b"three", 10)
        put(sent, 12, MS_PER_MINUTE + 1, b"twelve")
        assert sent.get_acknowledgements("s", 10) == [b"twelve", b"three", b"nine"]
        assert sent.get_standing("s").size == 12


def test_the_oldest_go_when_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ACKNOWLEDGEMENTS_KEPT", 3)
    with Sent(make_paths(tmp_path)) as sent:
        for number in range(1, 8):
            put(sent, number, number * MS_PER_MINUTE, b"%d" % number)
        assert sent.get_acknowledgements("s", 10) == [b"7", b"6", b"5"]
        assert sent.find_checkpoint("s", 5) and not sent.find_checkpoint("s", 4)
        last = sent.get_last_checkpoint("s")
        assert last is not None and last.size == 7


def test_a_checkpoint_that_was_seen_is_not_replaced(tmp_path: Path) -> None:
    with Sent(make_paths(tmp_path)) as sent:
        put(sent, 5, 1000, b"five", 40)
        put(sent, 6, 2000, b"six", 40)
        seen = sent.find_checkpoint("s", 40)
        assert seen is not None and seen.root == b"\x05" * 32


def test_a_checkpoint_that_was_only_served_is_none_of_an_acknowledgement(tmp_path: Path) -> None:
    with Sent(make_paths(tmp_path)) as sent:
        put(sent, 5, 1000, b"five", 40)
        served = Seen(90, bytes(32), b"note")
        sent.put_audited("s", sent.get_unaudited("s", 9), served)
        last = sent.get_last_checkpoint("s")
        assert last is not None and last.size == 40
        assert sent.find_checkpoint("s", 90) == served and sent.get_unaudited("s", 9) == [served]


def test_contradictions_are_kept_once_and_not_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONTRADICTIONS_KEPT", 2)
    with Sent(make_paths(tmp_path)) as sent:
        for number in (1, 1, 2, 3):
            sent.put_contradiction("s", Contradiction(number, "why", b"%d" % number, b""))
        assert [one.answer for one in sent.get_contradictions("s")] == [b"1", b"2"]
        assert sent.get_contradictions("t") == []


def test_an_auditor_can_be_shown_what_the_server_said(tmp_path: Path, server: BooksServer) -> None:
    paths = make_paths(tmp_path)
    sizes = []
    for number in range(1, 4):
        record(paths, make_id(number))
        run_pass(paths, server)
        sizes.append(get_size(paths))
    made = [
        verify_acknowledgement(data, server.settings.keys, get_host(paths))
        for data in read_acknowledgements(paths, server)
    ]
    assert made[0].held.size == sizes[-1]


def read_acknowledgements(paths: Paths, server: BooksServer) -> list[bytes]:
    with Sent(paths) as sent:
        return sent.get_acknowledgements(server.books.origin, 100)
