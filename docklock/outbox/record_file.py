"""An SQLite file of this room: durable, of one thread, written whole or not at all.

Not here: what is in it (sent, calls).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from docklock.evidence.database import open_record
from docklock.evidence.transaction import Transaction

if TYPE_CHECKING:
    from typing import Self

    from docklock.paths import Paths


def get_directory(paths: Paths) -> str:
    """Where all that is known about servers lies."""
    return f"{paths.state}/outbox"


class RecordFile:
    """The open file; what it is called and has, the class of each says."""

    NAME = ""
    WHAT = ""
    SCHEMA: tuple[str, ...] = ()
    VERSION = 0

    def __init__(self, paths: Paths) -> None:
        """Open it, or make it; SpecError if it is another file."""
        path = f"{get_directory(paths)}/{self.NAME}"
        self._db = open_record(path, self.SCHEMA, self.VERSION, self.WHAT)
        self._db.execute("PRAGMA synchronous = FULL")

    @classmethod
    def is_there(cls, paths: Paths) -> bool:
        """Whether anything was ever written."""
        return os.path.exists(f"{get_directory(paths)}/{cls.NAME}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def write(self) -> Transaction:
        """For `with`: all of it, or nothing."""
        return Transaction(lambda: self._db.execute("BEGIN IMMEDIATE"), self._commit, self._undo)

    def _commit(self) -> None:
        self._db.execute("COMMIT")

    def _undo(self, _: BaseException) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
