"""One file of taken ranges: a snapshot of what was known before, then a frame for each range.

A frame is u32 size, 16 bytes of BLAKE3(tag || u64 place in the file || payload), payload. The first
payload is a host's snapshot (bodies.encode_taken) and the note it reached, each as bytes; each
further one is u64 start and u64 end of a range, what it made of the host (bytes), the note that it
reached (bytes; none where it reached none), and its items. Not here: what ranges mean (bodies),
which file is next (body_store). Invariants: a frame counts whole or not at all; what `append` wrote
is durable after `sync`; a file appears under its name with its snapshot durable in it.
Who edits a frame gains nothing: leaves hash to roots that hosts sign and the chain anchors.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, NamedTuple

from blake3 import blake3

from chainlite import domains
from chainlite.codec import Reader, encode_bytes
from chainlite.errors import SpecError, StateError
from chainlite.ledger.offer import OFFER_LIMIT_BYTES, Item, encode_items, read_items
from chainlite.note import NOTE_LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"DOCKLOCK-BODIES\x00\x00\x01"
CHECK_BYTES = 16
STATE_LIMIT_BYTES = 64 << 20
FRAME_LIMIT_BYTES = OFFER_LIMIT_BYTES + STATE_LIMIT_BYTES + NOTE_LIMIT_BYTES + 64
_HEAD = struct.Struct(f">I{CHECK_BYTES}s")
_PLACE = struct.Struct(">QQQ")


class Frame(NamedTuple):
    """A frame at `offset`, up to `end`; `payload` is None where its check does not hold."""

    offset: int
    end: int
    payload: bytes | None


class Snapshot(NamedTuple):
    """What was known when a file was begun: the encoded Taken, and the newest note reached."""

    taken: bytes
    note: bytes


class Record(NamedTuple):
    """A range that was taken: leaves [start, end), the encoded Taken, the host's checkpoint of
    `end` if there is one, the items."""

    start: int
    end: int
    taken: bytes
    note: bytes
    items: tuple[Item, ...]


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """The payload of a file's first frame."""
    return encode_bytes(snapshot.taken) + encode_bytes(snapshot.note)


def decode_snapshot(payload: bytes) -> Snapshot:
    """What a first frame says; SpecError if it is none."""
    reader = Reader(payload, "snapshot")
    found = Snapshot(reader.read_bytes(STATE_LIMIT_BYTES), reader.read_bytes(NOTE_LIMIT_BYTES))
    reader.finish()
    return found


def encode_record(record: Record) -> bytes:
    """The payload of a range's frame."""
    place = struct.pack(">QQ", record.start, record.end)
    head = place + encode_bytes(record.taken) + encode_bytes(record.note)
    return head + encode_items(record.items)


def decode_record(payload: bytes) -> Record:
    """The range in a frame; SpecError if it is none."""
    reader = Reader(payload, "taken range")
    place = reader.read_u64(), reader.read_u64()
    head = reader.read_bytes(STATE_LIMIT_BYTES), reader.read_bytes(NOTE_LIMIT_BYTES)
    record = Record(*place, *head, read_items(reader))
    reader.finish()
    return record


def encode_frame(offset: int, payload: bytes) -> bytes:
    """A frame as it lies at this place of its file."""
    return _HEAD.pack(len(payload), _compute_check(offset, payload)) + payload


def iterate_frames(fd: int, offset: int = len(MAGIC)) -> Iterator[Frame]:
    """The frames from `offset` on; the last one has no payload where it is cut, or its size bad."""
    size = os.fstat(fd).st_size
    while offset < size:
        head = os.pread(fd, _HEAD.size, offset)
        length, check = _HEAD.unpack(head) if len(head) == _HEAD.size else (size, b"")
        end = offset + _HEAD.size + length
        if length > FRAME_LIMIT_BYTES or end > size:
            yield Frame(offset, size, None)
            return
        payload = os.pread(fd, length, offset + _HEAD.size)
        is_whole = len(payload) == length and _compute_check(offset, payload) == check
        yield Frame(offset, end, payload if is_whole else None)
        offset = end


def find_frame(fd: int, leaf: int) -> int:
    """The offset of the first range that ends after this leaf, as the frames' own places say.

    Where one does not read, the search ends there: whoever reads on sees why.
    """
    size, offset = os.fstat(fd).st_size, len(MAGIC)
    is_first = True
    while offset < size:
        data = os.pread(fd, _PLACE.size + CHECK_BYTES, offset)
        if len(data) < _HEAD.size + 16:
            return offset
        length = int.from_bytes(data[:4], "big")
        end = int.from_bytes(data[_HEAD.size + 8 : _HEAD.size + 16], "big")
        if not is_first and end > leaf:
            return offset
        is_first = False
        offset += _HEAD.size + length
    return size


def _compute_check(offset: int, payload: bytes) -> bytes:
    head = domains.BODIES_FRAME + offset.to_bytes(8, "big")
    return blake3(head + payload).digest(length=CHECK_BYTES)


class BodyFile:
    """A file that ranges are appended to, by one process."""

    __slots__ = ("_synced", "fd", "path", "size")

    def __init__(self, path: str, size: int) -> None:
        """Open a file whose first `size` bytes are whole; what lies behind them is cut off."""
        self.path, self.size = path, size
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._synced = True
        if os.fstat(self.fd).st_size != size:
            os.ftruncate(self.fd, size)
            os.fdatasync(self.fd)

    def append(self, payload: bytes) -> None:
        """Write a frame, durable after `sync`; StateError if there is no room, and nothing changed.

        Any other failure leaves the file as the next open finds it, and is the caller's end.
        """
        data = encode_frame(self.size, payload)
        self._synced = False
        try:
            _write_all(self.fd, data, self.size)
        except OSError as error:
            os.ftruncate(self.fd, self.size)
            raise StateError(f"{self.path}: cannot be written: {error.strerror}") from None
        self.size += len(data)

    def sync(self) -> None:
        """All that was appended is durable; one fdatasync, none if nothing was."""
        if not self._synced:
            os.fdatasync(self.fd)
            self._synced = True

    def close(self) -> None:
        """Close it; what was not synced may be lost."""
        os.close(self.fd)


def create_file(path: str, frames: list[bytes]) -> BodyFile:
    """A file of these payloads, the snapshot first: whole under its name, or absent."""
    part = f"{path}.part"
    try:
        fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            size = _write_all(fd, MAGIC, 0)
            for payload in frames:
                size += _write_all(fd, encode_frame(size, payload), size)
            os.fdatasync(fd)
        finally:
            os.close(fd)
        os.rename(part, path)
        sync_directory(os.path.dirname(path))
    except OSError as error:
        raise StateError(f"{path}: cannot be written: {error.strerror}") from None
    return BodyFile(path, size)


def sync_directory(path: str) -> None:
    """The names in a directory are durable."""
    sync_file(path, os.O_DIRECTORY)


def sync_file(path: str, flags: int = 0) -> None:
    """What is in a file is durable."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_for_reading(path: str) -> int:
    """A descriptor; SpecError if it is no file of ranges."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    if os.pread(fd, len(MAGIC), 0) != MAGIC:
        os.close(fd)
        raise SpecError(f"{path}: not a file of bodies")
    return fd


def _write_all(fd: int, data: bytes, offset: int) -> int:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count
    return len(data)
