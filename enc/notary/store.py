"""notary.db: what a notary has taken, its LogBlocks and PoE bundles, and what it set aside.

Not here: what is right (chainlite, intake, chain). One writer at a time, by a lock on the file's
directory that a pass holds; many readers. Invariants: WAL, synchronous=FULL: a committed row is
durable; a run's progress and the segment that made it are one transaction, as are a LogBlock and
the segments' places in it, so a segment is in one LogBlock or waits for one, never both or twice
(its key is the primary key). Who edits a row without the notary's key gains a refused export.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from chainlite import logblock, segment
from chainlite.errors import SpecError, StateError
from chainlite.merkle import HASH_BYTES
from chainlite.sha2 import sha256
from enc.notary.chain import Chain, LogState, Taken
from enc.notary.following import SeenLog
from enc.notary.intake import RunState
from enc.notary.source import RunName

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

SCHEMA_VERSION = 1
BUSY_S = 30.0
ASIDE_OF_RUN_MAX = 16
"""Different bad frames of one run that are kept; of further ones the reason alone."""
_COUNTER_BYTES = 8
_SCHEMA = (
    "CREATE TABLE notary (id INTEGER PRIMARY KEY CHECK (id = 0), public BLOB NOT NULL,"
    " floor_ms INTEGER NOT NULL)",
    "CREATE TABLE hosts (host BLOB PRIMARY KEY, note BLOB NOT NULL, size INTEGER NOT NULL,"
    " frontier BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE runs (host BLOB, container BLOB, run INTEGER, app TEXT NOT NULL,"
    " start_leaf INTEGER NOT NULL, last_leaf INTEGER NOT NULL, start BLOB NOT NULL,"
    " certificate BLOB NOT NULL, head BLOB NOT NULL, event_count INTEGER NOT NULL,"
    " usage BLOB NOT NULL, state INTEGER NOT NULL, held TEXT NOT NULL,"
    " PRIMARY KEY (host, container, run)) WITHOUT ROWID",
    "CREATE TABLE chains (chain INTEGER PRIMARY KEY, host BLOB NOT NULL, app TEXT NOT NULL,"
    " log_size INTEGER NOT NULL, log_root BLOB NOT NULL, UNIQUE (host, app))",
    "CREATE TABLE blocks (chain INTEGER, height INTEGER, time INTEGER NOT NULL,"
    " block BLOB NOT NULL, signature BLOB NOT NULL, PRIMARY KEY (chain, height)) WITHOUT ROWID",
    "CREATE INDEX blocks_of ON blocks (chain, time)",
    # `height` is NULL while the segment waits; `number` is the order in which they were taken.
    "CREATE TABLE segments (number INTEGER PRIMARY KEY, chain INTEGER NOT NULL, height INTEGER,"
    " container BLOB NOT NULL, run INTEGER NOT NULL, first_index INTEGER NOT NULL,"
    " usage_before BLOB NOT NULL, taken_ms INTEGER NOT NULL,"
    " header BLOB NOT NULL, signature BLOB NOT NULL, UNIQUE (chain, container, run, first_index))",
    "CREATE INDEX segments_of ON segments (chain, height)",
    "CREATE TABLE windows (app TEXT, start INTEGER, bundle BLOB, signature BLOB,"
    " PRIMARY KEY (app, start)) WITHOUT ROWID",
    "CREATE TABLE aside (number INTEGER PRIMARY KEY, host BLOB NOT NULL, container BLOB NOT NULL,"
    " run INTEGER NOT NULL, first_index INTEGER NOT NULL, why TEXT NOT NULL,"
    " digest BLOB NOT NULL, evidence BLOB NOT NULL, time_ms INTEGER NOT NULL,"
    " UNIQUE (host, container, run, digest, why))",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


class BlockRow(NamedTuple):
    """A LogBlock as it is stored."""

    height: int
    time: int
    block: bytes
    signature: bytes


class AsideRow(NamedTuple):
    """Something bad that was set aside: where, why, when; `evidence` as intake.Bad has it."""

    number: int
    host: bytes
    container: bytes
    run: int
    first_index: int
    why: str
    evidence: bytes
    time_ms: int


class WindowRow(NamedTuple):
    """A billing window that has LogBlocks; the bundle is empty until it is over."""

    app: str
    start: int
    bundle: bytes
    signature: bytes


class Store:
    """An open notary.db. Use as a context manager; one thread at a time."""

    def __init__(self, directory: str, public: bytes | None) -> None:
        """Open it; with the notary's `public` key for writing (made if missing), else to read.

        StateError: it is not there, another notary's, or (for writing) another pass is going on
        and takes longer than a caller may wait.
        """
        self._lock = -1
        path = f"{directory}/notary.db"
        if public is None and not os.path.exists(path):
            raise StateError(f"{path}: no notary has run here")
        if public is not None:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            self._lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            self.db = _open(path, public)
        except BaseException:
            self._unlock()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database, then let others write."""
        self.db.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def write(self) -> Transaction:
        """For `with`: all that is written within is durable at its end, or none of it."""
        return Transaction(self.db)

    def get_public(self) -> bytes:
        """The key of the notary that this is the database of."""
        return bytes(self.db.execute("SELECT public FROM notary").fetchone()[0])

    def get_floor_ms(self) -> int:
        """The end of the newest window that was closed: no LogBlock may be earlier."""
        return int(self.db.execute("SELECT floor_ms FROM notary").fetchone()[0])

    def get_seen(self, host: bytes) -> SeenLog:
        """How far a host's log was followed."""
        row = self.db.execute(
            "SELECT note, size, frontier FROM hosts WHERE host = ?", (host,)
        ).fetchone()
        if row is None:
            return SeenLog()
        starts = range(0, len(row[2]), HASH_BYTES)
        return SeenLog(row[0], row[1], tuple([row[2][at : at + HASH_BYTES] for at in starts]))

    def put_seen(self, host: bytes, seen: SeenLog) -> None:
        """All leaves of a host up to here are seen to."""
        values = (host, seen.note, seen.size, b"".join(seen.frontier))
        self.db.execute("INSERT OR REPLACE INTO hosts VALUES (?, ?, ?, ?)", values)

    def find_hosts(self) -> set[bytes]:
        """The hosts whose logs were followed."""
        return {row[0] for row in self.db.execute("SELECT host FROM hosts")}

    def get_run(self, host: bytes, name: RunName) -> RunState | None:
        """How far a run is; None if nothing of it was taken."""
        row = self.db.execute(
            "SELECT * FROM runs WHERE host = ? AND container = ? AND run = ?", (host, *name)
        ).fetchone()
        return _make_run(row) if row else None

    def get_runs(self, host: bytes, where: str = "1") -> list[RunState]:
        """The runs of a host in the order of their starts; `where` is a condition of ours."""
        rows = self.db.execute(
            f"SELECT * FROM runs WHERE host = ? AND {where} ORDER BY start_leaf", (host,)
        )
        return [_make_run(row) for row in rows]

    def get_refused_starts(self, host: bytes) -> list[RunName]:
        """Runs of which nothing was taken since their start was bad."""
        rows = self.db.execute(
            "SELECT container, run FROM aside WHERE host = ? AND container != x'' AND NOT EXISTS"
            " (SELECT 1 FROM runs WHERE runs.host = aside.host"
            " AND runs.container = aside.container AND runs.run = aside.run)"
            " GROUP BY container, run ORDER BY min(number)",
            (host,),
        )
        return [RunName(*row) for row in rows]

    def put_run(self, host: bytes, run: RunState) -> None:
        """How far a run is now."""
        usage = b"".join([value.to_bytes(_COUNTER_BYTES, "big") for value in run.usage])
        values = (host, *run.name, *run[1:8], usage, *run[9:])
        self.db.execute(
            "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values
        )

    def set_held(self, host: bytes, name: RunName, why: str) -> None:
        """Why a run stands still."""
        self.db.execute(
            "UPDATE runs SET held = ? WHERE host = ? AND container = ? AND run = ?",
            (why, host, *name),
        )

    def get_chain(self, notary: bytes, host: bytes, app: str) -> Chain:
        """The chain of an app on a host, and what waits for its next block."""
        row = self.db.execute(
            "SELECT chain, log_size, log_root FROM chains WHERE host = ? AND app = ?", (host, app)
        ).fetchone()
        if row is None:
            return Chain(notary, host, app)
        number, log = row[0], LogState(row[1], row[2])
        waiting = self.db.execute(
            "SELECT header, signature, usage_before, taken_ms FROM segments"
            " WHERE chain = ? AND height IS NULL ORDER BY number",
            (number,),
        ).fetchall()
        taken = tuple([_make_taken(*found[:3]) for found in waiting])
        opened_ms = waiting[0][3] if waiting else 0
        last = self.get_last_block(number)
        if last is None:
            return Chain(notary, host, app, log=log, waiting=taken, opened_ms=opened_ms)
        block = logblock.decode_block(last.block)
        return Chain(
            notary,
            host,
            app,
            block.height + 1,
            logblock.compute_block_hash(last.block),
            block.time,
            block.totals,
            log,
            taken,
            opened_ms,
        )

    def get_chain_names(self) -> list[tuple[int, bytes, str]]:
        """(number, host, app) of every chain."""
        return list(self.db.execute("SELECT chain, host, app FROM chains ORDER BY app, host"))

    def get_waiting_chains(self) -> list[tuple[bytes, str]]:
        """(host, app) of the chains in which segments wait."""
        return list(
            self.db.execute(
                "SELECT host, app FROM chains WHERE chain IN"
                " (SELECT chain FROM segments WHERE height IS NULL) ORDER BY chain"
            )
        )

    def put_log(self, chain: Chain) -> int:
        """The state of the host's log that the newest segment was verified under; the number."""
        self.db.execute(
            "INSERT INTO chains (host, app, log_size, log_root) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET log_size = excluded.log_size, log_root = excluded.log_root",
            (chain.host, chain.app, *chain.log),
        )
        return self.find_chain(chain.host, chain.app)

    def find_chain(self, host: bytes, app: str) -> int:
        """The number of a chain."""
        row = self.db.execute(
            "SELECT chain FROM chains WHERE host = ? AND app = ?", (host, app)
        ).fetchone()
        return int(row[0])

    def insert_segment(self, chain: int, taken: Taken, now_ms: int) -> None:
        """A segment waits. sqlite3.IntegrityError if it was taken before."""
        header = segment.decode_header(taken.signed.header)
        usage = b"".join([value.to_bytes(_COUNTER_BYTES, "big") for value in taken.usage_before])
        key = (header.container, header.run, header.first_index)
        self.db.execute(
            "INSERT INTO segments (chain, container, run, first_index, usage_before, taken_ms,"
            " header, signature) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (chain, *key, usage, now_ms, *taken.signed),
        )

    def insert_block(self, chain: int, row: BlockRow) -> int:
        """A LogBlock, and all that waits is in it; how many segments that is."""
        self.db.execute("INSERT INTO blocks VALUES (?, ?, ?, ?, ?)", (chain, *row))
        placed = self.db.execute(
            "UPDATE segments SET height = ? WHERE chain = ? AND height IS NULL", (row.height, chain)
        )
        return placed.rowcount

    def get_last_block(self, chain: int, before: int | None = None) -> BlockRow | None:
        """The newest block of a chain, or the newest with a time in ns below `before`."""
        row = self.db.execute(
            "SELECT height, time, block, signature FROM blocks WHERE chain = ? AND time < ?"
            " ORDER BY time DESC LIMIT 1",
            (chain, (1 << 63) - 1 if before is None else before),
        ).fetchone()
        return BlockRow(*row) if row else None

    def iterate_blocks(self, chain: int) -> Iterator[tuple[BlockRow, bytes]]:
        """The blocks of a chain in order, each with its segments as a body."""
        for row in self.db.execute(
            "SELECT height, time, block, signature FROM blocks WHERE chain = ? ORDER BY height",
            (chain,),
        ):
            parts = self.db.execute(
                "SELECT header, signature FROM segments WHERE chain = ? AND height = ?"
                " ORDER BY number",
                (chain, row[0]),
            )
            yield BlockRow(*row), b"".join([header + signature for header, signature in parts])

    def add_window(self, app: str, start: int) -> None:
        """A window of an app has a LogBlock."""
        self.db.execute("INSERT OR IGNORE INTO windows (app, start) VALUES (?, ?)", (app, start))

    def get_windows(self, app: str) -> list[WindowRow]:
        """The windows of an app in order."""
        rows = self.db.execute("SELECT * FROM windows WHERE app = ? ORDER BY start", (app,))
        return [WindowRow(row[0], row[1], row[2] or b"", row[3] or b"") for row in rows]

    def find_over(self, end: int) -> list[tuple[str, int]]:
        """(app, start) of the windows that begin before `end` and have no bundle yet."""
        rows = self.db.execute(
            "SELECT app, start FROM windows WHERE bundle IS NULL AND start < ? ORDER BY start, app",
            (end,),
        )
        return list(rows)

    def put_bundle(self, row: WindowRow, floor_ms: int) -> None:
        """A window's bundle; no LogBlock may be earlier than its end from now on."""
        self.db.execute(
            "UPDATE windows SET bundle = ?, signature = ? WHERE app = ? AND start = ?",
            (row.bundle, row.signature, row.app, row.start),
        )
        self.db.execute("UPDATE notary SET floor_ms = max(floor_ms, ?)", (floor_ms,))

    def set_aside(self, row: AsideRow) -> bool:
        """Keep something bad; False if it is there already, or the run has its share of them."""
        digest = sha256(row.evidence).digest()
        count = self.db.execute(
            "SELECT count(*) FROM aside WHERE host = ? AND container = ? AND run = ?", row[1:4]
        ).fetchone()[0]
        if count >= ASIDE_OF_RUN_MAX:
            return False
        done = self.db.execute(
            "INSERT OR IGNORE INTO aside (host, container, run, first_index, why, digest, evidence,"
            " time_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*row[1:6], digest, row.evidence, row.time_ms),
        )
        return done.rowcount > 0

    def iterate_aside(self) -> Iterator[AsideRow]:
        """All that was set aside, in order."""
        for row in self.db.execute(
            "SELECT number, host, container, run, first_index, why, evidence, time_ms FROM aside"
            " ORDER BY number"
        ):
            yield AsideRow(*row)

    def count(self, chain: int) -> tuple[int, int, int]:
        """(LogBlocks, segments in them, segments that wait) of a chain."""
        blocks = self.db.execute("SELECT count(*) FROM blocks WHERE chain = ?", (chain,))
        segments = self.db.execute(
            "SELECT count(height), count(*) - count(height) FROM segments WHERE chain = ?", (chain,)
        )
        return (int(blocks.fetchone()[0]), *segments.fetchone())


class Transaction:
    """BEGIN IMMEDIATE to COMMIT, or ROLLBACK at an error."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is None:
            self._db.execute("COMMIT")
        elif self._db.in_transaction:
            self._db.execute("ROLLBACK")


def _open(path: str, public: bytes | None) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and public is not None:
            version = _create(db, path, public)
        if version != SCHEMA_VERSION:
            raise SpecError(
                f"{path}: schema version {version}; this program reads {SCHEMA_VERSION}"
            )
        db.execute("PRAGMA synchronous = FULL")
        found = db.execute("SELECT public FROM notary").fetchone()
        if public is not None and (found is None or found[0] != public):
            raise StateError(f"{path}: another notary's: restore its key with it, or move it away")
    except sqlite3.DatabaseError as error:
        db.close()
        raise SpecError(f"{path}: not a notary's database: {error}") from None
    except BaseException:
        db.close()
        raise
    return db


def _create(db: sqlite3.Connection, path: str, public: bytes) -> int:
    os.chmod(path, 0o600)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA:
        db.execute(statement)
    db.execute("INSERT INTO notary VALUES (0, ?, 0)", (public,))
    db.execute("COMMIT")
    return SCHEMA_VERSION


def _make_run(row: tuple[object, ...]) -> RunState:
    name = RunName(row[1], row[2])  # type: ignore[arg-type]
    return RunState._make((name, *row[3:10], _read_counters(row[10]), *row[11:]))  # type: ignore[arg-type]


def _read_counters(data: bytes) -> tuple[int, ...]:
    starts = range(0, len(data), _COUNTER_BYTES)
    return tuple([int.from_bytes(data[at : at + _COUNTER_BYTES], "big") for at in starts])


def _make_taken(header: bytes, signature: bytes, usage_before: bytes) -> Taken:
    decoded = segment.decode_header(header)
    signed = logblock.SignedHeader(header, signature)
    return Taken(signed, decoded.event_count, _read_counters(usage_before), decoded.usage)
