"""Where in a server's log it is said how much of this host's log it holds: outbox/placed.db.

A server that loses its disk has to fill its log in the order that it had; each host knows its own
part of it. Acknowledgements are kept for one each minute (sent); here are all of their places, two
numbers each, the sizes up to which batches were sent whose answer never came, and the grant that
this host was enrolled by. Not here: handing it over (handing).
Invariants: a place is written, durably, before its acknowledgement counts; the newest PLACES_KEPT
of each server are kept. Sizes of batches without an answer survive a kill, not a loss of power.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainlite import tlogproof
from chainlite.bpci.acknowledgement import decode_acknowledgement
from chainlite.bpci.handover import UNSURE_MAX, Place
from docklock.outbox.record_file import RecordFile

if TYPE_CHECKING:
    from docklock.paths import Paths

SCHEMA_VERSION = 1
PLACES_KEPT = 1 << 23
"""At four a second, which is the most, more than 14 days."""
PRUNE_EVERY = 4096
_SCHEMA = (
    "CREATE TABLE servers (number INTEGER PRIMARY KEY, server TEXT NOT NULL UNIQUE,"
    " grant BLOB NOT NULL, enrolled BLOB NOT NULL)",
    "CREATE TABLE places (server INTEGER, leaf_index INTEGER, size INTEGER NOT NULL,"
    " PRIMARY KEY (server, leaf_index)) WITHOUT ROWID",
    "CREATE TABLE unsure (server INTEGER, size INTEGER, PRIMARY KEY (server, size)) WITHOUT ROWID",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


class Placed(RecordFile):
    """The open file; of one server the process has it that has its turn."""

    NAME = "placed.db"
    WHAT = "a record of places in servers' logs"
    SCHEMA = _SCHEMA
    VERSION = SCHEMA_VERSION

    def __init__(self, paths: Paths) -> None:
        """As RecordFile."""
        super().__init__(paths)
        self._numbers: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        self._since_pruned = 0

    def _find_number(self, server: str) -> int:
        if server not in self._numbers:
            self._db.execute(
                "INSERT OR IGNORE INTO servers (server, grant, enrolled) VALUES (?, x'', x'')",
                (server,),
            )
            row = self._db.execute("SELECT number FROM servers WHERE server = ?", (server,))
            self._numbers[server] = row.fetchone()[0]
        return self._numbers[server]

    def put(self, server: str, acknowledgement: bytes) -> None:
        """The place that an acknowledgement, which was checked, speaks of."""
        made = decode_acknowledgement(acknowledgement)
        place = Place(tlogproof.parse_log_proof(made.proof).leaf_index, made.held.size)
        number = self._find_number(server)
        self._db.execute("PRAGMA synchronous = FULL")
        with self.write():
            self._db.execute("INSERT OR REPLACE INTO places VALUES (?, ?, ?)", (number, *place))
            self._db.execute(
                "DELETE FROM unsure WHERE server = ? AND size <= ?", (number, place.size)
            )
            self._since_pruned += 1
            if self._since_pruned % PRUNE_EVERY == 1:
                self._prune(number)
        self._sizes[server] = place.size

    def _prune(self, number: int) -> None:
        self._db.execute(
            "DELETE FROM places WHERE server = ? AND leaf_index <= (SELECT leaf_index FROM places"
            " WHERE server = ? ORDER BY leaf_index DESC LIMIT 1 OFFSET ?)",
            (number, number, PLACES_KEPT),
        )

    def put_unsure(self, server: str, size: int) -> None:
        """A batch up to there is about to be sent: whether it is taken, nobody knows yet."""
        if size <= self._get_size(server):
            return
        number = self._find_number(server)
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("INSERT OR IGNORE INTO unsure VALUES (?, ?)", (number, size))
        self._db.execute(
            "DELETE FROM unsure WHERE server = ? AND size <= (SELECT size FROM unsure"
            " WHERE server = ? ORDER BY size DESC LIMIT 1 OFFSET ?)",
            (number, number, UNSURE_MAX),
        )

    def _get_size(self, server: str) -> int:
        """What the last place speaks of; 0 for none."""
        if server not in self._sizes:
            row = self._db.execute(
                "SELECT size FROM places WHERE server = ? ORDER BY leaf_index DESC LIMIT 1",
                (self._find_number(server),),
            ).fetchone()
            self._sizes[server] = row[0] if row else 0
        return self._sizes[server]

    def read(self, server: str, first: int, limit: int) -> list[Place]:
        """Places from this leaf of the server's log on, in order."""
        rows = self._db.execute(
            "SELECT leaf_index, size FROM places WHERE server = ? AND leaf_index >= ?"
            " ORDER BY leaf_index LIMIT ?",
            (self._find_number(server), first, limit),
        )
        return [Place(*row) for row in rows]

    def get_unsure(self, server: str) -> list[int]:
        """Sizes up to which a batch was sent that was not answered, in order."""
        rows = self._db.execute(
            "SELECT size FROM unsure WHERE server = ? ORDER BY size", (self._find_number(server),)
        )
        return [int(row[0]) for row in rows]

    def put_enrolment(self, server: str, grant: bytes, answer: bytes = b"") -> None:
        """What this host was enrolled by, and what the server answered."""
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(
            "UPDATE servers SET grant = ?, enrolled = ? WHERE number = ?",
            (grant, answer, self._find_number(server)),
        )

    def get_enrolment(self, server: str) -> tuple[bytes, bytes]:
        """Grant and answer; empty where they are not known."""
        row = self._db.execute(
            "SELECT grant, enrolled FROM servers WHERE server = ?", (server,)
        ).fetchone()
        return (bytes(row[0]), bytes(row[1])) if row else (b"", b"")
