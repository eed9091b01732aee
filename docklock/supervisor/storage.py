"""How much a container's upper directory holds, for how long: ECONOMY's storage_gb_day.

A walk of it adds up the blocks of each inode once, a few entries at a time, so that the guard's
loop never waits for it. It is made once a minute at most, and only if the container has used
processor time since the last one began: one that sleeps costs nothing, nor does it write. What a
walk has found counts from its end until the next one's: nothing before the first, nothing twice.
The tree is the container's, which changes it meanwhile: no symbolic link is followed, no mount is
entered. Not in it: images, volumes, tmpfs, the log; what `docklock cp` brings, until the container
next runs; entries beyond ENTRIES_MAX and below paths that the kernel refuses (4096 bytes).
Loaded by usage.py when a run is ten seconds old.
"""

from __future__ import annotations

import os
import time

from chainlite.lean import TYPE_CHECKING
from docklock.kernel import mount as kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docklock.supervisor.loop import Loop

ENTRIES_MAX = 65_536  # of a walk
ENTRIES_PER_TURN = 256  # 1 to 4 ms
TURN_S = 0.02
BLOCK_BYTES = 512
BYTE_NS_PER_UNIT = 10**9 * 86_400 * 10**9 // 10**6
"""One unit is 10^-6 GB-days, GB = 10^9 bytes."""
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_RESOLVE = kernel.RESOLVE_BENEATH | kernel.RESOLVE_NO_SYMLINKS | kernel.RESOLVE_NO_XDEV


class Storage:
    """What one run's upper directory `path` has held so far. Invariant: `read` never falls."""

    def __init__(self, loop: Loop, path: str) -> None:
        self._loop, self._path = loop, path
        self._cpu_ns = -1
        self._at_ns = self._bytes = self._byte_ns = 0
        self._entries: Iterator[int] | None = None
        self._found = 0

    def look(self, cpu_ns: int) -> None:
        """Walk, unless one walks already or the container has not run since the last look."""
        if self._entries is None and cpu_ns != self._cpu_ns:
            self._cpu_ns, self._found = cpu_ns, 0
            self._entries = iterate_sizes(self._path)
            self._turn()

    def read(self) -> int:
        """10^-6 GB-days until now."""
        now_ns = time.monotonic_ns()
        self._byte_ns += self._bytes * (now_ns - self._at_ns)
        self._at_ns = now_ns
        return self._byte_ns // BYTE_NS_PER_UNIT

    def close(self) -> None:
        """Walk no more."""
        self._loop.cancel(self._turn)
        self._entries = None

    def _turn(self) -> None:
        assert self._entries is not None
        for _ in range(ENTRIES_PER_TURN):
            size = next(self._entries, -1)
            if size < 0:
                self._entries = None
                self.read()
                self._bytes = self._found
                return
            self._found += size
        self._loop.call_later(TURN_S, self._turn)


def iterate_sizes(top: str) -> Iterator[int]:
    """The bytes on disk of each inode below `top`, as it finds them; it skips what vanishes."""
    linked: set[int] = set()
    left, count = ["."], 0
    try:
        top_fd = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        while left:
            here = left.pop()
            for entry in scan_beneath(top_fd, here):
                count += 1
                if count > ENTRIES_MAX:
                    return
                yield _measure(entry, linked)
                if _is_directory(entry):
                    left.append(f"{here}/{entry.name}")
    finally:
        os.close(top_fd)


def scan_beneath(top_fd: int, path: str) -> Iterator[os.DirEntry[str]]:
    """What a directory below `top_fd` holds; nothing if it is none, or beyond a link or a mount."""
    fd = kernel.try_openat2(top_fd, path, _FLAGS, _RESOLVE)
    if fd < 0:
        return
    try:
        with os.scandir(fd) as entries:
            yield from entries
    except OSError:
        return  # a disk that fails; the next walk looks again
    finally:
        os.close(fd)


def _measure(entry: os.DirEntry[str], linked: set[int]) -> int:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return 0
    if status.st_nlink > 1 and not _is_directory(entry):
        if status.st_ino in linked:
            return 0
        linked.add(status.st_ino)
    return status.st_blocks * BLOCK_BYTES


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False
