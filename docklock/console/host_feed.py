"""The receipts of one container as they are committed, run after run.

Only what is committed is shown, which is durable and signed: a container's receipts are committed
within milliseconds by themselves, so nobody is asked to flush, and a look changes nothing. Not
here: whether what the store says holds (`docklock verify`).
Invariants: `came` counts every receipt, though no more than the newest `limit` are decoded
(tests/console/test_host_feed.py); a segment is unpacked only for what is shown of it; nothing is
held open in the store between two looks but the file.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from chainlite.errors import DocklockError
from docklock.console.events import make_event
from docklock.console.facts import FeedPart
from docklock.console.host_records import LOST
from docklock.console.source import FEED_EVENTS_MAX
from docklock.evidence import container_store, journal
from docklock.evidence.database import sqlite3
from docklock.evidence.reading import read_segment
from docklock.lifecycle import has_guard

if TYPE_CHECKING:
    from docklock.console.facts import Event
    from docklock.paths import Paths


class HostFeed:
    """Of one container. One thread at a time, not always the same."""

    def __init__(self, paths: Paths, container: str) -> None:
        self._paths, self._container = paths, container
        self._db: sqlite3.Connection | None = None
        self._inode = 0
        self._run = self._index = -1  # the next receipt to tell of; -1 before the first look

    def read(self, limit: int = FEED_EVENTS_MAX) -> FeedPart:
        """What was committed since the last call, of this run and those that follow it."""
        is_live = has_guard(self._paths, self._container)  # first: then what it left is there
        try:
            db = self._open()
            part = FeedPart() if db is None else self._read_new(db, limit)
        except (sqlite3.Error, DocklockError) as error:
            self.close()
            return FeedPart(run=self._run, trouble=str(error))
        is_unmended = not is_live and os.path.exists(
            journal.get_journal_path(self._paths, self._container)
        )
        return part._replace(is_end=not is_live, trouble=LOST if is_unmended else "")

    def read_before(self, run: int, index: int, limit: int = FEED_EVENTS_MAX) -> FeedPart:
        """The `limit` receipts right before one, of the runs before its own, too. Oldest first."""
        try:
            db = self._open()
            if db is None:
                return FeedPart()
            events = read_newest(db, [(one, 0) for one in range(run + 1)], limit, index)
            total = container_store.get_event_count(db, run)
        except (sqlite3.Error, DocklockError) as error:
            self.close()
            return FeedPart(run=run, trouble=str(error))
        return FeedPart(events, came=len(events), total=total, run=run)

    def close(self) -> None:
        """Let go of the store; another call opens it again."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def _read_new(self, db: sqlite3.Connection, limit: int) -> FeedPart:
        newest = container_store.get_last_run(db)
        if newest < 0:
            return FeedPart()
        is_first = self._run < 0
        if is_first:
            self._run, self._index = newest, 0
        first_run, first_index = self._run, self._index
        counts = {
            run: container_store.get_event_count(db, run) for run in range(first_run, newest + 1)
        }
        self._run, self._index = newest, counts[newest]
        starts = [(run, first_index if run == first_run else 0) for run in counts]
        events = read_newest(db, starts, limit, counts[newest])
        came = len(events) if is_first else sum(counts.values()) - first_index
        return FeedPart(events, came=came, total=counts[newest], run=newest)

    def _open(self) -> sqlite3.Connection | None:
        """The store, if anything was ever committed: another one if it was put in its place."""
        path = container_store.get_store_path(self._paths, self._container)
        try:
            inode = os.stat(path).st_ino
        except FileNotFoundError:
            self.close()
            return None
        if self._db is None or inode != self._inode:
            self.close()
            self._db = container_store.open_store(self._paths, self._container, is_one_thread=False)
            self._inode = inode
        return self._db if container_store.has_tables(self._db) else None


def read_newest(
    db: sqlite3.Connection, starts: list[tuple[int, int]], limit: int, end: int
) -> tuple[Event, ...]:
    """At most `limit` receipts, oldest first: of each (run, first index), the last up to `end`."""
    found: list[Event] = []  # the newest first
    for run, first in reversed(starts):
        before = end if run == starts[-1][0] else 2**63 - 1
        rows = container_store.iterate_back(db, run, before, first)
        try:
            for row in rows:
                last = min(before, row.first_index + row.event_count)
                begin = max(first, row.first_index, last - (limit - len(found)))
                found += reversed([make_event(one) for one in read_segment(row, begin, last)])
                if len(found) >= limit:
                    break
        finally:
            rows.close()  # before the store: a segment that cannot be read leaves it open
        if len(found) >= limit:
            break
    return tuple(reversed(found))
