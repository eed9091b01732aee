"""What the host's log has got since this agent began: runs, receipts, gaps; and how large it is.

Receipts are those of segments that are durable, signed and logged; a gap is a run that was closed
by another than its supervisor. Not here: the log itself (docklock/evidence/host_log.py).
The database stays open: closing it as the last one would fold its log back, which costs the next
start three syncs. Invariant: a look reads LEAVES_MAX leaves at most; the next goes on from there.
"""

from __future__ import annotations

import os

from chainlite import hostlog, segment
from chainlite.errors import DocklockError
from chainlite.lean import TYPE_CHECKING
from docklock.evidence.database import sqlite3
from docklock.evidence.host_log import HostLog, has_host_log

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.agent.journal import Log
    from docklock.paths import Paths

LEAVES_MAX = 20_000
_SUFFIXES = ("", "-wal")


class Tally:
    """Counts since it was made. `is_known` is false while the log cannot be read."""

    def __init__(self, paths: Paths, log: Log) -> None:
        self._path, self._paths, self._log = paths.host_db, paths, log
        self._host_log: HostLog | None = None
        self._inode = self._next = 0
        self.runs = self.receipts = self.gaps = self.leaves = 0
        self.is_known = True
        if has_host_log(paths):
            self._try(self._begin)

    def look(self) -> None:
        """Count what has come since."""
        if has_host_log(self._paths):
            self._try(self._count)

    @property
    def size_bytes(self) -> int:
        """Of the database and its write-ahead log."""
        found = 0
        for suffix in _SUFFIXES:
            try:
                found += os.stat(self._path + suffix).st_size
            except FileNotFoundError:
                continue
        return found

    def close(self) -> None:
        if self._host_log is not None:
            self._host_log.leave()

    def _begin(self) -> None:
        self.leaves = self._next = self._get_log().get_size()

    def _count(self) -> None:
        log = self._get_log()
        self.leaves = log.get_size()
        for index, data in log.get_leaves(self._next, LEAVES_MAX):
            self._next = index + 1
            leaf = hostlog.decode_leaf(data)
            if isinstance(leaf, hostlog.Segment):
                self.receipts += segment.decode_header(leaf.header).event_count
            elif isinstance(leaf, hostlog.Start):
                self.runs += 1
            elif isinstance(leaf, hostlog.Exit):
                self.gaps += leaf.cut

    def _get_log(self) -> HostLog:
        """The open log; opened anew if another file has its name: a backup that was put back."""
        inode = os.stat(self._path).st_ino
        if self._host_log is not None and inode != self._inode:
            self._host_log.close()
            self._host_log = None
        if self._host_log is None:
            self._host_log, is_other = HostLog(self._paths, None), self._inode != 0
            self._inode = inode
            if is_other:
                self._next = self._host_log.get_size()
        return self._host_log

    def _try(self, step: Callable[[], None]) -> None:
        was_known = self.is_known
        try:
            step()
            self.is_known = True
        except (DocklockError, OSError, sqlite3.Error) as error:
            self.is_known = False
            if was_known:
                self._log.error(f"the host log cannot be counted: {error}")
