"""SQLite without the Python halves of sqlite3 and functools, which take 1 and 2 ms to import; and a
new database's tables.

The C half wants one thing of functools, its lru_cache, for the cache of prepared statements: the
real one's C half stands in while it is loaded. Invariant: functools itself is what it always was to
everyone else (tests/evidence/test_database.py).
"""

from __future__ import annotations

import os
import sys

from chainlite.errors import SpecError, StateError
from chainlite.lean import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
else:
    if "functools" in sys.modules:
        import _sqlite3 as sqlite3
    else:
        from _functools import _lru_cache_wrapper

        stand_in = type(sys)("functools")
        stand_in.lru_cache = lambda size: lambda call: _lru_cache_wrapper(call, size, False, tuple)
        sys.modules["functools"] = stand_in
        try:
            import _sqlite3 as sqlite3
        finally:
            del sys.modules["functools"]

__all__ = ["ensure_schema", "open_record", "sqlite3"]

BUSY_S = 30.0


def ensure_schema(db: sqlite3.Connection, path: str, schema: tuple[str, ...], version: int) -> None:
    """Lay out a new database, with a write-ahead log and for its owner alone.

    `schema` sets the version. SpecError where the database has another one.
    """
    found = db.execute("PRAGMA user_version").fetchone()[0]
    if found == 0:
        os.chmod(path, 0o600)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("BEGIN IMMEDIATE")
        found = db.execute("PRAGMA user_version").fetchone()[0]
        for statement in schema if found == 0 else ():
            db.execute(statement)
        db.execute("COMMIT")
        found = db.execute("PRAGMA user_version").fetchone()[0]
    if found != version:
        raise SpecError(f"{path}: schema version {found}; this program reads {version}")


def open_record(path: str, schema: tuple[str, ...], version: int, what: str) -> sqlite3.Connection:
    """Open a database in a directory of ours, or make both; SpecError if it is not `what`.

    StateError: the system does not let it be opened.
    """
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    try:
        ensure_schema(db, path, schema, version)
    except sqlite3.OperationalError as error:  # no room for its log, say
        db.close()
        raise StateError(f"{path}: cannot be opened: {error}") from None
    except sqlite3.DatabaseError as error:
        db.close()
        raise SpecError(f"{path}: not {what}: {error}") from None
    except SpecError:
        db.close()
        raise
    return db
