"""What a run has recorded, as others see it: exact once it is committed, and of that run alone."""

from __future__ import annotations

import threading
from pathlib import Path

from docklock.evidence import attempts, journal
from docklock.evidence.counts import Totals, parse_counts, read_totals
from docklock.json_text import encode_json, parse_json
from tests.evidence.recording import append, begin, make_id, make_paths
from tests.evidence.test_attempts import RULES, open_ring_of, write
from tests.evidence.test_recorder import wait_for_flush


def test_what_is_committed_and_what_was_refused_is_read_without_asking(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    live = begin(paths, rules=RULES)
    try:
        assert read_totals(paths, make_id(), 0) is None, "nothing is committed"
        for number in range(3):
            append(live, number)
        mapped, writer = open_ring_of(live)
        actions = [attempts.RECORD, attempts.DENY, attempts.KILL, attempts.ABORTED, attempts.DENY]
        for number, done in enumerate(actions * 20):
            write(mapped, writer, number, done=done)
        durable = threading.Event()
        live.add_flush(durable.set)
        wait_for_flush(live, durable)

        assert read_totals(paths, make_id(), 0) == Totals(103, 60)
        assert read_totals(paths, make_id(), 1) is None, "of another run nothing is known"
        assert read_totals(paths, make_id(2), 0) is None
        told = live.counts.describe()
        assert sum(times for _, _, times in told) == 100
        reply = parse_json(encode_json({"event": "counts", "counts": told}))
        counts = parse_counts(reply)
        assert counts["syscall.getppid", "deny"] == 20
        assert counts["syscall.openat", "deny"] == 20
        assert sum(n for (_, done), n in counts.items() if done == "kill") == 20
    finally:
        live.close(0)
    assert read_totals(paths, make_id(), 0) is None, "its journal has gone with the run"


def test_what_is_no_journal_tells_nothing(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    path = Path(journal.get_journal_path(paths, make_id()))
    path.parent.mkdir(parents=True)
    for data in (b"", b"x" * 80, b"DOCKLOCK-JOURNAL\0\2", bytes(200_000)):
        path.write_bytes(data)
        assert read_totals(paths, make_id(), 0) is None
