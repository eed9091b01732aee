"""Reads tar streams strictly: ustar, pax and GNU headers, one entry after the other, never seeking.

Not here: what an entry does to a directory (unpack), sparse maps (sparse), writing (tarwrite).
The standard library's tarfile is not used because it takes a spoilt header in the middle of an
archive for its end, and because this reader's input is hostile. Names are bytes, as in the kernel.
Invariants: a header with a wrong checksum, a bad number or an unknown type is a SpecError that
names the entry and its offset; after the end there is nothing but zeros.
Source: POSIX.1-2017 pax, "pax Interchange Format"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from chainlite.errors import SpecError
from docklock.image.sparse import SparseMap, parse_map_text, parse_map_texts, parse_old_map
from docklock.image.stream import CHUNK_BYTES, Readable

BLOCK_BYTES = 512
META_BYTES_MAX = 1 << 20
META_HEADERS_MAX = 16
NUMBER_MAX = 1 << 62
NANO = 1_000_000_000

FILE, HARD_LINK, SYMLINK = "file", "link", "symlink"
CHAR, BLOCK, DIRECTORY, FIFO = "char", "block", "dir", "fifo"
_KINDS = {
    b"0": FILE,
    b"\0": FILE,
    b"7": FILE,
    b"S": FILE,
    b"1": HARD_LINK,
    b"2": SYMLINK,
    b"3": CHAR,
    b"4": BLOCK,
    b"5": DIRECTORY,
    b"6": FIFO,
}
_ZEROS = bytes(BLOCK_BYTES)
XATTR = b"SCHILY.xattr."


class TarEntry(NamedTuple):
    """One member. `size_bytes` follow in the stream; a sparse file is `sparse.size_bytes` long."""

    name: bytes
    kind: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size_bytes: int
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    sparse: SparseMap | None = None


class EntryError(SpecError):
    """A SpecError whose text names its archive and entry already."""


class TarReader:
    """Walks one archive. Take an entry's data with `copy_to` before asking for the next entry."""

    def __init__(self, stream: Readable, where: str) -> None:
        self._stream = stream
        self.where = where
        self._chunk = memoryview(b"")
        self._at = 0
        self._chunk_offset = 0
        self._data_left = 0
        self._padding = 0
        self._name = b""
        self.is_ended = False

    @property
    def offset_bytes(self) -> int:
        return self._chunk_offset + self._at

    def error(self, reason: str, name: bytes | None = None) -> EntryError:
        """The error for the entry at hand."""
        shown = show_name(self._name if name is None else name)
        entry = f"entry {shown}" if shown else "the first header"
        return EntryError(f"{self.where}: {entry} (near byte {self.offset_bytes}): {reason}")

    def __iter__(self) -> Iterator[TarEntry]:
        while (entry := self._read_entry()) is not None:
            yield entry

    def copy_to(self, file: int, size: int) -> None:
        """Writes the next `size` data bytes of the entry to a descriptor."""
        self._data_left -= size
        while size:
            part = self._take_some(size)
            size -= len(part)
            while part:
                part = part[os.write(file, part) :]

    def copy_data(self, file: int, entry: TarEntry) -> None:
        """Writes all data of the entry to a new file, with its holes."""
        if entry.sparse is None:
            self.copy_to(file, entry.size_bytes)
            return
        for offset, length in entry.sparse.segments:
            os.lseek(file, offset, os.SEEK_SET)
            self.copy_to(file, length)
        os.ftruncate(file, entry.sparse.size_bytes)

    def _read_entry(self) -> TarEntry | None:
        self._skip(self._data_left + self._padding)
        self._data_left = self._padding = 0
        records: dict[bytes, list[bytes]] = {}
        for _ in range(META_HEADERS_MAX):
            header = self._take_header(is_first=not records)
            if header is None:
                return None
            kind = header[156:157]
            if kind not in b"xgLKX" or not kind:
                return self._build(header, records)
            self._read_meta(header, kind, records)
        raise self.error(f"more than {META_HEADERS_MAX} extension headers in a row")

    def _take_header(self, *, is_first: bool) -> bytes | None:
        header = self._take(BLOCK_BYTES, is_end_legal=is_first)
        if header and header != _ZEROS:
            self._check_sum(header)
            return header
        if not is_first:
            raise self.error("an extension header with no entry after it")
        self.is_ended = bool(header)
        while header:
            if header.count(0) != len(header):
                raise self.error("data after the end of the archive")
            header = bytes(self._take_some(CHUNK_BYTES, is_end_legal=True))
        return None

    def _check_sum(self, header: bytes) -> None:
        rest = header[:148] + b"        " + header[156:]
        found = self._number(header[148:156], "checksum")
        if found != sum(rest):
            signed = sum(byte - 256 if byte > 127 else byte for byte in rest)
            if found != signed:
                raise self.error("the header after this one has a wrong checksum")

    def _read_meta(self, header: bytes, kind: bytes, records: dict[bytes, list[bytes]]) -> None:
        size = self._number(header[124:136], "size")
        if size > META_BYTES_MAX:
            raise self.error(f"an extension header of {size} bytes, at most {META_BYTES_MAX}")
        data = self._take(size)
        self._skip(-size % BLOCK_BYTES)
        if kind == b"L":
            records[b"path"] = [data.rstrip(b"\0")]
        elif kind == b"K":
            records[b"linkpath"] = [data.rstrip(b"\0")]
        elif kind == b"g":
            if self._parse_pax(data).keys() - {b"comment"}:
                raise self.error("a global pax header with more than a comment is not supported")
        else:
            records.update(self._parse_pax(data))
        records.setdefault(b"", [])

    def _parse_pax(self, data: bytes) -> dict[bytes, list[bytes]]:
        found: dict[bytes, list[bytes]] = {}
        at = 0
        while at < len(data):
            space = data.find(b" ", at, at + 9)
            digits = data[at:space] if space > 0 else b""
            end = at + int(digits) if digits.isdigit() else 0
            key, equals, value = data[space + 1 : end - 1].partition(b"=")
            if not space < end <= len(data) or data[end - 1 : end] != b"\n" or not equals:
                raise self.error(f"malformed pax header at its byte {at}")
            found.setdefault(key, []).append(value)
            at = end
        return found

    def _build(self, header: bytes, records: dict[bytes, list[bytes]]) -> TarEntry:
        pax = {key: values[-1] for key, values in records.items() if values}
        self._name = name = pax.get(b"GNU.sparse.name") or pax.get(b"path") or _get_name(header)
        link = pax.get(b"linkpath") or header[157:257].partition(b"\0")[0]
        if b"\0" in name or b"\0" in link:
            raise self.error("a name with a NUL byte")
        kind = _KINDS.get(header[156:157])
        if kind is None:
            raise self.error(f"type {header[156:157]!r} is not supported")
        if kind == FILE and name.endswith(b"/") and header[156:157] in b"0\0":
            kind = DIRECTORY
        size = self._pax_number(pax, b"size", header[124:136])
        self._data_left = size if kind == FILE else 0
        self._padding = -self._data_left % BLOCK_BYTES
        sparse = self._read_sparse(header, pax, records) if kind == FILE else None
        return TarEntry(
            name=name,
            kind=kind,
            mode=self._number(header[100:108], "mode") & 0o7777,
            uid=self._pax_number(pax, b"uid", header[108:116]),
            gid=self._pax_number(pax, b"gid", header[116:124]),
            mtime_ns=self._mtime_ns(pax, header[136:148]),
            size_bytes=self._data_left,
            link=link,
            device=self._device(header) if kind in (CHAR, BLOCK) else (0, 0),
            xattrs=tuple(
                (key[len(XATTR) :], value) for key, value in pax.items() if key.startswith(XATTR)
            ),
            sparse=sparse,
        )

    def _read_sparse(
        self, header: bytes, pax: dict[bytes, bytes], records: dict[bytes, list[bytes]]
    ) -> SparseMap | None:
        try:
            if header[156:157] == b"S":
                extensions: list[bytes] = []
                more = header[482]
                while more and len(extensions) * 21 < META_BYTES_MAX // 24:
                    extensions.append(self._take(BLOCK_BYTES))
                    more = extensions[-1][504]
                size = self._number(header[483:495], "real size")
                found = parse_old_map(header[386:482], extensions, size, self._number)
            elif pax.get(b"GNU.sparse.major") == b"1":
                found = self._read_map(pax)
            elif b"GNU.sparse.map" in pax:
                found = parse_map_text(pax[b"GNU.sparse.map"].split(b","), pax)
            elif b"GNU.sparse.numblocks" in pax:
                found = parse_map_texts(records, pax)
            else:
                return None
        except ValueError as error:
            raise self.error(f"malformed sparse map: {error}") from None
        if found.data_bytes != self._data_left:
            raise self.error(
                f"the sparse map names {found.data_bytes} bytes, {self._data_left} follow"
            )
        return found

    def _read_map(self, pax: dict[bytes, bytes]) -> SparseMap:
        """pax 1.0: decimal numbers, one a line, the first their count, before the data."""
        text = bytearray()
        wanted = 1
        while text.count(b"\n") < wanted:
            if self._data_left < BLOCK_BYTES or len(text) > META_BYTES_MAX:
                raise ValueError("it has no end")
            text += self._take(BLOCK_BYTES)
            self._data_left -= BLOCK_BYTES
            count = text.partition(b"\n")[0]
            if not count.isdigit() or len(count) > 9:
                raise ValueError("its count is no number")
            wanted = 1 + 2 * int(count)
        return parse_map_text(bytes(text).split(b"\n")[1:wanted], pax)

    def _mtime_ns(self, pax: dict[bytes, bytes], field: bytes) -> int:
        text = pax.get(b"mtime")
        if text is None:
            return self._number(field, "mtime", is_negative_legal=True) * NANO
        seconds, _, fraction = text.partition(b".")
        digits = seconds.removeprefix(b"-")
        if not digits.isdigit() or len(digits) > 18 or (fraction and not fraction.isdigit()):
            raise self.error("mtime in the pax header is no number")
        nanos = int(fraction[:9].ljust(9, b"0"))
        sign = -1 if seconds.startswith(b"-") else 1
        return sign * (int(digits) * NANO + nanos)

    def _pax_number(self, pax: dict[bytes, bytes], key: bytes, field: bytes) -> int:
        text = pax.get(key)
        if text is None:
            return self._number(field, key.decode())
        if not text.isdigit() or len(text) > 18:
            raise self.error(f"{key.decode()} in the pax header is no number")
        return int(text)

    def _device(self, header: bytes) -> tuple[int, int]:
        major, minor = (
            self._number(header[329:337], "major"),
            self._number(header[337:345], "minor"),
        )
        if major >= 1 << 12 or minor >= 1 << 20:
            raise self.error(f"device {major}:{minor} does not exist on Linux")
        return major, minor

    def _number(self, field: bytes, what: str, *, is_negative_legal: bool = False) -> int:
        """Octal digits ended by space or NUL; or, with the first bit set, base 256 (GNU)."""
        if field[0] & 0x80:
            value = int.from_bytes(field, "big") - (0x80 << 8 * (len(field) - 1))
            if field[0] & 0x40:
                value -= 0x80 << 8 * (len(field) - 1)
        else:
            text = field.strip(b" \0")
            if text.strip(b"01234567"):
                raise self.error(f"{what} in a header is no number: {text!r}")
            value = int(text or b"0", 8)
        if not (-NUMBER_MAX if is_negative_legal else 0) <= value <= NUMBER_MAX:
            raise self.error(f"{what} in a header is out of range: {value}")
        return value

    def _take_some(self, size: int, *, is_end_legal: bool = False) -> memoryview:
        if self._at == len(self._chunk):
            self._chunk_offset += self._at
            self._at = 0
            self._chunk = memoryview(self._stream.read(CHUNK_BYTES))
            if not self._chunk and not is_end_legal:
                raise self.error("the archive is cut off")
        part = self._chunk[self._at : self._at + size]
        self._at += len(part)
        return part

    def _take(self, size: int, *, is_end_legal: bool = False) -> bytes:
        part = bytes(self._take_some(size, is_end_legal=is_end_legal)) if size else b""
        while part and len(part) < size:
            part += self._take_some(size - len(part))
        return part

    def _skip(self, size: int) -> None:
        while size:
            size -= len(self._take_some(size))


def show_name(name: bytes) -> str:
    """A name for a message: one line, no control characters."""
    text = name.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else ascii(text)[1:-1]


def _get_name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0]
    # Only POSIX headers have a prefix; GNU's magic is "ustar  " and keeps times there.
    return prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name
