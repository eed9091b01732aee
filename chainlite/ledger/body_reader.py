"""Read what a node holds of hosts' logs: leaves with bodies, and the hashes of subtrees.

Not here: writing (body_store). Safe beside the one writer, in another process too: a reader asks
only for what the writer has answered for. The file `nodes` of a host has the hash of each complete
subtree of its log in the order in which leaves complete them, so a subtree's place follows from its
level and number, and the file is appended to in one piece. Who edits any of this gains nothing:
leaves and hashes are read under roots that hosts have signed.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from typing import TYPE_CHECKING

from chainlite import merkle
from chainlite.errors import StateError, TamperError
from chainlite.ledger.body_file import decode_record, find_frame, iterate_frames, open_for_reading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chainlite.ledger.body_file import Record
    from chainlite.ledger.offer import Item

HASH_BYTES = 32
SUFFIX = ".bodies"
NODES = "nodes"


def count_nodes(size: int) -> int:
    """How many complete subtrees the logs of 1, 2, ... `size` leaves have had."""
    return 2 * size - size.bit_count()


class BodyReader:
    """The hosts' directories under one."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def get_path(self, host: bytes) -> str:
        """A host's directory."""
        return f"{self._directory}/{host.hex()}"

    def get_hosts(self) -> tuple[bytes, ...]:
        """The hosts of which anything is held, ascending."""
        names = [name for name in os.listdir(self._directory) if len(name) == 64]
        return tuple(sorted(bytes.fromhex(name) for name in names))

    def list_files(self, host: bytes) -> tuple[list[int], list[str]]:
        """The first leaves of a host's files, ascending, and their paths."""
        directory = self.get_path(host)
        names = sorted(name for name in os.listdir(directory) if name.endswith(SUFFIX))
        return [int(name[: -len(SUFFIX)]) for name in names], [f"{directory}/{n}" for n in names]

    def get_hash(self, host: bytes, level: int, number: int) -> bytes:
        """Hash of the complete subtree over leaves [number << level, (number + 1) << level)."""
        leaf = (number + 1 << level) - 1
        place = (count_nodes(leaf) + level) * HASH_BYTES
        fd = os.open(f"{self.get_path(host)}/{NODES}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            value = os.pread(fd, HASH_BYTES, place)
        finally:
            os.close(fd)
        if len(value) != HASH_BYTES:
            raise TamperError(f"{fd}: the hash at level {level}, number {number} is missing")
        return value

    def compute_root(self, host: bytes, size: int) -> bytes:
        """The root of the first `size` leaves, from the hashes that are kept."""
        return merkle.compute_tree_root(
            size, lambda level, number: self.get_hash(host, level, number)
        )

    def read(self, host: bytes, start: int, end: int, bytes_max: int) -> list[Item]:
        """Items from leaf `start` on, before `end`: one, and more while they fit into `bytes_max`.

        TamperError: the place is damaged and may be repaired (body_repair). StateError: it was
        forgotten.
        """
        firsts, paths = self.list_files(host)
        at = bisect_right(firsts, start) - 1
        if at < 0:
            raise StateError(f"bodies of host {host.hex()[:16]} before leaf {firsts[:1]} are gone")
        items: list[Item] = []
        for path in paths[at:]:
            for record in read_records(path, start):
                if record is None or record.start > start:
                    raise TamperError(
                        f"{path}: bodies of host {host.hex()[:16]} are damaged at leaf {start}"
                    )
                for item in record.items[start - record.start : end - record.start]:
                    bytes_max -= len(item.leaf) + len(item.body)
                    if bytes_max < 0 and items:
                        return items
                    items.append(item)
                    start += 1
                if start >= end:
                    return items
        return items


def read_records(path: str, leaf: int) -> Iterator[Record | None]:
    """The ranges of a file that end after this leaf; None for one that is damaged."""
    fd = open_for_reading(path)
    try:
        for frame in iterate_frames(fd, find_frame(fd, leaf)):
            record = decode_record(frame.payload) if frame.payload is not None else None
            if record is None or record.end > leaf:
                yield record
    finally:
        os.close(fd)
