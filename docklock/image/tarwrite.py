"""Writes tar headers: ustar, with a pax header only for what ustar cannot say.

Not here: reading (tar), walking a directory (tree). Pure; the same entry always gives the same
bytes. Source: POSIX.1-2017 pax, "ustar Interchange Format" and "pax Extended Header".
"""

from __future__ import annotations

from docklock.image import tar
from docklock.image.tar import BLOCK_BYTES, NANO, XATTR, TarEntry

END = bytes(2 * BLOCK_BYTES)
NAME_BYTES_MAX = 100
ID_MAX = 0o7777777
SIZE_MAX = 0o77777777777
_TYPES = {
    tar.FILE: b"0",
    tar.HARD_LINK: b"1",
    tar.SYMLINK: b"2",
    tar.CHAR: b"3",
    tar.BLOCK: b"4",
    tar.DIRECTORY: b"5",
    tar.FIFO: b"6",
}


def encode_header(entry: TarEntry) -> bytes:
    """The header blocks of an entry; its data and `encode_padding` follow."""
    records = b"".join(_encode_record(key, value) for key, value in _get_records(entry))
    header = _encode_block(entry, _TYPES[entry.kind])
    if not records:
        return header
    pax = TarEntry(b"pax", tar.FILE, 0o644, 0, 0, 0, len(records))
    return _encode_block(pax, b"x") + records + encode_padding(len(records)) + header


def encode_padding(size_bytes: int) -> bytes:
    """Zeros from the end of the data to the next block."""
    return bytes(-size_bytes % BLOCK_BYTES)


def _get_records(entry: TarEntry) -> list[tuple[bytes, bytes]]:
    seconds, nanos = divmod(entry.mtime_ns, NANO)
    found = []
    if len(entry.name) > NAME_BYTES_MAX:
        found.append((b"path", entry.name))
    if len(entry.link) > NAME_BYTES_MAX:
        found.append((b"linkpath", entry.link))
    if nanos or not 0 <= seconds <= SIZE_MAX:
        found.append((b"mtime", _encode_time(entry.mtime_ns)))
    for key, value, most in (
        (b"uid", entry.uid, ID_MAX),
        (b"gid", entry.gid, ID_MAX),
        (b"size", entry.size_bytes, SIZE_MAX),
    ):
        if value > most:
            found.append((key, b"%d" % value))
    found += [(XATTR + key, value) for key, value in sorted(entry.xattrs)]
    return found


def _encode_time(mtime_ns: int) -> bytes:
    seconds, nanos = divmod(abs(mtime_ns), NANO)
    return b"%s%d.%09d" % (b"-" if mtime_ns < 0 else b"", seconds, nanos)


def _encode_record(key: bytes, value: bytes) -> bytes:
    """`LENGTH key=value\\n`, where LENGTH counts its own digits too."""
    body = b" %s=%s\n" % (key, value)
    length = len(body)
    while length != len(body) + len(b"%d" % length):
        length = len(body) + len(b"%d" % length)
    return b"%d" % length + body


def _encode_block(entry: TarEntry, kind: bytes) -> bytes:
    seconds = entry.mtime_ns // NANO
    fields = (
        entry.name[:NAME_BYTES_MAX].ljust(100, b"\0"),
        b"%07o\0" % entry.mode,
        b"%07o\0" % min(entry.uid, ID_MAX),
        b"%07o\0" % min(entry.gid, ID_MAX),
        b"%011o\0" % min(entry.size_bytes, SIZE_MAX),
        b"%011o\0" % min(max(seconds, 0), SIZE_MAX),
        b"        ",
        kind,
        entry.link[:NAME_BYTES_MAX].ljust(100, b"\0"),
        b"ustar\x0000",
        bytes(64),
        b"%07o\0%07o\0" % entry.device,
        bytes(167),
    )
    block = bytearray(b"".join(fields))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)
