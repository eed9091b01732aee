"""The tables of a chain's file, and what goes wrong with files: damage named, a full disk passes.

Not here: what the rows mean together (store), replay (store_check). Invariants: every change is in
one transaction, whole or not there; an error of SQLite leaves here as StoreDamage, which names
file, table and height, or as StateError. Source: sqlite.org/wal.html, sqlite.org/rescode.html.
"""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from chainlite import merkle
from chainlite.codec import Reader
from chainlite.consensus.validators import ValidatorSet, read_validators
from chainlite.errors import SpecError, StateError, TamperError
from chainlite.ledger.block import Block, decode_block
from chainlite.ledger.header import Seals, read_seals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from chainlite.ledger.records import History

SCHEMA_VERSION = 1
WAL_PAGES = 4_096
READ_BYTES_MAX = 8 * 1024 * 1024
"""Of blocks that are read at once for a peer."""
NODE_LEVEL = 8
"""Of the history's nodes those from this level on are kept; below, block hashes are read."""
_SCHEMA = (
    "CREATE TABLE meta (id INTEGER PRIMARY KEY CHECK (id = 0), genesis BLOB NOT NULL,"
    " base INTEGER NOT NULL, flushed INTEGER NOT NULL)",
    "CREATE TABLE blocks (height INTEGER PRIMARY KEY, hash BLOB NOT NULL, seals BLOB NOT NULL,"
    " block BLOB NOT NULL)",
    "CREATE TABLE state (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE anchors (host BLOB NOT NULL, size INTEGER NOT NULL, height INTEGER NOT NULL,"
    " position INTEGER NOT NULL, place INTEGER NOT NULL, PRIMARY KEY (host, size)) WITHOUT ROWID",
    "CREATE TABLE history (level INTEGER NOT NULL, number INTEGER NOT NULL, hash BLOB NOT NULL,"
    " PRIMARY KEY (level, number)) WITHOUT ROWID",
    "CREATE TABLE sets (height INTEGER PRIMARY KEY, before BLOB NOT NULL, after BLOB NOT NULL)",
    "CREATE TABLE tx_runs (last INTEGER PRIMARY KEY, size INTEGER NOT NULL, entries BLOB NOT NULL)",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_FULL_CODES = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)


class StoreDamage(TamperError):
    """The store contradicts itself at `table`, `height` (-1: not of a block)."""

    def __init__(self, path: Path, table: str, height: int, why: str) -> None:
        where = f"{path}: table {table}" + (f", height {height}" if height >= 0 else "")
        super().__init__(f"{where}: {why}")
        self.path, self.table, self.height = path, table, height


class AnchorPlace(NamedTuple):
    """Where an anchor is: its log size, block, the transaction in it and the operation in that."""

    size: int
    height: int
    position: int
    place: int


class SetChange(NamedTuple):
    """The block at `height` was sealed by the validators `before`; `after` seal the next one."""

    height: int
    before: ValidatorSet
    after: ValidatorSet


class Tables:
    """The open file. `base` is the height it begins with, `flushed` that of its state's rows."""

    __slots__ = ("base", "db", "flushed", "genesis", "path")
    genesis: bytes
    base: int
    flushed: int

    def __init__(self, path: Path) -> None:
        """Open a file that is there; StateError or StoreDamage if it is no store."""
        if not path.is_file():
            raise StateError(f"{path}: there is no chain here; make one with `chain init`")
        self.path = path
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        row = None
        try:
            row = self._read_meta()
        finally:
            if row is None:
                self.db.close()
        self.genesis, self.base, self.flushed = row

    def _read_meta(self) -> tuple[bytes, int, int]:
        with self.guard("meta"):
            _set_up(self.db)
            version = self.db.execute("PRAGMA user_version").fetchone()[0]
            if version != SCHEMA_VERSION:
                raise StateError(f"{self.path}: schema {version}, not {SCHEMA_VERSION}")
            row = self.db.execute("SELECT genesis, base, flushed FROM meta").fetchone()
        if row is None:
            raise self.name_damage("meta", -1, "the one row is missing")
        if tuple([type(value) for value in row]) != (bytes, int, int):
            raise self.name_damage("meta", -1, "a value is not of its type")
        genesis, base, flushed = row
        return genesis, base, flushed

    def guard(self, table: str, height: int = -1) -> _Guard:
        """For `with`: what SQLite cannot read there is a damage."""
        return _Guard(self.path, table, height)

    def begin(self) -> Transaction:
        """For `with`: one transaction."""
        return Transaction(self.path, self.db)

    def name_damage(self, table: str, height: int, why: str) -> StoreDamage:
        """The error of a damage to this file."""
        return StoreDamage(self.path, table, height, why)

    def say_base(self) -> str:
        """Why what came before `base` is not here."""
        return (
            f"this store begins with a snapshot, at block {self.base}; what came before, nodes "
            "that began with the genesis have"
        )

    def get_last(self) -> int:
        """The height of the last block."""
        with self.guard("blocks"):
            last = self.db.execute("SELECT max(height) FROM blocks").fetchone()[0]
        if last is None:
            raise self.name_damage("blocks", -1, "there is no block")
        return int(last)

    def get_block(self, height: int) -> tuple[Block, Seals | None]:
        """A block and its seals, which only the genesis lacks."""
        digest, seals, data = self._get_row(height)
        try:
            block = decode_block(data)
            found = _decode_seals(seals) if height or seals else None
        except SpecError as error:
            raise self.name_damage("blocks", height, str(error)) from None
        if block.header.height != height or block.hash != digest:
            raise self.name_damage("blocks", height, "it is another block")
        return block, found

    def get_hash(self, height: int) -> bytes:
        """The hash of a block that is here."""
        return self._get_row(height)[0]

    def iterate_blocks(self, first: int, last: int) -> Iterator[tuple[Block, Seals | None]]:
        """The blocks `first` to `last` in order."""
        for height in range(first, last + 1):
            yield self.get_block(height)

    def read_blocks(self, first: int, most: int) -> list[tuple[bytes, bytes]]:
        """Blocks and seals as bytes, from `first` on: at most so many, and READ_BYTES_MAX."""
        found, size = list[tuple[bytes, bytes]](), 0
        with self.guard("blocks"):
            rows = self.db.execute(
                "SELECT block, seals FROM blocks WHERE height >= ? ORDER BY height LIMIT ?",
                (first, most),
            )
            for row in rows:
                size += len(row[0]) + len(row[1])
                if found and size > READ_BYTES_MAX:
                    break
                found.append(row)
        return found

    def read_state(self) -> list[tuple[bytes, bytes]]:
        """The rows of the state, after block `flushed`."""
        with self.guard("state"):
            rows = self.db.execute("SELECT key, value FROM state").fetchall()
        self._check_types("state", self.flushed, *[value for row in rows for value in row])
        return rows

    def find_anchor(self, host: bytes, leaf_index: int) -> AnchorPlace | None:
        """The first anchor in the table of a host's log that has this leaf."""
        with self.guard("anchors"):
            row = self.db.execute(
                "SELECT size, height, position, place FROM anchors WHERE host = ? AND size > ?"
                " ORDER BY size LIMIT 1",
                (host, leaf_index),
            ).fetchone()
        return AnchorPlace(*row) if row is not None else None

    def read_anchors(self) -> list[tuple[bytes, AnchorPlace]]:
        """All rows of the table of anchors."""
        with self.guard("anchors"):
            rows = self.db.execute("SELECT host, size, height, position, place FROM anchors")
            return [(row[0], AnchorPlace(*row[1:])) for row in rows]

    def insert_block(self, block: Block, seals: bytes) -> None:
        """The next block and the nodes of the history that it completes, within `begin`."""
        height = block.header.height
        row = (height, block.hash, seals, block.encoded)
        self.db.execute("INSERT INTO blocks VALUES (?, ?, ?, ?)", row)
        self.insert_nodes(height)

    def insert_nodes(self, height: int) -> None:
        """The nodes of the history that the block at this height completes, within `begin`."""
        for level in range(NODE_LEVEL, merkle.get_new_nodes(height) + 1):
            number = height >> level
            digest = self._compute_node(level, number)
            self.db.execute("INSERT INTO history VALUES (?, ?, ?)", (level, number, digest))

    def insert_set(self, height: int, before: ValidatorSet, after: ValidatorSet) -> None:
        """That the block at this height ends the validators before, within `begin`."""
        row = (height, before.encode(), after.encode())
        self.db.execute("INSERT INTO sets VALUES (?, ?, ?)", row)

    def read_sets(self) -> list[SetChange]:
        """All changes of the validators after `base`, in order."""
        with self.guard("sets"):
            rows = self.db.execute("SELECT height, before, after FROM sets ORDER BY height")
            found = rows.fetchall()
        try:
            return [SetChange(row[0], *map(_decode_validators, row[1:])) for row in found]
        except (SpecError, TypeError) as error:
            raise self.name_damage("sets", -1, str(error)) from None

    def write_state(
        self,
        values: dict[bytes, bytes | None],
        anchors: list[tuple[bytes, AnchorPlace]],
        height: int,
    ) -> None:
        """Rows that changed up to this height, in the order of the tables, within `begin`."""
        gone = [(key,) for key, value in values.items() if value is None]
        rows = sorted([(key, value) for key, value in values.items() if value is not None])
        self.db.executemany("DELETE FROM state WHERE key = ?", gone)
        self.db.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", rows)
        places = sorted([(host, *anchor) for host, anchor in anchors])
        self.db.executemany("INSERT OR REPLACE INTO anchors VALUES (?, ?, ?, ?, ?)", places)
        self.db.execute("UPDATE meta SET flushed = ?", (height,))

    def drop_after(self, height: int) -> None:
        """Take out blocks above a height and what follows from them but the state, in `begin`."""
        self.db.execute("DELETE FROM blocks WHERE height > ?", (height,))
        self.db.execute("DELETE FROM anchors WHERE height > ?", (height,))
        self.db.execute("DELETE FROM sets WHERE height > ?", (height,))
        self.db.execute("DELETE FROM history WHERE ((number + 1) << level) > ?", (height + 1,))
        self.db.execute("DELETE FROM tx_runs WHERE last > ?", (height,))

    def read_node(self, level: int, number: int) -> bytes:
        """The hash of a complete subtree of the history; StateError if its blocks are not here."""
        with self.guard("history"):
            row = self.db.execute(
                "SELECT hash FROM history WHERE level = ? AND number = ?", (level, number)
            ).fetchone()
        if row is None:
            return self._compute_node(level, number)
        self._check_types("history", (number + 1 << level) - 1, row[0])
        found: bytes = row[0]
        return found

    def _compute_node(self, level: int, number: int) -> bytes:
        if level <= NODE_LEVEL:
            with self.guard("blocks"):
                rows = self.db.execute(
                    "SELECT hash FROM blocks WHERE height >= ? AND height < ? ORDER BY height",
                    (number << level, (number + 1) << level),
                ).fetchall()
            if len(rows) == 1 << level:
                return merkle.compute_root([merkle.compute_leaf_hash(row[0]) for row in rows])
        if level == 0:
            raise StateError(self._say_missing(number))
        left, right = (
            self.read_node(level - 1, 2 * number),
            self.read_node(level - 1, 2 * number + 1),
        )
        return merkle.compute_node_hash(left, right)

    def _get_row(self, height: int) -> tuple[bytes, bytes, bytes]:
        with self.guard("blocks", height):
            row: tuple[bytes, bytes, bytes] | None = self.db.execute(
                "SELECT hash, seals, block FROM blocks WHERE height = ?", (height,)
            ).fetchone()
        if row is None:
            if self.base <= height < self.get_last():
                raise self.name_damage("blocks", height, "the block is missing")
            raise StateError(self._say_missing(height))
        self._check_types("blocks", height, *row)
        return row

    def _say_missing(self, height: int) -> str:
        if height >= self.base:
            return f"block {height} is not here"
        return f"block {height} is not here: {self.say_base()}"

    def _check_types(self, table: str, height: int, *values: object) -> None:
        """A flipped bit can make a text or a number of what was written as bytes."""
        if not all(isinstance(value, bytes) for value in values):
            raise self.name_damage(table, height, "a value is not bytes")


class _Guard:
    """For `with`: what SQLite cannot read is a damage that names its place."""

    __slots__ = ("_height", "_path", "_table")

    def __init__(self, path: Path, table: str, height: int) -> None:
        self._path, self._table, self._height = path, table, height

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, sqlite3.DatabaseError):
            raise StoreDamage(self._path, self._table, self._height, str(error)) from error


class Transaction:
    """For `with`: all of it is on disk, or none. A full disk is a StateError, and passes."""

    __slots__ = ("_db", "_path")

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self._path, self._db = path, db

    def __enter__(self) -> None:
        self._run("BEGIN IMMEDIATE")

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None:
            self._run("COMMIT")
            return
        self._undo()
        if isinstance(error, sqlite3.Error):
            raise self._name(error) from error

    def _run(self, statement: str) -> None:
        try:
            self._db.execute(statement)
        except sqlite3.Error as error:
            self._undo()
            raise self._name(error) from error

    def _undo(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _name(self, error: sqlite3.Error) -> StateError | StoreDamage:
        code = getattr(error, "sqlite_errorcode", 0)
        if code in _FULL_CODES:
            return StateError(f"{self._path}: the disk is full; the block is not taken")
        if code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return StoreDamage(self._path, "any", -1, str(error))
        return StateError(f"{self._path}: {error}")


def make_tables(
    path: Path,
    genesis: bytes,
    head: tuple[Block, bytes],
    values: Iterable[tuple[bytes, bytes]],
    history: History,
) -> None:
    """Make a file that begins after `head`, a block and its seals; StateError if one is there."""
    block, seals = head
    height = block.header.height
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise StateError(f"{path}: there is a chain already") from None
    db = sqlite3.connect(path, isolation_level=None)
    try:
        _set_up(db)
        db.execute("PRAGMA journal_mode = WAL")
        with Transaction(path, db):
            for statement in _SCHEMA:
                db.execute(statement)
            db.execute("INSERT INTO meta VALUES (0, ?, ?, ?)", (genesis, height, height))
            row = (height, block.hash, seals, block.encoded)
            db.execute("INSERT INTO blocks VALUES (?, ?, ?, ?)", row)
            db.executemany("INSERT INTO state VALUES (?, ?)", values)
            db.executemany("INSERT INTO history VALUES (?, ?, ?)", _get_nodes(history))
    finally:
        db.close()


def _set_up(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")


def _get_nodes(history: History) -> list[tuple[int, int, bytes]]:
    """The complete subtrees of a history as rows: what a store from a snapshot has of its past."""
    rows, start = [], 0
    levels = [level for level in range(63, -1, -1) if history.size >> level & 1]
    for level, digest in zip(levels, history.frontier, strict=True):
        rows.append((level, start >> level, digest))
        start += 1 << level
    return rows


def _decode_validators(data: bytes) -> ValidatorSet:
    reader = Reader(data, "validators")
    validators = read_validators(reader)
    reader.finish()
    return validators


def _decode_seals(data: bytes) -> Seals:
    reader = Reader(data, "seals")
    seals = read_seals(reader)
    reader.finish()
    return seals
