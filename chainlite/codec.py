"""Canonical bytes: u8 tag, u16 version, fields in declared order, big-endian.

Variable bytes are a u32 length and the bytes; there are no optional fields and no floats. Not
here: what the fields mean (receipt, segment, hostlog). Invariant: for every accepted input,
encoding the decoded value gives the same bytes. Source: README.md of this room.
"""

from __future__ import annotations

import struct

from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NoReturn

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_I32 = struct.Struct(">i")
U64_MAX = 2**64 - 1


def encode_head(tag: bytes, version: int) -> bytes:
    """The first three bytes of every object: its tag and its version."""
    return tag + _U16.pack(version)


def encode_u8(value: int) -> bytes:
    """One byte."""
    return value.to_bytes(1, "big")


def encode_u32(value: int) -> bytes:
    """Four bytes."""
    return _U32.pack(value)


def encode_u64(value: int) -> bytes:
    """Eight bytes."""
    return _U64.pack(value)


def encode_i32(value: int) -> bytes:
    """Four bytes, two's complement."""
    return _I32.pack(value)


def encode_bytes(value: bytes) -> bytes:
    """A u32 length and the bytes."""
    return _U32.pack(len(value)) + value


def encode_text(value: str) -> bytes:
    """UTF-8 as encode_bytes writes it."""
    return encode_bytes(value.encode())


class Reader:
    """Reads one object from its first byte to its last; every refusal names object and offset."""

    __slots__ = ("_data", "_pos", "_what")

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._pos = 0
        self._what = what

    def refuse(self, why: str) -> NoReturn:
        """Raise SpecError for the field just read."""
        raise SpecError(f"{self._what}: {why} (byte {self._pos} of {len(self._data)})")

    def read_head(self, tag: bytes, version: int) -> None:
        """The tag and the version, which must be these."""
        found = self.read_fixed(1)
        if found != tag:
            self.refuse(f"starts with {found.hex()}, not {tag.hex()}")
        number = self.read_u16()
        if number != version:
            self.refuse(f"version {number} is not known; this program reads {version}")

    def read_fixed(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        end = self._pos + size
        if end > len(self._data):
            self.refuse(f"ends early: {size} bytes wanted")
        value = self._data[self._pos : end]
        self._pos = end
        return value

    def read_u8(self, *, limit: int = 255) -> int:
        """One byte, at most `limit`."""
        value = self.read_fixed(1)[0]
        if value > limit:
            self.refuse(f"value {value} is above {limit}")
        return value

    def read_u16(self, *, limit: int = 0xFFFF) -> int:
        """Two bytes."""
        value: int = _U16.unpack(self.read_fixed(2))[0]
        if value > limit:
            self.refuse(f"value {value} is above {limit}")
        return value

    def read_u32(self, *, limit: int = 0xFFFFFFFF) -> int:
        """Four bytes."""
        value: int = _U32.unpack(self.read_fixed(4))[0]
        if value > limit:
            self.refuse(f"value {value} is above {limit}")
        return value

    def read_u64(self) -> int:
        """Eight bytes."""
        value: int = _U64.unpack(self.read_fixed(8))[0]
        return value

    def read_i32(self) -> int:
        """Four bytes, two's complement."""
        value: int = _I32.unpack(self.read_fixed(4))[0]
        return value

    def read_bytes(self, limit: int) -> bytes:
        """A u32 length, at most `limit`, and the bytes."""
        size: int = _U32.unpack(self.read_fixed(4))[0]
        if size > limit:
            self.refuse(f"length {size} is above the limit of {limit}")
        return self.read_fixed(size)

    def read_list(self, count: int, limit: int) -> list[bytes]:
        """As read_bytes so many times; each call by itself costs as much as what it reads."""
        data, at, end, unpack = self._data, self._pos, len(self._data), _U32.unpack_from
        found = []
        for _ in range(count):
            self._pos = at
            if at + 4 > end:
                self.refuse("ends early: 4 bytes wanted")
            size: int = unpack(data, at)[0]
            at += 4
            if size > limit:
                self.refuse(f"length {size} is above the limit of {limit}")
            if at + size > end:
                self.refuse(f"ends early: {size} bytes wanted")
            found.append(data[at : at + size])
            at += size
        self._pos = at
        return found

    def read_text(self, limit: int) -> str:
        """As read_bytes, and UTF-8."""
        value = self.read_bytes(limit)
        try:
            return value.decode()
        except UnicodeDecodeError:
            self.refuse("is not UTF-8")

    def is_finished(self) -> bool:
        """Whether all is read."""
        return self._pos == len(self._data)

    def finish(self) -> None:
        """Refuse bytes after the last field."""
        if self._pos != len(self._data):
            self.refuse(f"{len(self._data) - self._pos} bytes too many")
