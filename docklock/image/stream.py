"""Byte streams of archives: what is compressed is told by its first bytes and undone.

Not here: what the bytes mean (tar, document). Every way in which a compressed stream can be
malformed comes out as SpecError; reading errors of the machine stay OSError.
Source: RFC 1952 (gzip), RFC 8878 (zstd), the .xz file format, bzip2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import IO, Protocol, cast

from chainlite.errors import SpecError

CHUNK_BYTES = 1 << 20
XZ_MEMORY_BYTES_MAX = 256 << 20

# Unpacked bytes per packed byte, counted only once the stream is past RATIO_FREE_BYTES.
RATIO_MAX = 250
RATIO_FREE_BYTES = 1 << 30

MAGICS = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
)
SKIPPABLE_ZSTD = (0x184D2A50, 0x184D2A5F)


class Readable(Protocol):
    """`read(n)` gives at most n bytes, and none only at the end."""

    def read(self, size: int, /) -> bytes: ...


class Tap:
    """Passes a stream through: counts it, hashes it and shows each chunk to `sink`."""

    def __init__(self, inner: Readable, sink: Callable[[bytes], object] | None = None) -> None:
        self._inner = inner
        self._sink = sink
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def read(self, size: int, /) -> bytes:
        data = self._inner.read(size)
        if data:
            self._hash.update(data)
            self.size_bytes += len(data)
            if self._sink is not None:
                self._sink(data)
        return data

    def drain(self) -> None:
        """Reads what is left, so that the digest covers the whole stream."""
        while self.read(CHUNK_BYTES):
            pass

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


class Peeked:
    """A stream whose first bytes were looked at and are given again."""

    def __init__(self, inner: Readable, size: int) -> None:
        self._inner = inner
        head = b""
        while len(head) < size and (data := inner.read(size - len(head))):
            head += data
        self.head = head
        self._left = head

    def read(self, size: int = -1, /) -> bytes:
        if self._left and size != 0:
            cut = len(self._left) if size < 0 else size
            data, self._left = self._left[:cut], self._left[cut:]
            return data
        return self._inner.read(size)


class Unpacked:
    """The bytes of a stream after decompression; says where a malformed one is."""

    def __init__(self, packed: Readable, where: str) -> None:
        self._packed = Tap(packed)
        peeked = Peeked(self._packed, 6)
        self.kind = get_compression(peeked.head)
        self._where = where
        self._file = _open_unpacker(peeked, self.kind)
        self._errors = _get_errors(self.kind)
        self._given_bytes = 0

    def read(self, size: int, /) -> bytes:
        try:
            data = self._file.read(size)
        except self._errors as error:
            at = f"near byte {self._packed.size_bytes}"
            raise SpecError(f"{self._where}: {at}: malformed {self.kind} data: {error}") from None
        self._given_bytes += len(data)
        self._check_ratio()
        return data

    def _check_ratio(self) -> None:
        limit = max(RATIO_FREE_BYTES, self._packed.size_bytes * RATIO_MAX)
        if self.kind != "none" and self._given_bytes > limit:
            packed = self._packed.size_bytes
            raise SpecError(
                f"{self._where}: {packed} bytes of {self.kind} give more than {limit} bytes:"
                f" over {RATIO_MAX} to 1 it is taken for a decompression bomb"
            )


def get_compression(head: bytes) -> str:
    """`gzip`, `zstd`, `xz`, `bzip2` or `none`, by the first six bytes."""
    for magic, kind in MAGICS:
        if head.startswith(magic):
            return kind
    low, high = SKIPPABLE_ZSTD
    return "zstd" if low <= int.from_bytes(head[:4], "little") <= high else "none"


class _Decompressor(Protocol):
    """What bz2, lzma and zstd have in common."""

    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Members:
    """Decompressed members one after the other; the library's files pass over a bad second one."""

    def __init__(self, packed: Readable, make: Callable[[], object]) -> None:
        self._packed = packed
        self._make = make
        self._rest = b""
        self._member: _Decompressor | None = None

    def read(self, size: int, /) -> bytes:
        while True:
            member = self._member or self._start()
            if member is None:
                return b""
            data = b""
            if member.needs_input:
                data, self._rest = self._rest or self._packed.read(CHUNK_BYTES), b""
                if not data:
                    raise EOFError("it is cut off")
            found = member.decompress(data, size)
            if member.eof:
                self._rest, self._member = member.unused_data, None
            if found:
                return found

    def _start(self) -> _Decompressor | None:
        """The next member; xz may pad with zeros between and after them."""
        while not self._rest:
            data = self._packed.read(CHUNK_BYTES)
            if not data:
                return None
            self._rest = data.lstrip(b"\0")
        self._member = cast("_Decompressor", self._make())
        return self._member


def _open_unpacker(packed: Peeked, kind: str) -> Readable:
    if kind == "gzip":
        import gzip

        return gzip.GzipFile(fileobj=cast("IO[bytes]", packed), mode="rb")
    if kind == "zstd":
        from backports.zstd import ZstdDecompressor

        return _Members(packed, ZstdDecompressor)
    if kind == "xz":
        import lzma

        return _Members(packed, lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY_BYTES_MAX))
    if kind == "bzip2":
        import bz2

        return _Members(packed, bz2.BZ2Decompressor)
    return packed


def _get_errors(kind: str) -> tuple[type[Exception], ...]:
    if kind == "gzip":
        import gzip
        import zlib

        return (EOFError, MemoryError, zlib.error, gzip.BadGzipFile)
    if kind == "zstd":
        from backports.zstd import ZstdError

        return (EOFError, MemoryError, ZstdError)
    if kind == "xz":
        import lzma

        return (EOFError, MemoryError, lzma.LZMAError)
    # bz2 has no error class of its own: it raises OSError without an errno.
    return (EOFError, MemoryError, OSError) if kind == "bzip2" else ()
