"""A container's receipts as they come: all are counted, the newest shown, run after run."""

from __future__ import annotations

from docklock.console.facts import FeedPart
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
