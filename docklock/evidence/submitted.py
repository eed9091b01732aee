"""What this host has submitted to a chain and what became of it: chain/submitted.db.

For each node how far it has acknowledged, for each anchor when it was submitted, in which block it
was ordered (which is final) and by which block it was available. Not here: submitting (submitter).
Nothing rests on all this: the chain says what is anchored and each node what it holds, so who loses
or edits it submits a little again, and signs nothing that does not hold. One table is more: what a
key that went had signed about the one after it (parting), which nobody can sign again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from docklock.evidence.database import open_record

if TYPE_CHECKING:
    from typing import Self

    from docklock.paths import Paths

SCHEMA_VERSION = 1
ANCHORS_KEPT = 100_000
_SCHEMA = (
    "CREATE TABLE nodes (chain BLOB, node BLOB, size INTEGER NOT NULL, time_ms INTEGER NOT NULL,"
    " PRIMARY KEY (chain, node)) WITHOUT ROWID",
    "CREATE TABLE anchors (chain BLOB, size INTEGER, root BLOB NOT NULL, tx BLOB NOT NULL,"
    " submitted_ms INTEGER NOT NULL, ordered INTEGER, ordered_ms INTEGER, available INTEGER,"
    " available_ms INTEGER, PRIMARY KEY (chain, size)) WITHOUT ROWID",
    "CREATE TABLE registrations (chain BLOB PRIMARY KEY, leaf INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE senders (chain BLOB PRIMARY KEY, nonce INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE rotations (chain BLOB, public BLOB, following BLOB, nonce INTEGER,"
    " tx BLOB NOT NULL, PRIMARY KEY (chain, public, following, nonce)) WITHOUT ROWID",
    "CREATE TABLE revocations (chain BLOB, leaf INTEGER, nonce INTEGER NOT NULL,"
    " PRIMARY KEY (chain, leaf)) WITHOUT ROWID",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
REFUSED = -1
"""In place of the nonce of a revocation that the chain does not take."""


class AnchorRow(NamedTuple):
    """An anchor of `size` leaves; None for what has not come yet. `ordered` and `available` are
    heights: of the block that it is in, and of the first one that was seen to say so."""

    size: int
    root: bytes
    tx: bytes
    submitted_ms: int
    ordered: int | None
    ordered_ms: int | None
    available: int | None
    available_ms: int | None


def has_submitted(paths: Paths) -> bool:
    """Whether this host has ever submitted anything."""
    return os.path.exists(_get_path(paths))


def _get_path(paths: Paths) -> str:
    return f"{paths.state}/chain/submitted.db"


class Submitted:
    """The open file. One thread."""

    def __init__(self, paths: Paths) -> None:
        """Open it, or make it; SpecError if it is another file."""
        path, what = _get_path(paths), "a record of what was submitted"
        self._db = open_record(path, _SCHEMA, SCHEMA_VERSION, what)
        self._db.execute("PRAGMA synchronous = NORMAL")  # nothing rests on the last of it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def get_node_size(self, chain: bytes, node: bytes) -> int:
        """How far a node has acknowledged."""
        row = self._db.execute(
            "SELECT size FROM nodes WHERE chain = ? AND node = ?", (chain, node)
        ).fetchone()
        return int(row[0]) if row else 0

    def put_node_size(self, chain: bytes, node: bytes, size: int, now_ms: int) -> None:
        """A node holds so much."""
        self._db.execute(
            "INSERT OR REPLACE INTO nodes VALUES (?, ?, ?, ?)", (chain, node, size, now_ms)
        )

    def find_registration(self, chain: bytes) -> int | None:
        """The leaf that says that this host asked to be registered."""
        row = self._db.execute(
            "SELECT leaf FROM registrations WHERE chain = ?", (chain,)
        ).fetchone()
        return int(row[0]) if row else None

    def put_registration(self, chain: bytes, leaf: int) -> None:
        """The host's log says that it asks to be registered."""
        self._db.execute("INSERT OR IGNORE INTO registrations VALUES (?, ?)", (chain, leaf))

    def put_sender(self, chain: bytes, nonce: int) -> None:
        """The chain wants this nonce next of this host, which is registered."""
        self._db.execute("INSERT OR REPLACE INTO senders VALUES (?, ?)", (chain, nonce))

    def get_senders(self) -> list[tuple[bytes, int]]:
        """The chains where this host is registered, and the nonce that each wanted last."""
        return list(self._db.execute("SELECT chain, nonce FROM senders ORDER BY chain"))

    def put_rotations(
        self, chain: bytes, public: bytes, following: bytes, txs: dict[int, bytes]
    ) -> None:
        """What key `public` has signed about the key after it, by nonce; durable."""
        rows = [(chain, public, following, nonce, tx) for nonce, tx in txs.items()]
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("INSERT OR REPLACE INTO rotations VALUES (?, ?, ?, ?, ?)", rows)
        self._db.execute("COMMIT")

    def find_rotation(
        self, chain: bytes, public: bytes, following: bytes, nonce: int
    ) -> bytes | None:
        """The transaction by which the key after `public` takes over."""
        row = self._db.execute(
            "SELECT tx FROM rotations WHERE chain = ? AND public = ? AND following = ?"
            " AND nonce = ?",
            (chain, public, following, nonce),
        ).fetchone()
        return bytes(row[0]) if row else None

    def count_rotations(self, chain: bytes, nonce: int) -> int:
        """How many keys have gone whose last word may not be on the chain yet."""
        row = self._db.execute(
            "SELECT count(DISTINCT public) FROM rotations WHERE chain = ? AND nonce >= ?",
            (chain, nonce),
        ).fetchone()
        return int(row[0])

    def find_revocation(self, chain: bytes, leaf: int) -> int | None:
        """The nonce under which the revocation at this leaf was submitted, or REFUSED."""
        row = self._db.execute(
            "SELECT nonce FROM revocations WHERE chain = ? AND leaf = ?", (chain, leaf)
        ).fetchone()
        return int(row[0]) if row else None

    def put_revocation(self, chain: bytes, leaf: int, nonce: int) -> None:
        """The revocation at this leaf is submitted, or refused."""
        self._db.execute(
            "INSERT OR REPLACE INTO revocations VALUES (?, ?, ?)", (chain, leaf, nonce)
        )

    def put_anchor(self, chain: bytes, size: int, root: bytes, tx: bytes, now_ms: int) -> None:
        """An anchor is submitted; the first time counts."""
        self._db.execute(
            "INSERT OR IGNORE INTO anchors (chain, size, root, tx, submitted_ms)"
            " VALUES (?, ?, ?, ?, ?)",
            (chain, size, root, tx, now_ms),
        )
        self._db.execute(
            "DELETE FROM anchors WHERE chain = ? AND size <= (SELECT size FROM anchors"
            " WHERE chain = ? ORDER BY size DESC LIMIT 1 OFFSET ?)",
            (chain, chain, ANCHORS_KEPT),
        )

    def set_ordered(self, chain: bytes, size: int, height: int, now_ms: int) -> None:
        """The chain has an anchor of this size, in the block of this height."""
        self._db.execute(
            "UPDATE anchors SET ordered = ?, ordered_ms = ?"
            " WHERE chain = ? AND size = ? AND ordered IS NULL",
            (height, now_ms, chain, size),
        )

    def set_available(self, chain: bytes, size: int, height: int, now_ms: int) -> None:
        """What is anchored up to this size was available in the block of this height."""
        self._db.execute(
            "UPDATE anchors SET available = ?, available_ms = ?"
            " WHERE chain = ? AND size <= ? AND available IS NULL AND ordered IS NOT NULL",
            (height, now_ms, chain, size),
        )

    def get_anchors(self, chain: bytes, limit: int) -> list[AnchorRow]:
        """The newest anchors, newest first."""
        rows = self._db.execute(
            "SELECT size, root, tx, submitted_ms, ordered, ordered_ms, available, available_ms"
            " FROM anchors WHERE chain = ? ORDER BY size DESC LIMIT ?",
            (chain, limit),
        )
        return [AnchorRow(*row) for row in rows]
