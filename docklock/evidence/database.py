"""SQLite without the Python halves of sqlite3 and functools, which take 1 and 2 ms to import.

The C half wants one thing of functools, its lru_cache, for the cache of prepared statements: the
real one's C half stands in while it is loaded. Invariant: functools itself is what it always was to
everyone else (tests/evidence/test_database.py).
"""

from __future__ import annotations

import sys

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

__all__ = ["sqlite3"]
