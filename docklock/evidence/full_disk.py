"""A disk that is full is waited for: it is nobody's attack, and it passes.

Not here: any other failure to write, after which nothing more is accepted (recorder). What waits
meanwhile: held calls, since their receipts are not durable; others, once the journal is full.
Source: sqlite.org/rescode.html.
"""

from __future__ import annotations

import errno
import os
import time

from chainlite.errors import StateError
from chainlite.lean import TYPE_CHECKING
from docklock.bare import deque
from docklock.evidence.database import sqlite3

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Result = TypeVar("Result")

RETRY_MIN_S = 0.02
RETRY_MAX_S = 0.5
ROOM_MIN_BYTES = 1 << 16
"""SQLite needs more for the index of a write-ahead log and a page."""
_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
# The second: SQLite found no room for the index of its write-ahead log.
_SQLITE_CODES = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)


def is_full(error: BaseException) -> bool:
    """Whether `error`, or what it was raised from, says that there is no room on the disk."""
    cause = error.__cause__ if isinstance(error, StateError) and error.__cause__ else error
    if isinstance(cause, OSError):
        return cause.errno in _ERRNOS
    return getattr(cause, "sqlite_errorcode", None) in _SQLITE_CODES


def need_room(directory: str) -> None:
    """OSError as of a full disk where there is hardly any room, before SQLite maps new files.

    At its last blocks ext4 may take a write and have no block for it when the mapping is stored
    into: that is no error then, but SIGBUS.
    """
    found = os.statvfs(directory)
    if found.f_bfree * found.f_frsize < ROOM_MIN_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), directory)


def wait_for_room(
    act: Callable[[], Result], upon_wait: Callable[[BaseException], None] | None = None
) -> Result:
    """What `act` returns, tried again for as long as the disk is full; other errors are raised.

    `act` must be whole or undone each time. `upon_wait` is called with each error.
    """
    delay_s = RETRY_MIN_S
    while True:
        try:
            return act()
        except (OSError, sqlite3.Error, StateError) as error:
            if not is_full(error):
                raise
            if upon_wait is not None:
                upon_wait(error)
        time.sleep(delay_s)
        delay_s = min(2 * delay_s, RETRY_MAX_S)


class Stalls:
    """How long one run's evidence has waited for room. `wait` in one thread, `tell` in another."""

    def __init__(self, upon_change: Callable[[], None]) -> None:
        """`upon_change` is called, by who waits, when a stall begins and when it is over."""
        self._upon_change = upon_change
        self._began_ns = 0
        self._untold = ""
        self._ended: deque[tuple[int, int]] = deque()

    def wait(self, act: Callable[[], Result], say: Callable[[str], None] | None = None) -> Result:
        """As wait_for_room; `say` is told at once that it waits, else whoever calls `tell`."""

        def upon_wait(error: BaseException) -> None:
            if self._began_ns:
                return
            self._began_ns = time.time_ns()
            self._untold = f"evidence waits for room on the disk: {error}"
            if say is not None:
                self.tell(say)
            self._upon_change()

        result = wait_for_room(act, upon_wait)
        if self._began_ns:
            self._ended.append((self._began_ns, time.time_ns()))
            self._began_ns = 0
            self._upon_change()
        return result

    def tell(self, say: Callable[[str], None]) -> None:
        """Say that evidence waits, once for each stall."""
        if self._untold:
            text, self._untold = self._untold, ""
            say(text)

    def take_ended(self) -> list[tuple[int, int]]:
        """(begin, end) in Unix ns of the stalls that are over, each once."""
        found = []
        while self._ended:
            found.append(self._ended.popleft())
        return found


def allocate(fd: int, start: int, end: int) -> None:
    """Have blocks for these bytes of a file, so that a store into its mapping never fails."""
    wait_for_room(lambda: os.posix_fallocate(fd, start, end - start))
