"""Where servers' logs speak of this host is written down once, bounded, and apart for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainlite.bpci.acknowledgement import Held, encode_acknowledgement
from chainlite.bpci.handover import Place
from docklock.outbox import placed
from docklock.outbox.placed import Placed
from tests.bpci.acknowledged import make_acknowledgement
from tests.evidence.recording import make_paths

HOST = b"\x01" * 32


def say(size: int, leaf_index: int) -> bytes:
    """An acknowledgement of so much, whose leaf is there."""
    leaves = [Held(HOST, number, bytes(32)) for number in range(leaf_index)]
    made = make_acknowledgement([*leaves, Held(HOST, size, b"\x02" * 32)], leaf_index)
    return encode_acknowledgement(made)


def test_places_are_kept_over_processes_and_apart(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    one = Placed(paths)
    one.put("office", say(4, 2))
    one.put("office", say(9, 5))
    one.put("vault", say(3, 1))
    one.put("office", say(9, 5))  # an answer that comes again
    one.close()
    again = Placed(paths)
    assert again.read("office", 0, 10) == [Place(2, 4), Place(5, 9)]
    assert again.read("office", 3, 10) == [Place(5, 9)]
    assert again.read("office", 0, 1) == [Place(2, 4)]
    assert again.read("vault", 0, 10) == [Place(1, 3)]
    assert again.read("nobody", 0, 10) == []
    again.close()


def test_what_was_sent_is_unsure_until_it_is_answered(tmp_path: Path) -> None:
    one = Placed(make_paths(tmp_path))
    for size in (9, 4, 12, 9):
        one.put_unsure("office", size)
    assert one.get_unsure("office") == [4, 9, 12] and one.get_unsure("vault") == []
    one.put("office", say(9, 3))
    assert one.get_unsure("office") == [12]
    one.put_unsure("office", 8)  # it stands there already
    assert one.get_unsure("office") == [12]
    one.close()


def test_no_more_is_kept_than_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placed, "PLACES_KEPT", 3)
    monkeypatch.setattr(placed, "PRUNE_EVERY", 2)
    monkeypatch.setattr(placed, "UNSURE_MAX", 2)
    one = Placed(make_paths(tmp_path))
    for number in range(1, 10):
        one.put("office", say(number, number))
    assert 3 <= len(one.read("office", 0, 99)) <= 4
    assert one.read("office", 9, 1) == [Place(9, 9)]
    for size in range(20, 30):
        one.put_unsure("office", size)
    assert one.get_unsure("office") == [28, 29]
    one.close()


def test_what_a_host_was_enrolled_by_is_kept(tmp_path: Path) -> None:
    one = Placed(make_paths(tmp_path))
    assert one.get_enrolment("office") == (b"", b"")
    one.put_enrolment("office", b"grant")
    one.put_enrolment("office", b"grant", b"answer")
    assert one.get_enrolment("office") == (b"grant", b"answer")
    one.close()
