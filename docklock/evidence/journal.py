"""The journal of a live run: what is received but not yet committed survives kill -9.

An mmapped file below `Paths.run`, which should be memory: a page fault on a disk's file system may
wait for that disk. Its blocks are allocated a step ahead of each write (so a full one is waited
for, never SIGBUS); a quiet run goes round in few of them. Not here: what a frame means
(chainlite.receipt), when it is committed (recorder), what becomes of a dead run's (recovery).

Layout (big-endian): page 0: magic, container, run, boot. Then the gate's attempts (attempts.py).
Then two halves, used in turn, for the guard's own records; each is u64 generation, u64 first
index, 8 bytes check (BLAKE3 of the 16 before), then records: u32 size, u8 kind, payload, check.
Kind 1 is an event: a body frame, then 8 bytes of its chain hash. Kind 2 is the secret of values
from an index on: u64 index, 32 bytes, then 8 bytes of their BLAKE3. A size of 0 ends the half.
The journal is memory that outlives its process, not a disk format: after another boot it is
worth nothing, and recovery takes nothing from it.

Invariants: the size of a record is written after its bytes and after the 0 that follows it, so a
killed writer leaves whole records and an end; bytes of an earlier generation are never reached.
A half is reused only when every event in it is committed. The chain hash of an event depends on
everything before it, attempts of the gate included, so recovery knows that it has put both
together as the guard did. The file is locked (flock) for the guard's and the worker's lives.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct

from blake3 import blake3

from chainlite.errors import StateError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from docklock.evidence import attempts
from docklock.evidence.full_disk import allocate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docklock.paths import Paths

SUFFIX = ".journal"
MAGIC = b"DOCKLOCK-JOURNAL\x00\x02"
PAGE_BYTES = 4096
HALVES_OFFSET = attempts.END_OFFSET
HALF_BYTES = 2 << 20
JOURNAL_BYTES = HALVES_OFFSET + 2 * HALF_BYTES
STEP_BYTES = 65_536
RECYCLE_BYTES = 4 * STEP_BYTES
EVENT, SECRET = 1, 2
CHECK_BYTES = 8
_FILE_HEAD = struct.Struct(f">{len(MAGIC)}s32sI16s")
_HALF_HEAD = struct.Struct(">QQ8s")
_RECORD_HEAD = struct.Struct(">IB")
_END = bytes(4)
RECORD_EXTRA_BYTES = _RECORD_HEAD.size + CHECK_BYTES + len(_END)
SECRET_RECORD = struct.Struct(">Q32s")


class Record(NamedTuple):
    """One record as it lies in a half."""

    kind: int
    payload: bytes
    check: bytes


class Journal:
    """The writer's side. `write` is called under the recorder's lock."""

    __slots__ = (
        "_end",
        "_generation",
        "_half",
        "_pos",
        "_ready",
        "_secret",
        "_start",
        "fd",
        "first_index",
        "map",
        "path",
    )

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd
        self.map = mmap.mmap(fd, JOURNAL_BYTES)
        # Its pages are new: the first touch would read a whole read-ahead of zeroes, 2 to 4 ms.
        self.map.madvise(mmap.MADV_RANDOM)
        self._generation = 0
        self._half = 1
        self._secret = b""  # that this half knows
        self.first_index = 0  # of this half
        self._start = self._pos = self._ready = self._end = 0

    def begin(self, container: bytes, run: int, boot: bytes) -> None:
        """Name the run and open the first half."""
        self.map[: _FILE_HEAD.size] = _FILE_HEAD.pack(MAGIC, container, run, boot)
        self.switch(0)

    def has_room(self, size: int) -> bool:
        """Whether a payload of this size fits the current half."""
        return self._pos + size + RECORD_EXTRA_BYTES <= self._end

    def is_worn(self) -> bool:
        """Whether the other half should be used, if all events are committed: to stay small."""
        return self._pos - self._start >= RECYCLE_BYTES

    def switch(self, first_index: int) -> None:
        """Go on in the other half, whose events the caller knows to be committed."""
        self._half ^= 1
        self._generation += 1
        self._secret, self.first_index = b"", first_index
        self._start = start = HALVES_OFFSET + self._half * HALF_BYTES
        self._pos = start + _HALF_HEAD.size
        self._end = start + HALF_BYTES
        self._ready = start
        self._make_ready(self._pos + len(_END))
        self.map[self._pos : self._pos + 4] = _END
        head = struct.pack(">QQ", self._generation, first_index)
        self.map[start : self._pos] = head + blake3(head).digest(CHECK_BYTES)

    def write(self, kind: int, payload: bytes, check: bytes) -> None:
        """Append a record; it is whole in the file when this returns. `has_room` was asked."""
        pos = self._pos
        end = pos + _RECORD_HEAD.size + len(payload) + CHECK_BYTES
        if end + len(_END) > self._ready:
            self._make_ready(end + len(_END))
        mapped = self.map
        mapped[pos + 4 : end + 4] = kind.to_bytes(1, "big") + payload + check + _END
        mapped[pos : pos + 4] = len(payload).to_bytes(4, "big")
        self._pos = end

    def write_secret(self, index: int, secret: bytes) -> None:
        """Have this half know the secret of values from the event `index` on."""
        if self._secret != secret:
            record = SECRET_RECORD.pack(index, secret)
            self.write(SECRET, record, blake3(record).digest(CHECK_BYTES))
            self._secret = secret

    def _make_ready(self, end: int) -> None:
        ready = min(end + STEP_BYTES, self._end)
        allocate(self.fd, self._ready, ready)
        self._ready = ready

    def remove(self) -> None:
        """Remove the file and its lock: the run is closed."""
        os.unlink(self.path)
        self.close()

    def close(self) -> None:
        """Leave the file where it is, for recovery, and free its lock."""
        self.map.close()
        os.close(self.fd)


def get_journal_path(paths: Paths, container: str) -> str:
    """Where the journal of a container's live run lies."""
    return f"{paths.run}/{container}{SUFFIX}"


def create_journal(paths: Paths, container: str) -> Journal:
    """A new, locked journal; StateError if the last run's is still there."""
    for directory in (paths.evidence, paths.run):
        os.makedirs(directory, mode=0o700, exist_ok=True)
    path = get_journal_path(paths, container)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise StateError(
            f"container {container[:12]}: the last run is not closed ({path} exists): any docklock "
            "command closes it once its supervisor is gone"
        ) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, JOURNAL_BYTES)
        os.posix_fallocate(fd, 0, attempts.HALVES_OFFSET + attempts.STEP_BYTES)
        return Journal(path, fd)
    except OSError as error:
        os.unlink(path)
        os.close(fd)
        raise StateError(
            f"{path}: cannot make a journal of {JOURNAL_BYTES} bytes: {error}"
        ) from None


def lock_journal(path: str) -> int | None:
    """A locked descriptor of a dead run's journal; None if a supervisor holds it.

    An empty one is made if it is gone, as after a boot: one command alone is to close the run.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(path).st_ino == os.fstat(fd).st_ino:
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(fd)
    return None


class FileHead(NamedTuple):
    """Whose journal it is, and since which boot."""

    container: bytes
    run: int
    boot: bytes


def read_file_head(data: bytes) -> FileHead | None:
    """None if the writer died before it named them."""
    return parse_file_head(data) if len(data) >= JOURNAL_BYTES else None


def parse_file_head(page: bytes) -> FileHead | None:
    """As read_file_head, of the first page."""
    if len(page) < _FILE_HEAD.size:
        return None
    magic, *named = _FILE_HEAD.unpack_from(page)
    return FileHead(*named) if magic == MAGIC else None


def iterate_records(data: bytes) -> Iterator[Record]:
    """The records of both halves, older half first, each up to its end or the first torn one."""
    halves = []
    for number in range(2):
        start = HALVES_OFFSET + number * HALF_BYTES
        generation, _, check = _HALF_HEAD.unpack_from(data, start)
        head = data[start : start + 16]
        if generation and check == blake3(head).digest(CHECK_BYTES):
            halves.append((generation, start))
    for _, start in sorted(halves):
        yield from _iterate_half(data, start + _HALF_HEAD.size, start + HALF_BYTES)


def _iterate_half(data: bytes, pos: int, end: int) -> Iterator[Record]:
    while pos + RECORD_EXTRA_BYTES <= end:
        size, kind = _RECORD_HEAD.unpack_from(data, pos)
        start = pos + _RECORD_HEAD.size
        pos = start + size + CHECK_BYTES
        if size == 0 or pos + len(_END) > end:
            return
        yield Record(kind, data[start : start + size], data[pos - CHECK_BYTES : pos])
