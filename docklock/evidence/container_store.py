"""One container's evidence in paths.evidence/ID.db: a row per segment, append-only.

Not here: what a row's bytes mean (chainlite.segment) and whether they hold (chainlite.verify).
One writer (the recorder's thread, or recovery under the journal's lock), many readers.
Invariants: a committed row is durable (WAL, synchronous=FULL) and signed; rows are never changed.
Who edits a row gains nothing: headers are signed, bodies are under the header's root and head.
"""

from __future__ import annotations

import errno
import os
import time

from chainlite.errors import SpecError, StateError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from docklock.evidence.database import sqlite3

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from docklock.paths import Paths

SCHEMA_VERSION = 3
LOG_BYTES = 32 + 1064 * (24 + 4096)
"""Where SQLite checkpoints (1,000 pages), and what a last transaction may add."""
LOG_STEP_BYTES = 1 << 20
BUSY_S = 30.0
BUSY_STEP_S = 0.002
_SCHEMA = (
    "CREATE TABLE segments (run INTEGER, first_index INTEGER, event_count INTEGER NOT NULL,"
    " time_last INTEGER NOT NULL, ops TEXT NOT NULL,"
    " header BLOB NOT NULL, signature BLOB NOT NULL, secret BLOB NOT NULL,"
    " leaf_tags BLOB NOT NULL, body BLOB NOT NULL, attempts_taken INTEGER NOT NULL,"
    " PRIMARY KEY (run, first_index))",
    "CREATE TABLE epochs (run INTEGER, epoch INTEGER, certificate BLOB NOT NULL,"
    " signature BLOB NOT NULL, PRIMARY KEY (run, epoch))",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


class SegmentRow(NamedTuple):
    """One segment as it is stored; `secret` is empty where no receipt has a value.

    `time_last` and `ops` (the distinct names, a line each) only repeat the body, so that a query
    skips segments without unpacking them. `attempts_taken` tells recovery where to go on.
    """

    run: int
    first_index: int
    event_count: int
    time_last: int
    ops: str
    header: bytes
    signature: bytes
    secret: bytes
    leaf_tags: bytes
    body: bytes
    attempts_taken: int


class EpochRow(NamedTuple):
    """One epoch's certificate and its issuer's signature."""

    run: int
    epoch: int
    certificate: bytes
    signature: bytes


def get_store_path(paths: Paths, container: str) -> str:
    """Where a container's evidence lies."""
    return f"{paths.evidence}/{container}.db"


def create_store(paths: Paths, container: str) -> sqlite3.Connection:
    """Open a container's evidence for writing; it is made if it is missing.

    SpecError if it is of another schema version.
    """
    path = get_store_path(paths, container)
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    is_new = False
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        is_new = version == 0
        if is_new:
            os.chmod(path, 0o600)
            _lay_out(db, path)
        else:
            _check_version(path, version)
        db.execute("PRAGMA synchronous = FULL")
    except BaseException:
        db.close()
        if is_new:
            _remove(path)
        raise
    return db


def reserve_log(paths: Paths, container: str) -> None:
    """Give the write-ahead log of an open store all the blocks that it will come to use.

    A sync of blocks that are written over takes 0.6 of one that appends. Only for the one writer,
    between two transactions: after its last frame SQLite takes anything that is no frame of its
    own for the end, as it does after each checkpoint. A full disk has nothing reserved.
    """
    fd = os.open(get_store_path(paths, container) + "-wal", os.O_WRONLY | os.O_CLOEXEC)
    try:
        at = os.fstat(fd).st_size
        while at < LOG_BYTES:
            at += os.pwrite(fd, bytes(min(LOG_STEP_BYTES, LOG_BYTES - at)), at)
        os.fdatasync(fd)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
    finally:
        os.close(fd)


def _remove(path: str) -> None:
    """Take away what was not laid out whole: it holds nothing yet."""
    for suffix in ("", "-wal", "-shm"):
        try:
            os.unlink(path + suffix)
        except FileNotFoundError:
            pass


def _check_version(path: str, version: int) -> None:
    if version != SCHEMA_VERSION:
        raise SpecError(f"{path}: schema version {version}; this program reads {SCHEMA_VERSION}")


def _lay_out(db: sqlite3.Connection, path: str) -> None:
    """Make the tables. Two syncs: SQLite alone makes seven, while nothing is in it yet.

    Its first page it syncs itself; the tables lie in the WAL, which the first commit syncs as a
    whole; the files' names are left. (Never open the database itself besides: to close that would
    end SQLite's locks, and the next reader would take the WAL away.)
    """
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA journal_mode = OFF")
    _turn_to_wal(db)
    db.execute("PRAGMA synchronous = OFF")
    db.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA:
        db.execute(statement)
    db.execute("COMMIT")
    fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _turn_to_wal(db: sqlite3.Connection) -> None:
    """SQLite does not wait here for a reader that looks at the new file: so we do."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(BUSY_STEP_S)


def open_store(paths: Paths, container: str, *, is_one_thread: bool = True) -> sqlite3.Connection:
    """Open a container's evidence for reading; StateError if there is none.

    SpecError if it is no database, or one of another schema version. Without `is_one_thread` the
    caller sees to it that no two threads use it at once.
    """
    path = get_store_path(paths, container)
    if not os.path.exists(path):
        raise StateError(f"container {container[:12]}: no evidence at {path}")
    db = sqlite3.connect(
        path, timeout=BUSY_S, isolation_level=None, check_same_thread=is_one_thread
    )
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        db.execute("PRAGMA query_only = ON")
    except sqlite3.DatabaseError as error:
        db.close()
        raise SpecError(f"{path}: not evidence: {error}") from None
    if version not in (0, SCHEMA_VERSION):
        db.close()
        _check_version(path, version)
    return db


def has_tables(db: sqlite3.Connection) -> bool:
    """Whether the store's writer lived long enough to lay it out."""
    return bool(db.execute("PRAGMA user_version").fetchone()[0])


def insert_segments(
    db: sqlite3.Connection,
    segments: Iterable[SegmentRow],
    epochs: Iterable[EpochRow],
) -> None:
    """One transaction: durable when it returns."""
    db.execute("BEGIN IMMEDIATE")
    try:
        db.executemany("INSERT INTO epochs VALUES (?, ?, ?, ?)", epochs)
        db.executemany("INSERT INTO segments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", segments)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def get_event_count(db: sqlite3.Connection, run: int) -> int:
    """How many events of a run are committed."""
    row = db.execute(
        "SELECT first_index + event_count FROM segments WHERE run = ?"
        " ORDER BY first_index DESC LIMIT 1",
        (run,),
    ).fetchone()
    return int(row[0]) if row else 0


def get_end(db: sqlite3.Connection, run: int) -> tuple[bytes, int]:
    """(header, attempts taken) of a run's last segment; (b"", 0) if it has none."""
    row = db.execute(
        "SELECT header, attempts_taken FROM segments WHERE run = ?"
        " ORDER BY first_index DESC LIMIT 1",
        (run,),
    ).fetchone()
    return (bytes(row[0]), int(row[1])) if row else (b"", 0)


def iterate_segments(
    db: sqlite3.Connection, run: int, first_index: int = 0
) -> Iterator[SegmentRow]:
    """The segments of a run that end after `first_index`, in order."""
    for row in db.execute(
        "SELECT * FROM segments WHERE run = ? AND first_index + event_count > ?"
        " ORDER BY first_index",
        (run, first_index),
    ):
        yield SegmentRow(*row)


def iterate_back(
    db: sqlite3.Connection, run: int, before: int, first_index: int = 0
) -> Generator[SegmentRow, None, None]:
    """The segments of a run that begin before `before` and not before `first_index`, newest first.

    Close it where it is left early: until then SQLite's log cannot be begun anew.
    """
    rows = db.execute(
        "SELECT * FROM segments WHERE run = ? AND first_index < ? AND first_index >= ?"
        " ORDER BY first_index DESC",
        (run, before, first_index),
    )
    try:
        for row in rows:
            yield SegmentRow(*row)
    finally:
        rows.close()


def get_last_run(db: sqlite3.Connection) -> int:
    """The newest run of which anything is committed; -1 if there is none."""
    found = db.execute("SELECT max(run) FROM segments").fetchone()[0]
    return -1 if found is None else int(found)


def find_segment(db: sqlite3.Connection, run: int, first_index: int) -> SegmentRow | None:
    """The segment of a run that begins at this receipt."""
    row = db.execute(
        "SELECT * FROM segments WHERE run = ? AND first_index = ?", (run, first_index)
    ).fetchone()
    return SegmentRow(*row) if row else None


def get_header_before(db: sqlite3.Connection, run: int, first_index: int) -> bytes:
    """The header of the segment of a run before the one at this receipt; empty if it is first."""
    row = db.execute(
        "SELECT header FROM segments WHERE run = ? AND first_index < ?"
        " ORDER BY first_index DESC LIMIT 1",
        (run, first_index),
    ).fetchone()
    return bytes(row[0]) if row else b""


def iterate_epochs(db: sqlite3.Connection, run: int, after: int = 0) -> Iterator[EpochRow]:
    """The certificates of a run after epoch `after`, in order (the first is in the host log)."""
    for row in db.execute(
        "SELECT * FROM epochs WHERE run = ? AND epoch > ? ORDER BY epoch", (run, after)
    ):
        yield EpochRow(*row)
