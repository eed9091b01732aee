"""witness.db: what this witness cosigned of each log, and what its peers did.

Not here: what may be cosigned (chainlite.witness), who decides (witness.py), forks (forks.py). One
writer: the process that holds the lock. Invariants: a checkpoint is durable before its cosignature
is given; the size of an origin never shrinks; what peers send is bounded: one checkpoint of each
peer and log, PAST_MAX sizes of each log.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, NamedTuple

from chainlite.errors import SpecError, StateError
from docklock.evidence.database import ensure_schema, sqlite3

if TYPE_CHECKING:
    from typing import Self

    from docklock.paths import Paths

SCHEMA_VERSION = 1
PAST_MAX = 1024
_SCHEMA = (
    "CREATE TABLE logs (origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL,"
    " time INTEGER NOT NULL, note BLOB NOT NULL)",
    "CREATE TABLE past (origin TEXT, size INTEGER, root BLOB NOT NULL, note BLOB NOT NULL,"
    " PRIMARY KEY (origin, size))",
    "CREATE TABLE heard (origin TEXT, peer TEXT, size INTEGER NOT NULL, root BLOB NOT NULL,"
    " note BLOB NOT NULL, is_settled INTEGER NOT NULL, PRIMARY KEY (origin, peer))",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


class Cosigned(NamedTuple):
    """The latest checkpoint of a log that this witness cosigned, and when (Unix seconds)."""

    size: int
    root: bytes
    time: int
    note: bytes


class Heard(NamedTuple):
    """A checkpoint that a peer has cosigned; settled once it agrees with what we know."""

    peer: str
    size: int
    root: bytes
    note: bytes
    is_settled: int


class Store:
    """An open witness.db, locked for this process."""

    def __init__(self, paths: Paths) -> None:
        """Open it, or make it; StateError if another witness has it."""
        self.path = get_path(paths)
        os.makedirs(paths.state, mode=0o700, exist_ok=True)
        self._lock = os.open(
            f"{paths.state}/witness.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise StateError(f"another witness runs on {paths.state}") from None
        self._db = _open(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database and let go of the lock."""
        self._db.close()
        os.close(self._lock)

    def get(self, origin: str) -> Cosigned | None:
        """What was cosigned last of a log."""
        row = self._db.execute(
            "SELECT size, root, time, note FROM logs WHERE origin = ?", (origin,)
        ).fetchone()
        return Cosigned(*row) if row else None

    def put(self, origin: str, new: Cosigned) -> None:
        """Make a checkpoint the last of its log, durably: it is on disk when this returns.

        An assertion guards what the caller has checked: it is never smaller than the one before.
        """
        before = self.get(origin)
        assert before is None or before.size <= new.size, "a witness never goes back"
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("INSERT OR REPLACE INTO logs VALUES (?, ?, ?, ?, ?)", (origin, *new))
            row = (origin, new.size, new.root, new.note)
            self._db.execute("INSERT OR REPLACE INTO past VALUES (?, ?, ?, ?)", row)
            self._db.execute(
                "DELETE FROM past WHERE origin = ? AND size <= (SELECT size FROM past"
                " WHERE origin = ? ORDER BY size DESC LIMIT 1 OFFSET ?)",
                (origin, origin, PAST_MAX),
            )

    def get_past(self, origin: str, size: int) -> tuple[bytes, bytes] | None:
        """Root and note of the checkpoint of this size that was cosigned, if it is kept."""
        row = self._db.execute(
            "SELECT root, note FROM past WHERE origin = ? AND size = ?", (origin, size)
        ).fetchone()
        return (row[0], row[1]) if row else None

    def hear(self, origin: str, heard: Heard) -> None:
        """Keep a peer's checkpoint in place of the one that was kept of it."""
        with self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO heard VALUES (?, ?, ?, ?, ?, ?)", (origin, *heard)
            )

    def get_heard(self, origin: str) -> tuple[Heard, ...]:
        """What each peer cosigned of a log, as far as it was heard."""
        rows = self._db.execute(
            "SELECT peer, size, root, note, is_settled FROM heard WHERE origin = ? ORDER BY peer",
            (origin,),
        )
        return tuple(Heard(*row) for row in rows)

    def get_unsettled(self) -> tuple[tuple[str, Heard], ...]:
        """What peers have cosigned and nothing here shows to agree, with its origin."""
        rows = self._db.execute(
            "SELECT origin, peer, size, root, note, is_settled FROM heard WHERE is_settled = 0"
            " ORDER BY origin, peer"
        )
        return tuple((row[0], Heard(*row[1:])) for row in rows)

    def count_logs(self) -> int:
        """How many logs have a checkpoint cosigned."""
        return int(self._db.execute("SELECT count(*) FROM logs").fetchone()[0])


def get_path(paths: Paths) -> str:
    """The file of a witness's state."""
    return f"{paths.state}/witness.db"


def _open(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=5.0, isolation_level=None)
    try:
        ensure_schema(db, path, _SCHEMA, SCHEMA_VERSION)
        db.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error as error:
        db.close()
        raise StateError(f"{path}: the witness's state cannot be opened: {error}") from None
    except SpecError:
        db.close()
        raise
    return db
