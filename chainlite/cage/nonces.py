"""The nonces of calls that were let through: each once, whichever worker asks, whoever is killed.

A file for each span of SPAN_S seconds in which requests were signed, of entries of 24 bytes that
are only ever appended, under a lock on that file. A worker has what it has read in memory and reads
what others have appended since. Not here: the floor below which nothing passes (store, which keeps
it). Invariants: an entry is in the kernel's hands before its call is let through, so that kill -9
of anybody loses none; a file goes only after the floor is above all that is in it, both under its
lock; who has a file open that went asks for the floor again. Not synced: a power cut may lose the
last ones, and after a boot all files go, and the floor is above them.
Source: README.md, section Replay; flock(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SPAN_S = 16
SPAN_BYTES_MAX = 16 * 1024 * 1024
"""Of a file: 43,000 calls a second. In memory an entry takes some 100 bytes, for 80 s."""
SPANS_OPEN_MAX = 32
WAIT_S = 2.0
"""For a worker that holds a lock: it does for microseconds, or it was stopped there."""
LOOK_S = 0.0005
TRIES_MAX = 8
"""A file that went while it was opened is opened anew."""
NAME_BYTES = 16
ENTRY_BYTES = 8 + NAME_BYTES

_HEX = frozenset("0123456789abcdef")
_pack_time = struct.Struct(">Q").pack
_flock, _fstat, _write = fcntl.flock, os.fstat, os.write
_AT_ONCE, _UNLOCK = fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_UN


class _Span:
    """One open file, and what was read of it."""

    __slots__ = ("entries", "fd", "is_new", "newest_s", "size")

    def __init__(self, fd: int) -> None:
        self.fd, self.size, self.newest_s, self.is_new = fd, 0, 0, True
        self.entries: set[bytes] = set()

    def __del__(self) -> None:
        """As sqlite3's connections do: who forgets to close leaks nothing."""
        os.close(self.fd)

    def read(self, size: int) -> None:
        """What others have appended; a part of an entry, whose call was never let through, goes."""
        whole = size - size % ENTRY_BYTES
        if whole != size:
            os.ftruncate(self.fd, whole)
        data = os.pread(self.fd, whole - self.size, self.size)
        found = [data[at : at + ENTRY_BYTES] for at in range(0, len(data), ENTRY_BYTES)]
        if len(data) != whole - self.size:
            raise OSError(errno.EIO, "the file is shorter than it was")
        self.entries.update(found)
        self.newest_s = max(self.newest_s, int.from_bytes(max(found, default=b"")[:8], "big"))
        self.size = whole


class Nonces:
    """A directory of spans, open in one worker."""

    def __init__(
        self, directory: str, read_floor: Callable[[], int], raise_floor: Callable[[int], None]
    ) -> None:
        """`raise_floor` is to be durable against a kill when it returns."""
        self._directory = directory
        self._read_floor, self._raise_floor = read_floor, raise_floor
        self._floor_s = 0
        self._spans: dict[int, _Span] = {}
        os.makedirs(directory, mode=0o700, exist_ok=True)

    def close(self) -> None:
        """Close the files."""
        self._spans.clear()

    def add(self, created_s: int, name: bytes) -> bool:
        """Take a nonce for ever; False where it is not new, or from below the floor.

        OSError where it cannot be written down.
        """
        number = created_s // SPAN_S
        entry = _pack_time(created_s) + name
        for _ in range(TRIES_MAX):
            span = self._spans.get(number) or self._open(number, os.O_CREAT)
            fd = span.fd
            _lock(fd)
            try:
                state = _fstat(fd)
                if state.st_nlink:
                    return self._add(span, created_s, entry, state.st_size)
            finally:
                _flock(fd, _UNLOCK)
            del self._spans[number]
        raise OSError(errno.EAGAIN, "the file of nonces goes as often as it is made")

    def _add(self, span: _Span, created_s: int, entry: bytes, size: int) -> bool:
        """Under the lock of a file that is there."""
        if span.is_new:
            self._floor_s, span.is_new = self._read_floor(), False
        if size != span.size:
            span.read(size)
        if created_s < self._floor_s or entry in span.entries:
            return False
        if span.size + ENTRY_BYTES > SPAN_BYTES_MAX:
            raise OSError(errno.EFBIG, "too many calls in one span of time")
        if _write(span.fd, entry) != ENTRY_BYTES:
            os.ftruncate(span.fd, span.size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        span.size += ENTRY_BYTES
        span.entries.add(entry)
        if created_s > span.newest_s:
            span.newest_s = created_s
        return True

    def drop(self, before_s: int) -> None:
        """Let go the spans that ended before; the floor is raised above what was in them."""
        for number in self._list():
            if (number + 1) * SPAN_S <= before_s:
                self._drop(number)

    def clear(self) -> None:
        """Let go all, while no other worker has any open: after a boot."""
        for number in self._list():
            os.unlink(self._get_path(number))

    def count(self) -> int:
        """How many are held."""
        found = [os.stat(self._get_path(number)).st_size for number in self._list()]
        return sum(found) // ENTRY_BYTES

    def _drop(self, number: int) -> None:
        try:
            span = self._spans.get(number) or self._open(number, 0)
        except FileNotFoundError:
            return  # another worker was faster
        _lock(span.fd)
        try:
            state = _fstat(span.fd)
            if state.st_nlink:
                span.read(state.st_size)
                self._raise_floor(min(span.newest_s, (number + 1) * SPAN_S - 1) + 1)
                os.unlink(self._get_path(number))
        finally:
            _flock(span.fd, _UNLOCK)
        del self._spans[number]

    def _open(self, number: int, flags: int) -> _Span:
        if len(self._spans) >= SPANS_OPEN_MAX:
            self.close()  # a clock that leaps; what is needed is opened again
        mode = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | flags
        span = self._spans[number] = _Span(os.open(self._get_path(number), mode, 0o600))
        return span

    def _list(self) -> list[int]:
        names = os.listdir(self._directory)
        return sorted(int(one, 16) for one in names if len(one) == 16 and _HEX.issuperset(one))

    def _get_path(self, number: int) -> str:
        return f"{self._directory}/{number:016x}"


def _lock(fd: int) -> None:
    """OSError where another worker keeps it locked."""
    try:
        _flock(fd, _AT_ONCE)
    except BlockingIOError:
        deadline = time.monotonic() + WAIT_S
        while True:
            time.sleep(LOOK_S)
            try:
                return _flock(fd, _AT_ONCE)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
