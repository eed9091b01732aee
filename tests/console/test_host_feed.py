"""A container's receipts as they come: all are counted, the newest shown, run after run."""

from __future__ import annotations

import os
import signal

from docklock.console.facts import UNKNOWN, FeedPart
from docklock.console.host_records import LOST
from docklock.console.source import Source
from tests.e2e.conftest import Docklock

LOOP = "i=0; while [ $i -lt 40 ]; do cat /etc/passwd >/tmp/x; i=$((i+1)); done"


def test_all_is_counted_and_the_newest_shown_run_after_run(dock: Docklock, source: Source) -> None:
    dock("run", "--name", "writer", "busybox", "sh", "-c", LOOP)
    container = str(dock.inspect("writer")["Id"])
    assert source.evidence is not None
    feed = source.evidence.open_feed(container)
    receipts = dock.receipts("writer")

    first = feed.read(10)
    assert first.is_end and not first.trouble
    shown = [(str(one.event_index), one.op, one.decision) for one in first.events]
    assert shown == [(one["index"], one["op"], one["decision"]) for one in receipts[-10:]]
    assert (first.came, first.total, first.run) == (10, len(receipts), 0)
    assert feed.read(10) == FeedPart(total=len(receipts), run=0, is_end=True)

    end = len(receipts) - 3
    middle = feed.read_before(0, end, 20)
    assert [one.event_index for one in middle.events] == list(range(end - 20, end))

    dock("start", "-a", "writer")
    again = [one for one in dock.receipts("writer") if one["run"] == 1]
    second = feed.read(5)
    assert (second.came, second.total, second.run) == (len(again), len(again), 1)
    assert [one.event_index for one in second.events] == list(range(len(again) - 5, len(again)))
    across = feed.read_before(1, 3, 5)
    assert [(one.run, one.event_index) for one in across.events] == [
        (0, len(receipts) - 2),
        (0, len(receipts) - 1),
        (1, 0),
        (1, 1),
        (1, 2),
    ]
    feed.close()


def test_a_live_run_is_followed_and_a_lost_one_says_so(dock: Docklock, source: Source) -> None:
    script = "while :; do cat /etc/passwd >/dev/null; done"
    dock("run", "-d", "--name", "live", "busybox", "sh", "-c", script)
    container = str(dock.inspect("live")["Id"])
    assert source.evidence is not None
    feed = source.evidence.open_feed(container)
    parts = [feed.read(1)]

    def has_seen_many() -> bool:
        parts.append(feed.read(1))
        return parts[-1].total > 60 and any(part.came > 1 for part in parts[1:])

    dock.wait_for(has_seen_many)
    assert not any(part.is_end or part.trouble for part in parts)
    told = [part for part in parts if part.total]
    assert sum(part.came for part in told) == told[-1].total - (told[0].total - told[0].came)
    assert any(part.came > 1 for part in told), "more came than was shown"
    for part in told:
        end = part.total
        indexes = [one.event_index for one in part.events]
        assert indexes == list(range(end - min(1, part.came), end)), "the newest of them"

    os.kill(dock.supervisor_pid("live"), signal.SIGKILL)
    dock.wait_for(lambda: feed.read().is_end)
    assert feed.read().trouble == LOST
    rows = source.containers.read_overview((container,)).containers
    row = next(r for r in rows if r.name == "live")
    assert (row.status, row.trouble) == ("exited", LOST)
    dock("ps")  # mends it
    rest = feed.read()
    assert (rest.is_end, rest.trouble) == (True, "")
    assert rest.events[-1].event_index == rest.total - 1
    rows = source.containers.read_overview((container,)).containers
    row = next(r for r in rows if r.name == "live")
    assert (row.receipts, row.denials, row.status) == (rest.total, UNKNOWN, "exited")
    assert LOST not in row.trouble
    path = dock.root / "evidence" / f"{container}.db"
    feed.close()  # SQLite folds its log back: else that would stand for what is not there
    path.unlink()
    path.write_bytes(b"no database" * 400)
    assert "not evidence" in feed.read().trouble
    path.unlink()
    assert feed.read() == FeedPart(is_end=True)
    feed.close()
