"""A server's rows in one SQLite file: one writer, any number of readers.

Not here: what the rows mean (store, intake). Every value goes in as a parameter: no name is ever
part of a statement. Invariants: those of `Store`; a file that a newer program has changed is
refused; a second writer is kept away by a lock; after an error that is not a full disk nothing is
written any more until the store is opened anew, since what is in memory may not be what is on disk.
Source: sqlite.org/wal.html, sqlite.org/rescode.html.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, get_type_hints

from chainlite import hostlog
from chainlite.bpci.rows import INTEGER_MAX
from chainlite.bpci.store import (
    READ_MAX,
    ActRow,
    Alert,
    Bundle,
    Changes,
    Host,
    Leaf,
    LogBlock,
    Notarised,
    Place,
    Ranges,
    Run,
    Segment,
    StoreDamage,
    Tenant,
    TenantTotals,
    Touched,
)
from chainlite.bpci.tables import MIGRATIONS
from chainlite.errors import SpecError, StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Self

Found = TypeVar("Found", bound="tuple[Any, ...]")

FILE, LOCK = "bpci.db", "bpci.lock"
WAL_PAGES = 8192
"""32 MiB: then the log is copied into the file, while a commit waits."""
CACHE_KIB = 65_536
BUSY_S = 10.0
PURGE_S = 0.5
"""How long the writer waits for who reads, before it gives up for now."""
_HOST = ", ".join(Host._fields)
_LEAF = ", ".join(Leaf._fields)
_SEGMENT = ", ".join(Segment._fields)
_PLACE = ", ".join(Place._fields)
_ALERT = ", ".join(Alert._fields)
_CHAIN = "host = ? AND notary_key = ? AND app = ?"


class SqliteStore:
    """The file in a directory, for the one writer or for one more reader."""

    def __init__(self, directory: str, *, is_writer: bool) -> None:
        """StateError if another process writes it, or it is a newer program's; SpecError: none."""
        self.path = f"{directory}/{FILE}"
        self._broken = ""
        self._lock = -1
        if is_writer:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            self._lock = _take_lock(f"{directory}/{LOCK}")
        elif not os.path.exists(self.path):
            raise StateError(f"{self.path}: there is no server's store here")
        try:
            self._db = _open(self.path, is_writer=is_writer)
        except BaseException:
            self._release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file and of its lock."""
        self._db.close()
        self._release()

    def _release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def commit(self, changes: Changes) -> None:
        """As Store says."""
        self._write_all(lambda: self._write(changes))

    def begin_log(self, tenants: Sequence[Tenant], acts: Sequence[ActRow], log_leaf: int) -> None:
        """As Store says."""
        many = self._db.executemany

        def write() -> None:
            many("UPDATE tenants SET sealed_key = ?2 WHERE name = ?1", tenants)
            many("UPDATE acts SET box = ?2 WHERE number = ?1", acts)
            many("DELETE FROM leaves WHERE host = ?", [(b"",)])
            many("DELETE FROM log WHERE id = ?", [(0,)])
            many("UPDATE hosts SET log_leaf = ?", [(log_leaf,)])

        self._write_all(write)

    def _write_all(self, write: Callable[[], None]) -> None:
        """All that it writes, durably, or nothing."""
        assert self._lock >= 0, "opened for reading"
        if self._broken:
            raise StateError(f"{self.path}: {self._broken}: open it anew")
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            write()
            db.execute("COMMIT")
        except sqlite3.Error as error:
            is_full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
            if db.in_transaction:
                db.execute("ROLLBACK")
            if is_full:
                raise StateError(f"{self.path}: no room: the disk is full") from None
            self._broken = f"a commit failed: {error}"
            raise StateError(f"{self.path}: {self._broken}") from None

    def _write(self, changes: Changes) -> None:
        many = self._db.executemany
        many("INSERT INTO tenants VALUES (?, ?)", changes.tenants)
        many(f"INSERT OR REPLACE INTO hosts VALUES ({_mark(Host)})", changes.hosts)
        many(f"INSERT INTO leaves VALUES ({_mark(Leaf)})", changes.leaves)
        many(f"INSERT INTO segments VALUES ({_mark(Segment)})", changes.segments)
        many("INSERT OR REPLACE INTO runs VALUES (?, ?, ?)", changes.runs)
        many(f"INSERT OR IGNORE INTO alerts VALUES ({_mark(Alert)})", changes.alerts)
        many(f"INSERT INTO logblocks VALUES ({_mark(LogBlock)})", changes.blocks)
        many(f"INSERT OR REPLACE INTO notarised VALUES ({_mark(Notarised)})", changes.notarised)
        many(f"INSERT INTO bundles VALUES ({_mark(Bundle)})", changes.bundles)
        many("INSERT INTO acts VALUES (?, ?)", changes.acts)
        many(
            "UPDATE segments SET box = ?, erased = 1 WHERE host = ? AND leaf_index = ?",
            [(one.box, one.host, one.leaf_index) for one in changes.erased_segments],
        )
        many(
            "UPDATE alerts SET box = ?, erased = 1 WHERE host = ? AND kind = ? AND leaf_index = ?",
            [(one.box, *one[:3]) for one in changes.erased_alerts],
        )
        if changes.note:
            many("INSERT OR REPLACE INTO log VALUES (0, ?)", [(changes.note,)])

    def find_tenant(self, name: str) -> Tenant | None:
        return self._find(Tenant, "SELECT * FROM tenants WHERE name = ?", name)

    def read_tenants(self) -> list[Tenant]:
        return self._read(Tenant, "SELECT * FROM tenants ORDER BY name LIMIT ?", READ_MAX)

    def find_host(self, host: bytes) -> Host | None:
        return self._find(Host, f"SELECT {_HOST} FROM hosts WHERE host = ?", host)

    def read_hosts(self, after: bytes, limit: int) -> list[Host]:
        ask = f"SELECT {_HOST} FROM hosts WHERE host > ? ORDER BY host LIMIT ?"
        return self._read(Host, ask, after, limit)

    def find_run(self, host: bytes, container: bytes) -> Run | None:
        ask = "SELECT * FROM runs WHERE host = ? AND container = ?"
        return self._find(Run, ask, host, container)

    def read_runs(self, host: bytes, after: bytes, limit: int) -> list[Run]:
        ask = "SELECT * FROM runs WHERE host = ? AND container > ? ORDER BY container LIMIT ?"
        return self._read(Run, ask, host, after, limit)

    def read_leaves(self, host: bytes, first: int, limit: int) -> list[Leaf]:
        ask = (
            f"SELECT {_LEAF} FROM leaves WHERE host = ? AND leaf_index >= ?"
            " ORDER BY leaf_index LIMIT ?"
        )
        return self._read(Leaf, ask, host, first, limit)

    def find_hashes(self, host: bytes, leaf_index: int) -> bytes:
        ask = "SELECT hashes FROM leaves WHERE host = ? AND leaf_index = ?"
        found = self._find(_Hashes, ask, host, leaf_index)
        return found.hashes if found else b""

    def read_segments(self, host: bytes, first: int, limit: int) -> list[Segment]:
        ask = (
            f"SELECT {_SEGMENT} FROM segments WHERE host = ? AND leaf_index >= ?"
            " ORDER BY leaf_index LIMIT ?"
        )
        return self._read(Segment, ask, host, first, limit)

    def find_segments(
        self, host: bytes, container: bytes, run: int, first: int, limit: int
    ) -> list[Segment]:
        ask = (
            f"SELECT {_SEGMENT} FROM segments WHERE host = ?1 AND container = ?2 AND run = ?3"
            " AND first_index >= ifnull((SELECT max(first_index) FROM segments WHERE host = ?1"
            " AND container = ?2 AND run = ?3 AND first_index <= ?4), 0)"
            " AND first_index + event_count > ?4 ORDER BY first_index LIMIT ?5"
        )
        return self._read(Segment, ask, host, container, run, min(first, INTEGER_MAX), limit)

    def read_places(self, host: bytes, time_first: int, leaf_index: int, limit: int) -> list[Place]:
        ask = (
            f"SELECT {_PLACE} FROM segments WHERE host = ? AND (time_first, leaf_index) > (?, ?)"
            " ORDER BY time_first, leaf_index LIMIT ?"
        )
        return self._read(Place, ask, host, min(time_first, INTEGER_MAX), leaf_index, limit)

    def read_container_places(
        self, host: bytes, container: bytes, run: int, first_index: int, limit: int
    ) -> list[Place]:
        ask = (
            f"SELECT {_PLACE} FROM segments WHERE host = ? AND container = ?"
            " AND (run, first_index) >= (?, ?) ORDER BY run, first_index LIMIT ?"
        )
        return self._read(Place, ask, host, container, run, min(first_index, INTEGER_MAX), limit)

    def find_touched(
        self, host: bytes, container: bytes, run: int, size: int, ranges: Ranges
    ) -> Touched:
        of = "FROM segments WHERE host = ?1 AND container = ?2 AND run = ?3 AND leaf_index < ?4"
        ask = (
            f"SELECT ifnull((SELECT min(first_index) {of}"
            " AND time_last >= ?5 AND first_index + event_count > ?6), -1),"
            f" ifnull((SELECT max(first_index) {of}"
            " AND time_first <= ?7 AND first_index <= ?8), -1),"
            f" ifnull((SELECT max(first_index + event_count) {of}), 0)"
        )
        limits = [min(value, INTEGER_MAX) for value in ranges]
        asked = (limits[2], limits[0], limits[3], limits[1])
        return self._read(Touched, ask, host, container, run, size, *asked)[0]

    def read_old_segments(
        self, host: bytes, before_ns: int, skip: int, limit: int
    ) -> list[Segment]:
        ask = (
            f"SELECT {_SEGMENT} FROM segments WHERE host = ? AND erased = 0 AND time_last < ?"
            " ORDER BY time_last, leaf_index LIMIT ? OFFSET ?"
        )
        return self._read(Segment, ask, host, before_ns, limit, skip)

    def read_container_leaves(self, host: bytes, container: bytes, limit: int) -> list[Leaf]:
        ask = (
            f"SELECT {_LEAF} FROM leaves WHERE host = ? AND container = ? AND container <> x''"
            " AND kind <> ? ORDER BY leaf_index LIMIT ?"
        )
        return self._read(Leaf, ask, host, container, hostlog.SEGMENT_KIND, limit)

    def find_alert(self, host: bytes, kind: str, leaf_index: int) -> Alert | None:
        ask = f"SELECT {_ALERT} FROM alerts WHERE host = ? AND kind = ? AND leaf_index = ?"
        return self._find(Alert, ask, host, kind, leaf_index)

    def read_alerts(self, host: bytes, first: int, limit: int) -> list[Alert]:
        ask = (
            f"SELECT {_ALERT} FROM alerts WHERE host = ? AND leaf_index >= ?"
            " ORDER BY leaf_index, kind LIMIT ?"
        )
        return self._read(Alert, ask, host, first, limit)

    def find_newest_block(self, host: bytes, notary_key: bytes, app: str) -> LogBlock | None:
        ask = f"SELECT * FROM logblocks WHERE {_CHAIN} ORDER BY height DESC LIMIT 1"
        return self._find(LogBlock, ask, host, notary_key, app)

    def find_block(self, host: bytes, notary_key: bytes, app: str, height: int) -> LogBlock | None:
        ask = f"SELECT * FROM logblocks WHERE {_CHAIN} AND height = ?"
        return self._find(LogBlock, ask, host, notary_key, app, height)

    def read_blocks(
        self, host: bytes, notary_key: bytes, app: str, height: int, limit: int
    ) -> list[LogBlock]:
        ask = (
            "SELECT * FROM logblocks WHERE host = ? AND (notary_key, app, height) > (?, ?, ?)"
            " ORDER BY notary_key, app, height LIMIT ?"
        )
        return self._read(LogBlock, ask, host, notary_key, app, height, limit)

    def find_notarised(
        self, host: bytes, notary_key: bytes, app: str, container: bytes, run: int
    ) -> Notarised | None:
        ask = f"SELECT * FROM notarised WHERE {_CHAIN} AND container = ? AND run = ?"
        return self._find(Notarised, ask, host, notary_key, app, container, run)

    def read_notarised(self, after: Notarised, limit: int) -> list[Notarised]:
        ask = (
            "SELECT * FROM notarised WHERE host = ?"
            " AND (notary_key, app, container, run) > (?, ?, ?, ?)"
            " ORDER BY notary_key, app, container, run LIMIT ?"
        )
        return self._read(Notarised, ask, *after[:5], limit)

    def find_newest_bundle(self, host: bytes, notary_key: bytes, app: str) -> Bundle | None:
        ask = f"SELECT * FROM bundles WHERE {_CHAIN} ORDER BY start DESC LIMIT 1"
        return self._find(Bundle, ask, host, notary_key, app)

    def find_bundle(self, host: bytes, notary_key: bytes, app: str, start: int) -> Bundle | None:
        ask = f"SELECT * FROM bundles WHERE {_CHAIN} AND start = ?"
        return self._find(Bundle, ask, host, notary_key, app, min(start, INTEGER_MAX))

    def read_bundles(
        self, host: bytes, notary_key: bytes, app: str, start: int, limit: int
    ) -> list[Bundle]:
        ask = (
            "SELECT * FROM bundles WHERE host = ? AND (notary_key, app, start) > (?, ?, ?)"
            " ORDER BY notary_key, app, start LIMIT ?"
        )
        return self._read(Bundle, ask, host, notary_key, app, start, limit)

    def read_acts(self, first: int, limit: int) -> list[ActRow]:
        ask = "SELECT number, box FROM acts WHERE number >= ? ORDER BY number LIMIT ?"
        return self._read(ActRow, ask, first, limit)

    def read_totals(self) -> list[TenantTotals]:
        ask = (
            "SELECT tenant, count(*), sum(receipts), sum(stored_bytes) FROM hosts GROUP BY tenant"
            " ORDER BY tenant"
        )
        return self._read(TenantTotals, ask)

    def purge(self) -> None:
        try:
            self._db.execute(f"PRAGMA busy_timeout = {int(1000 * PURGE_S)}")
            is_busy = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.Error as error:
            raise StateError(f"{self.path}: cannot be purged: {error}") from None
        finally:
            self._db.execute(f"PRAGMA busy_timeout = {int(1000 * BUSY_S)}")
        if is_busy:
            raise StateError(f"{self.path}: cannot be purged while it is read")

    def find_log(self) -> tuple[int, bytes]:
        ask = "SELECT (SELECT max(leaf_index) FROM leaves WHERE host = ?), (SELECT note FROM log)"
        found = self._find(_Log, ask, b"")
        assert found is not None, "it is one row"
        return (0 if found.last is None else found.last + 1), found.note or b""

    @contextmanager
    def moment(self) -> Iterator[None]:
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("ROLLBACK")

    def _find(self, kind: type[Found], ask: str, *values: object) -> Found | None:
        found = self._read(kind, ask, *values)
        return found[0] if found else None

    def _read(self, kind: type[Found], ask: str, *values: object) -> list[Found]:
        try:
            rows = self._db.execute(ask, values).fetchall()
        except sqlite3.OperationalError as error:
            raise StateError(f"{self.path}: cannot be read: {error}") from None
        except sqlite3.DatabaseError as error:
            raise StoreDamage(f"{self.path}: is damaged: {error}") from None
        wanted = _TYPES[kind]
        for row in rows:
            if not all(map(isinstance, row, wanted)):
                table = kind.__name__.strip("_").lower()
                raise StoreDamage(f"{self.path}: a row ({table}) has another type than was written")
        return [kind(*row) for row in rows]


class _Log(NamedTuple):
    last: int | None
    note: bytes | None


class _Hashes(NamedTuple):
    hashes: bytes


_TYPES: dict[type, tuple[type, ...]] = {
    kind: tuple(get_type_hints(kind).values())
    for kind in (
        *(Tenant, Host, Run, Leaf, Segment, Place, Touched, Alert, ActRow, TenantTotals),
        *(LogBlock, Notarised, Bundle, _Log, _Hashes),
    )
}
"""What SQLite may give for each column: a row that was edited may have anything."""


def _mark(row: type[Host | Leaf | Segment | Alert | LogBlock | Notarised | Bundle]) -> str:
    return ", ".join("?" * len(row._fields))


def _take_lock(path: str) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise StateError(f"{path}: another process writes this store") from None
    return lock


def _open(path: str, *, is_writer: bool) -> sqlite3.Connection:
    if is_writer:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    mode = "rw" if is_writer else "ro"
    uri = f"file:{quote_path(path)}?mode={mode}"
    db = sqlite3.connect(
        uri, timeout=BUSY_S, isolation_level=None, check_same_thread=False, uri=True
    )
    is_open = False
    try:
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        if is_writer:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
            db.execute("PRAGMA secure_delete = ON")  # what is replaced is written over
            _migrate(db, path)
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version != len(MIGRATIONS):
            raise StateError(f"{path}: schema {version}; this program knows {len(MIGRATIONS)}")
        is_open = True
    except sqlite3.OperationalError as error:
        raise StateError(f"{path}: cannot be opened: {error}") from None
    except sqlite3.DatabaseError as error:
        raise SpecError(f"{path}: not a server's store: {error}") from None
    finally:
        if not is_open:
            db.close()
    return db


def quote_path(path: str) -> str:
    """The path as a file URI of SQLite has it."""
    from urllib.parse import quote

    return quote(os.path.abspath(path))


def _migrate(db: sqlite3.Connection, path: str) -> None:
    """Bring the schema up to this program's, one version at a time."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise StateError(f"{path}: schema {version}; this program knows {len(MIGRATIONS)}")
    for number, statements in enumerate(MIGRATIONS[version:], version + 1):
        db.execute("BEGIN IMMEDIATE")
        for statement in statements:
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {number}")
        db.execute("COMMIT")
