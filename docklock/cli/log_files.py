"""Read a log's files, oldest first, from the middle on and while they are written and shifted.

Invariant: a line that was in a file when it was asked for comes once and in order, however often
the files are shifted meanwhile, unless the writer removes it first, which is said. Not here: what a
line holds (logs.py), writing (docklock.supervisor.logfile).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Self

from docklock.log_settings import list_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

POLL_S = 0.1
STEP_BYTES = 65_536
ONE_FILE = 2  # names: the next file follows upon the removed one, or nobody knows


class LogFiles:
    """The files of the log at `path`, of which there are at most `files_max`."""

    def __init__(self, path: str, files_max: int) -> None:
        self._names = list_names(path, files_max)
        self._current: IO[bytes] | None = None
        self._upon_loss: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._current is not None:
            self._current.close()

    def set_upon_loss(self, upon_loss: Callable[[], None]) -> None:
        """Call it when files may have been removed before they were read."""
        self._upon_loss = upon_loss

    def read(self, tail: int | None) -> Iterator[bytes]:
        """The whole lines that there are; with `tail` the last so many."""
        files = self._open_files()
        if tail is not None:
            for file in reversed(files):
                tail -= seek_tail(file, tail)
        yield from self._read_files(files)

    def read_new(self, is_written: Callable[[], bool]) -> Iterator[bytes | None]:
        """Lines after those already read, until `is_written` says no; None before each pause."""
        while True:
            was_written = is_written()
            yield from self._read_once()
            if not was_written:
                return
            yield None
            time.sleep(POLL_S)

    def _read_once(self) -> Iterator[bytes]:
        files = self._open_files()
        current = self._current
        if current is None:
            yield from self._read_files(files)
            return
        yield from read_whole_lines(current)  # after the look: a shifted file grows no more
        places = [at for at, file in enumerate(files) if is_same(file, current)]
        if not places:
            if files and len(self._names) > ONE_FILE:
                self._upon_loss()
            yield from self._read_files(files)
            return
        for file in files[: places[0] + 1]:
            file.close()
        yield from self._read_files(files[places[0] + 1 :])

    def _read_files(self, files: list[IO[bytes]]) -> Iterator[bytes]:
        """Read these, the last of which stays open."""
        for file in files:
            if self._current is not None:
                self._current.close()
            self._current = file
            yield from read_whole_lines(file)

    def _open_files(self) -> list[IO[bytes]]:
        """All that are there, oldest first.

        They are opened newest first: one that is shifted meanwhile is met again, never missed.
        """
        found: list[IO[bytes]] = []
        for name in self._names:
            try:
                file = open(name, "rb")
            except FileNotFoundError:
                continue
            if any(is_same(file, other) for other in found):
                file.close()
            else:
                found.append(file)
        return found[::-1]


def is_same(one: IO[bytes], other: IO[bytes]) -> bool:
    """Whether two open files are one."""
    return os.path.sameopenfile(one.fileno(), other.fileno())


def seek_tail(file: IO[bytes], limit: int) -> int:
    """Go to where the last `limit` whole lines begin; how many they are."""
    at = file.seek(0, os.SEEK_END)
    count = 0
    while at:
        size = min(STEP_BYTES, at)
        at -= size
        file.seek(at)
        data = file.read(size)
        end = len(data)
        while (end := data.rfind(b"\n", 0, end)) >= 0:
            if count == limit:
                file.seek(at + end + 1)
                return count
            count += 1
    file.seek(0)
    return count


def read_whole_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Lines that have ended; the position stays before one that has not."""
    while line := file.readline():
        if not line.endswith(b"\n"):
            file.seek(-len(line), os.SEEK_CUR)
            return
        yield line
