"""The calls of a container that its policy refused, counted by kind: of its newest receipts.

Not here: which rule it was (docklock.policy.explain), whether the receipts hold (verify). A segment
never changes: it is read once, and what was counted of it is kept.
"""

from __future__ import annotations

import os
import time
from collections import deque

from chainlite import receipt, segment
from chainlite.errors import DocklockError, SpecError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from docklock.evidence import container_store as store
from docklock.evidence.database import sqlite3
from docklock.evidence.reading import Shown, decode_frame

if TYPE_CHECKING:
    from typing import Any

    from docklock.paths import Paths

RECEIPTS_MAX = 65_536
"""Of a container: its newest."""
SEGMENTS_MAX = 4096
"""And no more than these: a quiet container has one for each few receipts."""
KINDS_MAX = 256
"""Of one segment; calls beyond count as the last kind of the same call."""
SETTLED_NS = 1_000_000_000
"""A file that changed within the last second may change again without another time."""
_REFUSED = (receipt.DENIED, receipt.KILLED)


class Kind(NamedTuple):
    """What is alike in refused calls."""

    op: str
    errno: int
    arch: int
    args: tuple[int, ...]


class Refused(NamedTuple):
    """Calls of one kind; `example` is the newest of them."""

    kind: Kind
    times: int
    first_ns: int
    last_ns: int
    example: Shown

    def add(self, other: Refused) -> Refused:
        """Both together, as this kind."""
        newest = max(self, other, key=lambda one: one.last_ns)
        return self._replace(
            times=self.times + other.times,
            first_ns=min(self.first_ns, other.first_ns),
            last_ns=newest.last_ns,
            example=newest.example,
        )


class Counted(NamedTuple):
    """What was counted of the newest receipts; `is_all`: of all that there are."""

    refused: tuple[Refused, ...]
    receipts: int
    is_all: bool


class Part(NamedTuple):
    """One segment that was looked at."""

    place: tuple[int, int]  # run, first receipt
    receipts: int
    refused: tuple[Refused, ...]


class RefusedCalls:
    """Of one container. One thread at a time."""

    def __init__(self, paths: Paths, container: str) -> None:
        self._paths, self._container = paths, container
        self._parts: deque[Part] = deque()  # in order
        self._receipts = 0
        self._marks: tuple[tuple[int, int], ...] = ()
        self._is_bottom = False  # nothing older is there, or it would be too much
        self.counted = Counted((), 0, is_all=False)

    def look(self, until_ns: int) -> bool:
        """Count what is new, then what is older, until that monotonic time; False if it is over."""
        marks = self._mark()
        if marks == self._marks:
            return True
        try:
            db = store.open_store(self._paths, self._container)
        except DocklockError:
            return True
        try:
            if not store.has_tables(db):
                return True
            is_done = self._take_newer(db, until_ns) and self._take_older(db, until_ns)
        except sqlite3.Error:
            return True  # what cannot be read is a verification's to tell
        finally:
            db.close()
        self._count()
        is_settled = all(time.time_ns() - changed_ns > SETTLED_NS for changed_ns, _ in marks)
        self._marks = marks if is_done and is_settled else ()
        return is_done

    def _mark(self) -> tuple[tuple[int, int], ...]:
        """What changes when a segment comes."""
        path, found = store.get_store_path(self._paths, self._container), []
        for name in (path, f"{path}-wal"):
            try:
                status = os.stat(name)
            except FileNotFoundError:
                continue
            found.append((status.st_mtime_ns, status.st_size))
        return tuple(found)

    def _take_newer(self, db: sqlite3.Connection, until_ns: int) -> bool:
        if not self._parts:
            return True
        rows = db.execute(
            "SELECT * FROM segments WHERE (run, first_index) > (?, ?) ORDER BY run, first_index",
            self._parts[-1].place,
        )
        for row in rows:
            if time.monotonic_ns() >= until_ns:
                return False
            self._parts.append(self._look_at(row))
            while self._receipts > RECEIPTS_MAX or len(self._parts) > SEGMENTS_MAX:
                self._receipts -= self._parts.popleft().receipts
                self._is_bottom = True
        return True

    def _take_older(self, db: sqlite3.Connection, until_ns: int) -> bool:
        if self._is_bottom:
            return True
        place = self._parts[0].place if self._parts else (1 << 62, 0)
        rows = db.execute(
            "SELECT * FROM segments WHERE (run, first_index) < (?, ?)"
            " ORDER BY run DESC, first_index DESC",
            place,
        )
        for row in rows:
            if time.monotonic_ns() >= until_ns:
                return False
            if self._receipts >= RECEIPTS_MAX or len(self._parts) >= SEGMENTS_MAX:
                self._is_bottom = True
                return True
            self._parts.appendleft(self._look_at(row))
        return True

    def _look_at(self, fields: tuple[Any, ...]) -> Part:
        row = store.SegmentRow(*fields)
        self._receipts += row.event_count
        return Part((row.run, row.first_index), row.event_count, count_refused(row))

    def _count(self) -> None:
        merged: dict[Kind, Refused] = {}
        for part in self._parts:
            for one in part.refused:
                known = merged.get(one.kind)
                merged[one.kind] = one if known is None else known.add(one)
        is_all = not self._parts or self._parts[0].place == (0, 0)
        self.counted = Counted(tuple(merged.values()), self._receipts, is_all)


def count_refused(row: store.SegmentRow) -> tuple[Refused, ...]:
    """The refused calls of a segment; none of one that cannot be read."""
    found: dict[tuple[int, ...], Refused] = {}
    last: dict[tuple[int, ...], tuple[int, ...]] = {}  # of a call, the kind that others count as
    at = receipt.CONSTANT.size
    try:
        body = segment.unpack_body(row.body)
        for raw, data, _ in receipt.iterate_frames(body, row.event_count):
            fields = receipt.VARYING.unpack_from(raw, at)
            if fields[9] not in _REFUSED or fields[10] != receipt.GATE:
                continue
            call, time_ns = (*fields[5:8], fields[9]), fields[2]
            key = (*call, *fields[12:18])
            if key not in found and len(found) >= KINDS_MAX:
                key = last.get(call, key)
            known = found.get(key)
            if known is not None:
                found[key] = known._replace(times=known.times + 1, last_ns=time_ns)
            elif len(found) < 2 * KINDS_MAX:
                found[key], last[call] = _make_refused(decode_frame(raw, data)), key
    except SpecError:
        return ()  # a verification tells of it
    return tuple(found.values())


def _make_refused(shown: Shown) -> Refused:
    event = shown.receipt
    kind = Kind(event.op, event.errno, event.arch, event.args)
    return Refused(kind, 1, event.time, event.time, shown)
