"""What this host has sent to servers and what each has acknowledged: outbox/sent.db.

Not here: sending (sending), whether an acknowledgement holds (checking: nothing that was not
checked comes here). One process holds a server's turn at a time (turns). Invariants: what is
written is durable before anything rests on it; an acknowledgement is kept as it came, one for each
minute in which there was any, so that an auditor can be shown when a server held how much; answers
that contradict each other are kept apart and replace nothing. Who loses this file sends one batch
that changes nothing to each server, and is told where it stands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from docklock.outbox.record_file import RecordFile

if TYPE_CHECKING:
    from docklock.paths import Paths

SCHEMA_VERSION = 1
ACKNOWLEDGEMENTS_KEPT = 200_000
"""Of each server; some 2 KB each. At one a minute it is 139 days."""
CONTRADICTIONS_KEPT = 64
MS_PER_MINUTE = 60_000
_SCHEMA = (
    "CREATE TABLE servers (server TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL,"
    " most INTEGER NOT NULL, acknowledged_ms INTEGER NOT NULL, tried_ms INTEGER NOT NULL,"
    " next_ms INTEGER NOT NULL, failures INTEGER NOT NULL, trouble TEXT NOT NULL,"
    " state INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE acknowledgements (server TEXT, minute INTEGER, size INTEGER,"
    " time_ms INTEGER NOT NULL, bytes BLOB NOT NULL, PRIMARY KEY (server, minute, size))"
    " WITHOUT ROWID",
    "CREATE TABLE checkpoints (server TEXT, size INTEGER, root BLOB NOT NULL, note BLOB NOT NULL,"
    " is_served INTEGER NOT NULL, is_audited INTEGER NOT NULL, PRIMARY KEY (server, size))"
    " WITHOUT ROWID",
    "CREATE TABLE contradictions (server TEXT, number INTEGER, time_ms INTEGER NOT NULL,"
    " why TEXT NOT NULL, answer BLOB NOT NULL, other BLOB NOT NULL, PRIMARY KEY (server, number))"
    " WITHOUT ROWID",
    "CREATE TABLE settings (id INTEGER PRIMARY KEY CHECK (id = 0), file TEXT NOT NULL)",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
WELL, BUSY, AWAY, REFUSED, CONTRADICTED, TAMPERED, ALERTED = 0, 1, 2, 3, 4, 5, 6
STATES = ("well", "busy", "away", "refused", "contradicted", "tampered", "alerted")
"""Of the last try. The last three: the server has said what cannot be true; this host's own log or
files do not hold; the server says so of what was sent."""


class Standing(NamedTuple):
    """How far a server is, and what came of the last try.

    `size` and `root` are where it stands by its last acknowledgement; `most` is the largest size
    that it ever acknowledged. Times are Unix ms, 0 for never; `next_ms` is when it is tried again,
    `failures` how often in a row it was tried for nothing, `state` indexes STATES.
    """

    size: int = 0
    root: bytes = b""
    most: int = 0
    acknowledged_ms: int = 0
    tried_ms: int = 0
    next_ms: int = 0
    failures: int = 0
    trouble: str = ""
    state: int = WELL


class Seen(NamedTuple):
    """A state of a server's own log under its signature."""

    size: int
    root: bytes
    note: bytes


class Contradiction(NamedTuple):
    """An answer that cannot be true, why, and what it contradicts (empty: this host's own log)."""

    time_ms: int
    why: str
    answer: bytes
    other: bytes


def has_sent(paths: Paths) -> bool:
    """Whether this host has ever had a server."""
    return Sent.is_there(paths)


class Sent(RecordFile):
    """The open file. One thread."""

    NAME, WHAT = "sent.db", "a record of what was sent"
    SCHEMA, VERSION = _SCHEMA, SCHEMA_VERSION

    def get_standing(self, server: str) -> Standing:
        """How far a server is."""
        row = self._db.execute(
            "SELECT size, root, most, acknowledged_ms, tried_ms, next_ms, failures, trouble, state"
            " FROM servers WHERE server = ?",
            (server,),
        ).fetchone()
        return Standing(*row) if row else Standing()

    def get_standings(self) -> dict[str, Standing]:
        """How far each server is that this host ever had, by the name of its log's key."""
        rows = self._db.execute("SELECT server FROM servers ORDER BY server").fetchall()
        return {name: self.get_standing(name) for (name,) in rows}

    def put_standing(self, server: str, standing: Standing) -> None:
        """What came of a try that brought no acknowledgement."""
        self._db.execute(
            "INSERT OR REPLACE INTO servers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (server, *standing),
        )

    def put_acknowledgement(
        self, server: str, standing: Standing, acknowledgement: bytes, seen: Seen
    ) -> None:
        """A server has acknowledged: where it stands, its words, the checkpoint of its own log."""
        now_ms = standing.acknowledged_ms
        minute = now_ms // MS_PER_MINUTE
        with self.write():
            self.put_standing(server, standing)
            self._db.execute(  # never one of more: a server that loses its disk has said it
                "DELETE FROM acknowledgements WHERE server = ? AND minute = ? AND size <= ?",
                (server, minute, standing.size),
            )
            self._db.execute(
                "INSERT INTO acknowledgements VALUES (?, ?, ?, ?, ?)",
                (server, minute, standing.size, now_ms, acknowledgement),
            )
            self._put_checkpoint(server, seen, is_served=False)
            for table, key in (("acknowledgements", "minute"), ("checkpoints", "size")):
                self._db.execute(
                    f"DELETE FROM {table} WHERE server = ? AND {key} <= (SELECT {key} FROM {table}"
                    f" WHERE server = ? ORDER BY {key} DESC LIMIT 1 OFFSET ?)",
                    (server, server, ACKNOWLEDGEMENTS_KEPT),
                )

    def _put_checkpoint(self, server: str, seen: Seen, *, is_served: bool) -> None:
        """The first of a size stays: one that differs is never put here."""
        self._db.execute(
            "INSERT INTO checkpoints VALUES (?, ?, ?, ?, ?, 0) ON CONFLICT (server, size)"
            " DO UPDATE SET is_served = min(is_served, excluded.is_served)",
            (server, *seen, is_served),
        )

    def get_unaudited(self, server: str, limit: int) -> list[Seen]:
        """The smallest states of a server's log that were not looked for in a later one yet."""
        rows = self._db.execute(
            "SELECT size, root, note FROM checkpoints WHERE server = ? AND NOT is_audited"
            " ORDER BY size LIMIT ?",
            (server, limit),
        )
        return [Seen(*row) for row in rows]

    def put_audited(self, server: str, found: list[Seen], served: Seen) -> None:
        """These states were found in `served`, which is to be found in a later one."""
        with self.write():
            self._db.executemany(
                "UPDATE checkpoints SET is_audited = 1 WHERE server = ? AND size = ?",
                [(server, one.size) for one in found if one.size != served.size],
            )
            self._put_checkpoint(server, served, is_served=True)

    def get_acknowledgements(self, server: str, limit: int) -> list[bytes]:
        """The newest acknowledgements as they came, newest first."""
        rows = self._db.execute(
            "SELECT bytes FROM acknowledgements WHERE server = ? ORDER BY minute DESC,"
            " time_ms DESC LIMIT ?",
            (server, limit),
        )
        return [bytes(row[0]) for row in rows]

    def find_checkpoint(self, server: str, size: int) -> Seen | None:
        """The checkpoint of this size of a server's own log that was seen, if one was."""
        return self._find("AND size = ?", server, size)

    def get_last_checkpoint(self, server: str) -> Seen | None:
        """The largest checkpoint of a server's own log that an acknowledgement came with."""
        return self._find("AND NOT is_served ORDER BY size DESC LIMIT 1", server)

    def get_largest_checkpoint(self, server: str) -> Seen | None:
        """The largest one that was seen, with an acknowledgement or as it is served."""
        return self._find("ORDER BY size DESC LIMIT 1", server)

    def find_checkpoint_from(self, server: str, size: int) -> Seen | None:
        """The smallest one that was seen of this size or a larger one."""
        return self._find("AND size >= ? ORDER BY size LIMIT 1", server, size)

    def _find(self, which: str, *values: object) -> Seen | None:
        row = self._db.execute(
            f"SELECT size, root, note FROM checkpoints WHERE server = ? {which}", values
        ).fetchone()
        return Seen(*row) if row else None

    def put_contradiction(self, server: str, found: Contradiction) -> None:
        """Keep what contradicts; one that is kept already, or one too many, is not kept again."""
        kept = self.get_contradictions(server)
        is_known = any(one[1:] == found[1:] for one in kept)
        if is_known or len(kept) >= CONTRADICTIONS_KEPT:
            return
        self._db.execute(
            "INSERT INTO contradictions VALUES (?, ?, ?, ?, ?, ?)", (server, len(kept), *found)
        )

    def get_contradictions(self, server: str) -> list[Contradiction]:
        """What a server has said that cannot be true, in order."""
        rows = self._db.execute(
            "SELECT time_ms, why, answer, other FROM contradictions WHERE server = ?"
            " ORDER BY number",
            (server,),
        )
        return [Contradiction(*row) for row in rows]

    def put_file(self, file: str) -> None:
        """Where the servers of this host are named; empty for the default."""
        if file != self.get_file():
            self._db.execute("INSERT OR REPLACE INTO settings VALUES (0, ?)", (file,))

    def get_file(self) -> str:
        """The file that named the servers the last time anything was sent."""
        row = self._db.execute("SELECT file FROM settings").fetchone()
        return str(row[0]) if row else ""
