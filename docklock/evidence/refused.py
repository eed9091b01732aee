"""The calls of a container that its policy refused, counted by kind: of its newest segments.

Not here: which rule it was (docklock.policy.explain), whether the receipts hold (verify). A segment
is read once and never changes; what was counted of it is kept.
"""

from __future__ import annotations

import os
import time

from chainlite import receipt, segment
from chainlite.errors import DocklockError, SpecError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from docklock.evidence import container_store as store
from docklock.evidence.database import sqlite3
from docklock.evidence.reading import Shown, decode_frame

if TYPE_CHECKING:
    from docklock.paths import Paths

SEGMENTS_MAX = 64
"""Of a container: its newest. That is up to 65,536 receipts."""
KINDS_MAX = 256
"""Of one segment; calls beyond count as the last kind of the same call."""
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
    """What was counted; `segments` of `total` were looked at."""

    refused: tuple[Refused, ...]
    segments: int
    total: int


class RefusedCalls:
    """Of one container. One thread at a time."""

    def __init__(self, paths: Paths, container: str) -> None:
        self._paths, self._container = paths, container
        self._segments: dict[tuple[int, int], tuple[Refused, ...]] = {}
        self._marks: tuple[tuple[int, int], ...] = ()
        self.counted = Counted((), 0, 0)

    def look(self, until_ns: int) -> bool:
        """Count what is new until that monotonic time; False if there was none for all of it."""
        marks = self._mark()
        if marks == self._marks or not marks:
            return True
        try:
            db = store.open_store(self._paths, self._container)
        except DocklockError:
            return True
        try:
            is_done = self._count(db, until_ns)
        except sqlite3.Error:
            return True  # what cannot be read is a verification's to tell
        finally:
            db.close()
        self._marks = marks if is_done else ()
        return is_done

    def _count(self, db: sqlite3.Connection, until_ns: int) -> bool:
        if not store.has_tables(db):
            return True
        newest = db.execute(
            "SELECT run, first_index FROM segments ORDER BY run DESC, first_index DESC LIMIT ?",
            (SEGMENTS_MAX,),
        ).fetchall()
        self._segments = {one: self._segments[one] for one in newest if one in self._segments}
        is_done = True
        for place in newest:
            if place in self._segments:
                continue
            if time.monotonic_ns() >= until_ns:
                is_done = False
                break
            row = store.find_segment(db, *place)
            self._segments[place] = count_refused(row) if row is not None else ()
        (total,) = db.execute("SELECT count(*) FROM segments").fetchone()
        merged: dict[Kind, Refused] = {}
        for found in self._segments.values():
            for one in found:
                known = merged.get(one.kind)
                merged[one.kind] = one if known is None else known.add(one)
        self.counted = Counted(tuple(merged.values()), len(self._segments), total)
        return is_done

    def _mark(self) -> tuple[tuple[int, int], ...]:
        path, found = store.get_store_path(self._paths, self._container), []
        for name in (path, f"{path}-wal"):
            try:
                status = os.stat(name)
            except FileNotFoundError:
                continue
            found.append((status.st_mtime_ns, status.st_size))
        return tuple(found)


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
