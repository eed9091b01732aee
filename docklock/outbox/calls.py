"""What this host keeps of its calls to servers: outbox/calls.db.

Of each call that a server has answered under its signature: both signatures, so that who denies it
is shown wrong (chainlite.cage.call_record). Of each alert that a server has raised against this
host's evidence: its words, and that call. Not here: what an acknowledgement is worth (checking,
sent). Invariants: a call is durable here before anything rests on its answer; of each server the
newest CALLS_KEPT calls and the first ALERTS_KEPT alerts are kept, an alert's call with it; who
loses this file loses nothing but these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from docklock.outbox.record_file import RecordFile

if TYPE_CHECKING:
    from docklock.paths import Paths

SCHEMA_VERSION = 1
CALLS_KEPT = 10_000
"""Of each server; some 3 KB each. At one a second, which is a busy host's, it is three hours."""
ALERTS_KEPT = 64
WHY_CHARS_MAX = 300
_SCHEMA = (
    "CREATE TABLE calls (number INTEGER PRIMARY KEY, server TEXT NOT NULL,"
    " time_ms INTEGER NOT NULL, audit_id BLOB NOT NULL, status INTEGER NOT NULL,"
    " record BLOB NOT NULL)",
    "CREATE INDEX calls_of ON calls (server, number)",
    "CREATE INDEX calls_by ON calls (audit_id)",
    "CREATE TABLE alerts (server TEXT, kind TEXT, leaf INTEGER, time_ms INTEGER NOT NULL,"
    " why TEXT NOT NULL, answer BLOB NOT NULL, record BLOB NOT NULL,"
    " PRIMARY KEY (server, kind, leaf)) WITHOUT ROWID",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


class KeptCall(NamedTuple):
    """A call that a server answered; `record` is a file of chainlite.cage.call_record."""

    server: str
    time_ms: int
    audit_id: bytes
    status: int
    record: bytes


class Alert(NamedTuple):
    """What a server says is wrong with this host's evidence from `leaf` on.

    `answer` is the body that says so, of which `record`, the call's, has the digest under the
    server's signature.
    """

    kind: str
    leaf: int
    time_ms: int
    why: str
    answer: bytes
    record: bytes


def has_calls(paths: Paths) -> bool:
    """Whether any server has ever answered this host."""
    return CallFile.is_there(paths)


class CallFile(RecordFile):
    """The open file. One thread."""

    NAME, WHAT = "calls.db", "a record of calls"
    SCHEMA, VERSION = _SCHEMA, SCHEMA_VERSION

    def add(self, call: KeptCall) -> None:
        """Durably; the oldest one too many of its server is dropped."""
        with self.write():
            self._db.execute("INSERT INTO calls VALUES (NULL, ?, ?, ?, ?, ?)", call)
            self._db.execute(
                "DELETE FROM calls WHERE server = ? AND number <= (SELECT number FROM calls"
                " WHERE server = ? ORDER BY number DESC LIMIT 1 OFFSET ?)",
                (call.server, call.server, CALLS_KEPT),
            )

    def list_newest(self, server: str | None, limit: int) -> list[KeptCall]:
        """The newest calls to a server, or to all, newest first."""
        which = "" if server is None else " WHERE server = ?"
        rows = self._db.execute(
            f"SELECT server, time_ms, audit_id, status, record FROM calls{which}"
            " ORDER BY number DESC LIMIT ?",
            (*(() if server is None else (server,)), limit),
        )
        return [KeptCall(*row) for row in rows]

    def find(self, audit_id: bytes) -> KeptCall | None:
        """The call of an audit id, if it is kept."""
        row = self._db.execute(
            "SELECT server, time_ms, audit_id, status, record FROM calls WHERE audit_id = ?",
            (audit_id,),
        ).fetchone()
        return KeptCall(*row) if row else None

    def add_alert(self, server: str, alert: Alert) -> bool:
        """Durably; whether it is new and there is room for it."""
        if len(self.get_alerts(server)) >= ALERTS_KEPT:
            return False
        row = (server, *alert._replace(why=alert.why[:WHY_CHARS_MAX]))
        done = self._db.execute("INSERT OR IGNORE INTO alerts VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        return done.rowcount > 0

    def get_alerts(self, server: str) -> list[Alert]:
        """A server's alerts, oldest first."""
        rows = self._db.execute(
            "SELECT kind, leaf, time_ms, why, answer, record FROM alerts WHERE server = ?"
            " ORDER BY time_ms, leaf",
            (server,),
        )
        return [Alert(*row) for row in rows]


def read_alerts(paths: Paths, server: str) -> list[Alert]:
    """A server's alerts; none where nothing was ever kept."""
    if not has_calls(paths):
        return []
    with CallFile(paths) as calls:
        return calls.get_alerts(server)
