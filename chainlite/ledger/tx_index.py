"""Where a transaction is, by its hash: sorted runs in the store, and the newest in memory.

A table keyed by hash would write a page for each transaction; a run is written once, at 20 bytes
for each, and searched by where its hash should stand, since hashes are evenly spread.
Not here: the store that owns the database (store). Invariants: runs follow each other in height and
with the newest cover all blocks; what is found is checked against the block by who asked.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

RUN_TXS = 32_768
"""A run is written once so many transactions are newer than the last one,"""
RUN_BLOCKS = 16_384
"""or so many blocks, which an opening store reads again."""
ENTRY = struct.Struct(">8sQI")
_PREFIX_BYTES = 8
_PREFIXES = 1 << 64
_SPREAD = 16
"""Entries read around the expected place: two standard deviations of a small run, then binary."""


class Place(NamedTuple):
    """A transaction's block and its number in it."""

    height: int
    position: int


class TxIndex:
    """The index of one store; `write_run` stands within its owner's transaction."""

    __slots__ = ("_db", "_new", "last")

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._new: dict[bytes, Place] = {}
        row = db.execute("SELECT max(last) FROM tx_runs").fetchone()
        self.last: int = -1 if row[0] is None else row[0]
        """The last height that is in a run."""

    def add(self, height: int, hashes: Sequence[bytes]) -> None:
        """The transactions of the next block."""
        for position, digest in enumerate(hashes):
            self._new[digest] = Place(height, position)

    def is_due(self, height: int) -> bool:
        """Whether a run should be written before the block at this height."""
        return len(self._new) >= RUN_TXS or height - self.last > RUN_BLOCKS

    def write_run(self, height: int) -> None:
        """Write all that is new, up to this height; `forget` once that is committed."""
        entries = sorted(
            ENTRY.pack(digest[:_PREFIX_BYTES], *place) for digest, place in self._new.items()
        )
        row = (height, len(entries), b"".join(entries))
        self._db.execute("INSERT INTO tx_runs (last, size, entries) VALUES (?, ?, ?)", row)

    def forget(self, height: int) -> None:
        """What `write_run` wrote is found there from now on."""
        self._new.clear()
        self.last = height

    def find(self, digest: bytes) -> list[Place]:
        """Where it may be, the newest first: more than one place only if prefixes are equal."""
        found = [self._new[digest]] if digest in self._new else []
        runs = self._db.execute("SELECT last, size FROM tx_runs ORDER BY last DESC").fetchall()
        for last, size in runs:
            found += self._search(last, size, digest[:_PREFIX_BYTES])
        return found

    def _search(self, last: int, size: int, prefix: bytes) -> list[Place]:
        expected = int.from_bytes(prefix, "big") * size // _PREFIXES
        spread = _SPREAD
        while True:
            start, end = max(0, expected - spread), min(size, expected + spread)
            entries = self._read(last, start, end)
            prefixes = [entry[:_PREFIX_BYTES] for entry in entries]
            below = start == 0 or (prefixes and prefixes[0] < prefix)
            above = end == size or (prefixes and prefixes[-1] > prefix)
            if below and above:
                break
            spread *= 4
        at, places = bisect_left(prefixes, prefix), []
        while at < len(entries) and prefixes[at] == prefix:
            places.append(Place(*ENTRY.unpack(entries[at])[1:]))
            at += 1
        return places

    def _read(self, last: int, start: int, end: int) -> list[bytes]:
        size = ENTRY.size
        row = self._db.execute(
            "SELECT substr(entries, ?, ?) FROM tx_runs WHERE last = ?",
            (start * size + 1, (end - start) * size, last),
        ).fetchone()
        data: bytes = row[0]
        return [data[at : at + size] for at in range(0, len(data), size)]
