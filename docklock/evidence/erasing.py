"""Erase values for good: out of the container's store go the values, and what their salts follow
from. Every proof still verifies.

Not here: which bytes go (chainlite.redaction). Invariants: only what is whole is touched; a value
that is kept gets its salt stored, since the segment's secret goes; afterwards no file of the store
has the old bytes: SQLite overwrites what it frees (secure_delete), the write-ahead log is emptied,
and the file is written anew (VACUUM). What the disk below keeps of old blocks, and files that were
exported before, are beyond it. Source: SQLite, PRAGMA secure_delete and wal_checkpoint.
"""

from __future__ import annotations

from chainlite import bundle
from chainlite.errors import StateError, TamperError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.redaction import redact_segment
from chainlite.report import describe_bad
from docklock.evidence import container_store
from docklock.evidence.database import sqlite3
from docklock.evidence.export import verify_container
from docklock.evidence.host_log import HostLog
from docklock.evidence.reading import has_store

if TYPE_CHECKING:
    from docklock.paths import Paths


class Erased(NamedTuple):
    """How many segments were written anew, and how many values are gone now in all."""

    segments: int
    values: int


def erase_values(paths: Paths, container: str, classes: frozenset[str]) -> Erased:
    """Erase all values of these classes in a container's store.

    StateError while a run of it is open or someone else reads the store; TamperError if it is not
    whole. Interrupted anywhere, it can be asked again.
    """
    with HostLog(paths, None) as log:
        if any(run.exit_leaf is None for run in log.get_runs(container)):
            raise StateError(f"container {container[:12]} runs: stop it first")
    before = verify_container(paths, container)
    if before.first_bad is not None:
        raise TamperError(f"nothing was erased: {describe_bad(before.first_bad)}")
    if not has_store(paths, container):
        return Erased(0, 0)
    db = container_store.create_store(paths, container)
    try:
        count = _rewrite(db, classes)
        _wipe(db)
    except sqlite3.Error as error:
        raise StateError(f"container {container[:12]}: values not erased: {error}") from None
    finally:
        db.close()
    return Erased(count, verify_container(paths, container).redacted)


def _rewrite(db: sqlite3.Connection, classes: frozenset[str]) -> int:
    """Replace secret and body of each segment that has such values, in one transaction."""
    db.execute("PRAGMA secure_delete = ON")
    count = 0
    db.execute("BEGIN IMMEDIATE")
    try:
        places = db.execute("SELECT run, first_index FROM segments").fetchall()
        for place in places:
            [row] = db.execute(
                "SELECT header, signature, secret, leaf_tags, body FROM segments"
                " WHERE run = ? AND first_index = ?",
                place,
            )
            stored = bundle.StoredSegment(*row)
            kept = redact_segment(stored, classes)
            if kept is not stored:
                count += 1
                db.execute(
                    "UPDATE segments SET secret = ?, body = ? WHERE run = ? AND first_index = ?",
                    (kept.secret, kept.body, *place),
                )
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return count


def _wipe(db: sqlite3.Connection) -> None:
    """Leave nothing of what was replaced in the file or in its write-ahead log."""
    db.execute("PRAGMA temp_store = MEMORY")
    _empty_log(db)
    db.execute("VACUUM")
    _empty_log(db)


def _empty_log(db: sqlite3.Connection) -> None:
    """Move the write-ahead log into the file and cut it to nothing."""
    if db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        raise StateError("others read the store: old pages may be left; ask again")
