"""SQLite without the date and time adapters of the module sqlite3, which take 1 ms to import."""

from __future__ import annotations

from chainlite.lean import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
else:
    import _sqlite3 as sqlite3

__all__ = ["sqlite3"]
