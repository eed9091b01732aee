"""Read the two copies of a host log as they are, spoilt or not: host.db, and the files of `log/`.

Nothing here decides what is right (log_tree) or says what is wrong (log_check): what cannot be read
is None, or an empty text. Never writes; the database is opened read-only.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from chainlite import hostlog, merkle, tile
from chainlite.errors import SpecError, TamperError
from chainlite.hostkeys import HostKeys
from docklock.evidence.database import sqlite3

if TYPE_CHECKING:
    from typing import Any

    from docklock.paths import Paths

INTEGRITY_LINES_MAX = 20
COSIGNED_MAX = 64


class StateRow(NamedTuple):
    """What host.db says of itself."""

    size: int
    note: bytes


class Database:
    """host.db, read-only. `error` is why it could not be opened or read first, or empty."""

    def __init__(self, paths: Paths) -> None:
        """Open it; nothing is raised for a file that is missing or no database."""
        self.error = ""
        self._db: sqlite3.Connection | None = None
        if not os.path.exists(paths.host_db):
            self.error = "is missing"
            return
        try:
            self._db = sqlite3.connect(f"file:{paths.host_db}?mode=ro", uri=True, timeout=30)
            self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            self.error = str(error)

    def close(self) -> None:
        """Close it. Again does nothing."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def read_state(self) -> StateRow | None:
        """Size and note of the last commit."""
        rows = self._read("SELECT size, note FROM state", ())
        if not rows or not isinstance(rows[0][0], int) or not isinstance(rows[0][1], bytes):
            return None
        return StateRow(*rows[0])

    def read_cosigned(self) -> list[bytes]:
        """The checkpoints that others have signed, newest first."""
        rows = self._read("SELECT note FROM cosigned ORDER BY size DESC LIMIT ?", (COSIGNED_MAX,))
        return [row[0] for row in rows or [] if isinstance(row[0], bytes)]

    def read_kind(self, kind: int) -> list[bytes]:
        """All leaves that the table says are of this kind, in order."""
        sql = "SELECT bytes FROM leaves WHERE kind = ? ORDER BY leaf_index"
        return [row[0] for row in self._read(sql, (kind,)) or [] if isinstance(row[0], bytes)]

    def read_leaves(self, first: int, count: int) -> list[bytes | None]:
        """Consecutive leaves, None for each that is not there."""
        where = "SELECT leaf_index, bytes FROM leaves WHERE leaf_index"
        rows = self._read(
            f"{where} BETWEEN ? AND ? ORDER BY leaf_index", (first, first + count - 1)
        )
        if rows is None:
            rows = []
            for index in range(first, first + count):
                rows += self._read(f"{where} = ?", (index,)) or []
        return _place(rows, first, count)

    def has_hashes(self, level: int, first: int, wanted: tuple[bytes, ...]) -> bool:
        """Whether consecutive hashes of a level are these: as one blob, which is the fast way.

        False may also mean that SQLite gave them in another order: `read_hashes` knows.
        """
        rows = self._read(
            "SELECT CAST(group_concat(hash, '') AS BLOB) FROM (SELECT hash FROM nodes"
            " WHERE level = ? AND number BETWEEN ? AND ? AND typeof(hash) = 'blob'"
            " ORDER BY number)",
            (level, first, first + len(wanted) - 1),
        )
        return bool(rows) and rows is not None and rows[0][0] == b"".join(wanted)

    def read_hashes(self, level: int, first: int, count: int) -> list[bytes | None]:
        """Consecutive hashes of a level, None for each that is not there."""
        where = "SELECT number, hash FROM nodes WHERE level = ? AND number"
        rows = self._read(
            f"{where} BETWEEN ? AND ? ORDER BY number", (level, first, first + count - 1)
        )
        if rows is None:
            rows = []
            for number in range(first, first + count):
                rows += self._read(f"{where} = ?", (level, number)) or []
        return _place(rows, first, count)

    def get_leaf_beyond(self, size: int) -> int | None:
        """The first leaf that the table has at or above this index."""
        rows = self._read("SELECT min(leaf_index) FROM leaves WHERE leaf_index >= ?", (size,))
        return rows[0][0] if rows else None

    def _read(self, sql: str, values: tuple[int, ...]) -> list[tuple[Any, Any]] | None:
        """Rows; None where SQLite cannot read them, which `error` then says."""
        if self._db is None:
            return None
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            self.error = self.error or str(error)
            return None


def find_bad_pages(paths: Paths) -> list[str]:
    """What SQLite says of host.db's pages and indexes, a line each; empty where all is whole.

    With a connection of its own, for a thread of its own: SQLite works in it without Python's lock.
    """
    if not os.path.exists(paths.host_db):
        return []
    try:
        db = sqlite3.connect(f"file:{paths.host_db}?mode=ro", uri=True, timeout=30)
        try:
            rows = db.execute(f"PRAGMA integrity_check({INTEGRITY_LINES_MAX})").fetchall()
        finally:
            db.close()
    except sqlite3.Error as error:
        return [str(error)]
    return [line for row in rows for line in str(row[0]).splitlines() if line != "ok"]


def _place(rows: list[tuple[int, bytes]], first: int, count: int) -> list[bytes | None]:
    if len(rows) == count:
        values = [row[1] for row in rows]
        if set(map(type, values)) <= {bytes}:
            return list[bytes | None](values)
    found: list[bytes | None] = [None] * count
    for number, value in rows:
        if isinstance(value, bytes) and first <= number < first + count:
            found[number - first] = value
    return found


class Files:
    """The files of `log/`."""

    def __init__(self, paths: Paths) -> None:
        self._top = paths.log

    def read(self, one: tile.Tile) -> bytes:
        """The bytes of a tile or bundle; empty where there is none."""
        return self.read_name(tile.encode_path(one))

    def read_name(self, name: str) -> bytes:
        """The bytes of a file; empty where there is none."""
        try:
            with open(f"{self._top}/{name}", "rb") as file:
                return file.read(tile.BUNDLE_LIMIT_BYTES + 1)
        except OSError:
            return b""

    def read_hashes(self, number: int, width: int) -> list[bytes | None]:
        """The hashes of a tile of level 0, as far as they are there."""
        data = self.read(tile.Tile(0, number, width)) if width else b""
        step = merkle.HASH_BYTES
        return [data[at : at + step] for at in range(0, min(len(data), width * step) - 31, step)]

    def read_leaves(self, number: int, width: int) -> list[bytes | None]:
        """The leaves of a bundle, as far as they are there whole."""
        data, at = self.read(tile.Tile(tile.ENTRIES, number, width)) if width else b"", 0
        found: list[bytes | None] = []
        while at + 2 <= len(data) and len(found) < width:
            end = at + 2 + int.from_bytes(data[at : at + 2], "big")
            if end > len(data):
                break
            found.append(data[at + 2 : end])
            at = end
        return found

    def get_extent(self) -> int:
        """How many leaves the bundles that lie here reach, by their names."""
        largest = 0
        for directory, _, names in os.walk(f"{self._top}/tile/entries"):
            for name in names:
                try:
                    one = tile.parse_path(os.path.relpath(f"{directory}/{name}", self._top))
                except SpecError:
                    continue
                largest = max(largest, one.number * tile.WIDTH + one.width)
        return largest


def find_host_keys(enrolled: bytes, leaves: list[bytes]) -> HostKeys:
    """The keys that these leaves give: each must be signed by the one before, wherever it lay."""
    known = HostKeys(enrolled)
    for data in leaves:
        try:
            leaf = hostlog.decode_leaf(data)
            if isinstance(leaf, hostlog.Key | hostlog.Revocation):
                known.take(leaf)
        except (SpecError, TamperError):
            continue
    return known
