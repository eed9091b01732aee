"""An archive on disk that is read where it lies: its files' data is not written a second time.

The entries of an uncompressed tar are unpacked as ever, links and all, but regular files stay
empty, and it is noted where in the archive their data is. Not here: reading tar (tar), finding
names (folder). Invariants: what is given is at most the entry's bytes; an entry that ends behind
the end of the archive is refused; who changes the archive meanwhile changes what is read, whose
digests are checked on that reading and no other.
"""

from __future__ import annotations

import io
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from docklock.image.stream import Readable, get_compression
from docklock.image.tar import TarReader

if TYPE_CHECKING:
    from docklock.image.tar import TarEntry

MAGIC_BYTES = 6


class Held(NamedTuple):
    """The archive's descriptor, and by inode where a file's data begins and how much it is."""

    file: int
    places: dict[int, tuple[int, int]]


class Slice(io.RawIOBase):
    """The data of one entry, from its start."""

    def __init__(self, file: int, offset: int, size: int) -> None:
        super().__init__()
        self._file, self._at, self._end = os.dup(file), offset, offset + size

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """At most `size` bytes; all that is left for -1."""
        left = self._end - self._at
        data = os.pread(self._file, left if size is None or size < 0 else min(size, left), self._at)
        self._at += len(data)
        return data

    def readall(self) -> bytes:
        """All that is left."""
        parts = []
        while part := self.read(self._end - self._at):
            parts.append(part)
        return b"".join(parts)

    def close(self) -> None:
        """Let the archive go."""
        if not self.closed:
            os.close(self._file)
        super().close()


class PlacingReader(TarReader):
    """Walks an archive by seeking; notes where the data of a regular file is."""

    def __init__(self, file: int, where: str) -> None:
        super().__init__(_Stream(file), where)
        self._file, self._end = file, os.fstat(file).st_size
        self.places: dict[int, tuple[int, int]] = {}

    def copy_data(self, file: int, entry: TarEntry) -> None:
        """Note where it is; a file with holes is written."""
        inode = os.fstat(file).st_ino
        if entry.sparse is not None:
            self.places.pop(inode, None)  # of a file that this one's entry replaced
            super().copy_data(file, entry)
            return
        size = entry.size_bytes
        self.places[inode] = self.offset_bytes, size
        self._data_left -= size
        self._skip(size)

    def _skip(self, size: int) -> None:
        here = min(size, len(self._chunk) - self._at)
        self._at += here
        if size > here:
            self._chunk_offset += self._at + size - here
            self._chunk, self._at = memoryview(b""), 0
            if self._chunk_offset > self._end:
                raise self.error("the archive is cut off")
            os.lseek(self._file, self._chunk_offset, os.SEEK_SET)


class _Stream:
    def __init__(self, file: int) -> None:
        self._file = file

    def read(self, size: int, /) -> bytes:
        return os.read(self._file, size)


def find_file(stream: Readable) -> int | None:
    """The descriptor of an uncompressed archive that lies on a disk, at its start; else None."""
    if not isinstance(stream, io.RawIOBase | io.BufferedIOBase):
        return None
    try:
        file = stream.fileno()
    except OSError:  # it is none of the kernel's
        return None
    is_file = stat.S_ISREG(os.fstat(file).st_mode)
    if not is_file or stream.tell() or get_compression(os.pread(file, MAGIC_BYTES, 0)) != "none":
        return None
    os.lseek(file, 0, os.SEEK_SET)
    return file
