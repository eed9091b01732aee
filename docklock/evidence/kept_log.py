"""The host's log kept open for reading by a process that looks at it again and again.

The last to close host.db would fold SQLite's log back, and the next start pay for that. Not here:
what is read. Invariant: a host.db that was put in its place is seen at the next `open`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from docklock.evidence.host_log import HostLog, has_host_log

if TYPE_CHECKING:
    from docklock.paths import Paths


class KeptLog:
    """The log, open from one use to the next."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._log: HostLog | None = None
        self._inode = 0

    def open(self) -> HostLog | None:
        """The log as it is now; None if there is none yet."""
        if not has_host_log(self._paths):
            return None
        inode = os.stat(self._paths.host_db).st_ino
        if self._log is None or inode != self._inode:
            self.end()
            self._log, self._inode = HostLog(self._paths, None), inode
        return self._log

    def end(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()
            self._log = None


def look_at_log(paths: Paths) -> tuple[tuple[int, int], ...]:
    """What changes when the log grows; empty before there is one."""
    found = []
    for path in (paths.host_db, f"{paths.host_db}-wal"):
        try:
            status = os.stat(path)
        except FileNotFoundError:
            continue
        found.append((status.st_mtime_ns, status.st_size))
    return tuple(found)
