"""This host's log and stores as a notary is shown them: frames, at one moment of the log.

Not here: who asks (enc.notary) and whether it holds (chainlite). Invariant: what is shown is one
moment of the log; what the container's file has not, though the log names it, is a TamperError of
that run alone. Each segment comes with its place in the log.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from chainlite import bundle, checkpoint, hostlog, segment
from chainlite.errors import StateError, TamperError
from docklock.evidence import container_store as store
from docklock.evidence.database import sqlite3
from docklock.evidence.export import (
    KEPT_NOTES_MAX,
    encode_logged,
    get_anchor,
    iterate_opening,
    open_container,
)
from docklock.evidence.kept_log import KeptLog
from docklock.evidence.keyring import get_public_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docklock.evidence.host_log import HostLog, RunRecord
    from docklock.paths import Paths
    from enc.notary.source import HostView, RunName

PASSING_CODES = frozenset((5, 6, 7, 9, 10, 13, 14))
"""SQLite's busy, locked, no memory, interrupted, input or output, full, cannot open."""
THE_LOG = "the host's log"


class LocalView:
    """One moment of this host's log (an enc.notary.source.HostView)."""

    def __init__(self, paths: Paths, log: HostLog) -> None:
        self._paths, self._log = paths, log
        self._size = log.get_size()

    def read_opening(self) -> Iterator[tuple[int, bytes]]:
        public = get_public_key(self._paths)
        with _naming(THE_LOG):
            yield from iterate_opening(self._log, public)

    def read_leaves(self, size_before: int) -> Iterator[bytes]:
        with _naming(THE_LOG):
            leaves = self._log.iterate_leaves(size_before)
            for expected, (index, data) in enumerate(leaves, size_before):
                if index != expected or not isinstance(data, bytes):
                    raise TamperError(f"leaf {expected} of the host's log is missing")
                yield data

    def read_start(self, name: RunName) -> bytes:
        with _naming(THE_LOG):
            return encode_logged(self._log, self._find_run(name).start_leaf, self._size)

    def read_certificates(self, name: RunName) -> Iterator[bytes]:
        with _reading(self._paths, name) as db:
            for row in store.iterate_epochs(db, name.run) if db is not None else ():
                yield row.certificate + row.signature

    def read_run(
        self, name: RunName, event_count: int, epoch: int, last_leaf: int
    ) -> Iterator[tuple[int, bytes]]:
        with _naming(THE_LOG):
            places = self._log.get_segment_places(*name, last_leaf)
        with _reading(self._paths, name) as db:
            if db is None and places:
                raise TamperError("the container's evidence file is gone")
            if db is not None:
                yield from self._read_segments(db, name, event_count, epoch, places)
        payload = self._read_exit(name, last_leaf)
        if payload:
            yield bundle.EXIT, payload

    def read_exit(self, name: RunName) -> bytes:
        return self._read_exit(name, -1)

    def _read_exit(self, name: RunName, last_leaf: int) -> bytes:
        with _naming(THE_LOG):
            leaf = self._find_run(name).exit_leaf
            if leaf is None or leaf <= last_leaf:
                return b""
            return encode_logged(self._log, leaf, self._size)

    def read_anchors(self) -> Iterator[bytes]:
        own = checkpoint.parse_claim(self._log.get_note()).size
        for note in self._log.get_cosigned_notes(KEPT_NOTES_MAX):
            if 0 < checkpoint.parse_claim(note).size <= own:
                yield bundle.encode_anchor(get_anchor(self._log, note))

    def _read_segments(
        self, db: sqlite3.Connection, name: RunName, event_count: int, epoch: int,
        places: tuple[tuple[int, bytes], ...],
    ) -> Iterator[tuple[int, bytes]]:  # fmt: skip
        epochs = {row.epoch: row for row in store.iterate_epochs(db, name.run, epoch)}
        rows = store.iterate_segments(db, name.run, event_count)
        for index, leaf in places:
            row = next(rows, None)
            if row is None:
                raise TamperError("the host's log has segments that the container's file has not")
            if not all(isinstance(part, bytes) for part in row[5:10]):
                raise TamperError("a row of the container's file has another type than was written")
            header = segment.decode_header(row.header)
            while epoch < header.epoch and epoch + 1 in epochs:
                epoch += 1
                yield bundle.CERTIFICATE, epochs[epoch].certificate + epochs[epoch].signature
            stored = bundle.StoredSegment(*row[5:10])
            yield stored.kind, bundle.encode_segment(stored)
            if leaf != hostlog.encode_segment(hostlog.Segment(row.header, row.signature)):
                raise TamperError("the host's log has another header for these receipts")
            place = bundle.Place(index, self._log.get_proof(index, self._size))
            yield bundle.PLACE, bundle.encode_place(place)

    def _find_run(self, name: RunName) -> RunRecord:
        for run in self._log.get_runs(name.container.hex(), name.run):
            return run
        raise TamperError(f"run {name.run} is not in the host's table of runs")


class LocalSource:
    """This host (an enc.notary.source.Source). Its log stays open from pass to pass."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._kept = KeptLog(paths)
        self._reading = contextlib.ExitStack()

    def open(self) -> HostView | None:
        log = self._kept.open()
        if log is None:
            return None
        self._reading.enter_context(log.read())
        return LocalView(self._paths, log) if log.get_size() else None

    def close(self) -> None:
        self._reading.close()

    def end(self) -> None:
        """Close the log."""
        self._kept.end()


@contextlib.contextmanager
def _reading(paths: Paths, name: RunName) -> Iterator[sqlite3.Connection | None]:
    """The container's store, if it has one."""
    with (
        _naming(f"container {name.container.hex()[:12]}: its file"),
        open_container(paths, name.container.hex()) as db,
    ):
        yield db


@contextlib.contextmanager
def _naming(what: str) -> Iterator[None]:
    """What SQLite cannot give now is a StateError, what it will never give a TamperError."""
    try:
        yield
    except sqlite3.Error as error:
        raise describe_unreadable(what, error) from None


def describe_unreadable(what: str, error: sqlite3.Error) -> StateError | TamperError:
    """What SQLite's error means for whoever reads evidence."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    kind = StateError if code in PASSING_CODES else TamperError
    return kind(f"{what} cannot be read: {error}")
