"""Read another process's memory, as root can: find a key's page, and search for a secret."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha512
from pathlib import Path
from typing import NamedTuple

SECRET_BYTES = 64
KERNEL_HALF = 1 << 63


class Mapping(NamedTuple):
    """A mapping of a process: where, its permissions, and its VmFlags of smaps."""

    start: int
    end: int
    mode: str
    flags: frozenset[str]


def get_mappings(pid: int) -> list[Mapping]:
    """All mappings of a process, in order."""
    found: list[Mapping] = []
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if words[0] == "VmFlags:":
            found[-1] = found[-1]._replace(flags=frozenset(words[1:]))
        elif not words[0].endswith(":"):
            start, end = (int(part, 16) for part in words[0].split("-"))
            found.append(Mapping(start, end, words[1], frozenset()))
    return found


def get_guarded(pid: int) -> list[Mapping]:
    """The locked mappings that no core dump and no child gets."""
    return [mapping for mapping in get_mappings(pid) if {"lo", "dc", "dd"} <= mapping.flags]


def read_memory(pid: int) -> Iterator[bytes]:
    """The bytes of each mapping that can be read."""
    fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        for start, end, _, _ in get_mappings(pid):
            if start >= KERNEL_HALF:
                continue
            try:
                yield os.pread(fd, end - start, start)
            except OSError:
                continue  # vvar
    finally:
        os.close(fd)


def find_secrets(pid: int) -> dict[bytes, bytes]:
    """Public key -> 64-byte secret of each key in the guarded pages of a process."""
    fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        pages = [os.pread(fd, SECRET_BYTES, found.start) for found in get_guarded(pid)]
    finally:
        os.close(fd)
    return {page[32:]: page for page in pages if any(page)}


def get_traces(secret: bytes) -> tuple[bytes, ...]:
    """What would let somebody sign: the seed, and both halves of what Ed25519 makes of it."""
    expanded = sha512(secret[:32]).digest()
    clamped = bytes([expanded[0] & 248, *expanded[1:31], expanded[31] & 63 | 64])
    return secret[:32], expanded[:32], clamped, expanded[32:]


def count_in_memory(pid: int, secret: bytes) -> int:
    """How often any trace of a secret is in a process's memory."""
    traces = get_traces(secret)
    return sum(data.count(trace) for data in read_memory(pid) for trace in traces)


def find_in_files(top: Path, secret: bytes) -> list[Path]:
    """The files below `top` that hold any trace of a secret."""
    traces = get_traces(secret)
    files = [path for path in top.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if any(trace in path.read_bytes() for trace in traces)]
