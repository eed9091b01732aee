"""The host's log in host.db: append leaves, sign the checkpoint, prove a leaf.

Not here: the leaves' bytes (chainlite.hostlog) and the tree's rules (chainlite.merkle). Many
processes append: BEGIN IMMEDIATE serialises them. Invariants: the checkpoint of the last commit
covers exactly the leaves in the table; leaves are never changed or removed; containers are
numbered 0, 1, 2, ... in the order of their first start; a container's first start has a leaf
`create` somewhere before it; each commit is signed by the key that the log names (a rotation by
another process counts from the next one on). `runs` and `state` only repeat what leaves say, so
that a name is found without reading them all; whoever edits them gains nothing that verifies.
Source: RFC 6962; C2SP tlog-checkpoint.
"""

from __future__ import annotations

import fcntl
import os
import time

from chainlite import checkpoint, hostkeys, hostlog, merkle, segment
from chainlite.errors import SpecError, StateError, TamperError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.sha2 import sha256
from docklock.evidence import boot
from docklock.evidence.database import sqlite3
from docklock.evidence.published import PUBLISHED, read_published_size
from docklock.evidence.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Self

    from chainlite.keys import GuardedKey
    from docklock.evidence.keyring import HostKey
    from docklock.paths import Paths

SCHEMA_VERSION = 3
WAL_PAGES = 128
"""After so many pages SQLite folds its log into the database: whoever opens it reads them all."""
BUSY_S = 30.0
SCHEMA = (
    "CREATE TABLE leaves (leaf_index INTEGER PRIMARY KEY, kind INTEGER NOT NULL,"
    " container BLOB NOT NULL, run INTEGER NOT NULL, bytes BLOB NOT NULL)",
    "CREATE INDEX leaves_of ON leaves (container, run, kind)",
    "CREATE TABLE nodes (level INTEGER, number INTEGER, hash BLOB NOT NULL,"
    " PRIMARY KEY (level, number)) WITHOUT ROWID",
    "CREATE TABLE runs (container BLOB, run INTEGER, number INTEGER NOT NULL, app TEXT NOT NULL,"
    " start_leaf INTEGER NOT NULL, exit_leaf INTEGER, event_count INTEGER NOT NULL,"
    " head BLOB NOT NULL, PRIMARY KEY (container, run)) WITHOUT ROWID",
    "CREATE INDEX runs_of ON runs (number)",
    "CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 0), size INTEGER NOT NULL,"
    " boot BLOB NOT NULL, note BLOB NOT NULL, host BLOB NOT NULL, key_number INTEGER NOT NULL)",
    "CREATE TABLE cosigned (size INTEGER PRIMARY KEY, note BLOB NOT NULL)",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_NONE = b""
_NO_RUN = -1
_CREATE = "create"


class RunRecord(NamedTuple):
    """One run as the log knows it; `exit_leaf` is None while it is open."""

    container: str
    run: int
    number: int
    app: str
    start_leaf: int
    exit_leaf: int | None
    event_count: int
    head: bytes


_left: list[sqlite3.Connection] = []  # closed by the end of the process


class HostLog:
    """An open host.db. Use as a context manager; one thread at a time."""

    def __init__(self, paths: Paths, key: HostKey | None) -> None:
        """Open the log; with `key` for writing (made if missing), without for reading."""
        self._key = key
        self._size_before = 0
        self._db = _open(paths.host_db, writable=key is not None)
        self._published = f"{paths.log}/{PUBLISHED}"
        self.host = key.host if key else b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def leave(self) -> None:
        """Close with the process: the last to close folds SQLite's log back into the database.

        The next start would have to make that log again, which takes it three syncs.
        """
        _left.append(self._db)

    def forget(self) -> None:
        """Drop what is in memory: the file may have been changed past SQLite."""
        self._db.execute("PRAGMA shrink_memory")

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def write(self) -> Transaction:
        """One transaction: all leaves appended within, and the checkpoint over them, or none."""
        return Transaction(self._begin, self._commit, self._undo)

    def read(self) -> Transaction:
        """One moment of the log: what is read within belongs together."""
        return Transaction(lambda: self._db.execute("BEGIN"), self._rollback, self._rollback)

    def _begin(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._append_first_leaves()
        self._size_before = self.get_size()

    def _commit(self) -> None:
        size = self.get_size()
        if size != self._size_before:
            self._sign(size)
        self._db.execute("COMMIT")
        self._get_key().drop()

    def _undo(self, error: BaseException) -> None:
        self._rollback()
        self._get_key().drop()
        if isinstance(error, sqlite3.Error):
            raise StateError(f"the host log cannot be written: {error}") from error

    def _rollback(self, _error: BaseException | None = None) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def append(self, leaf: bytes, *, container: bytes = _NONE, run: int = _NO_RUN) -> int:
        """Append one leaf within `write`; returns its index."""
        return self.append_all((leaf,), container=container, run=run)

    def append_all(self, leaves: Sequence[bytes], *, container: bytes, run: int) -> int:
        """Append leaves within `write`; returns the index of the first."""
        first = self.get_size()
        new: dict[tuple[int, int], bytes] = {}
        for index, leaf in enumerate(leaves, first):
            value = new[0, index] = merkle.compute_leaf_hash(leaf)
            for level in range(1, merkle.get_new_nodes(index) + 1):
                number = index >> level
                place = level - 1, 2 * number
                left = new.get(place) or self._read_node(*place)
                value = new[level, number] = merkle.compute_node_hash(left, value)
        self._db.executemany(
            "INSERT INTO leaves VALUES (?, ?, ?, ?, ?)",
            [(index, leaf[0], container, run, leaf) for index, leaf in enumerate(leaves, first)],
        )
        self._db.executemany(
            "INSERT INTO nodes VALUES (?, ?, ?)", [(*place, value) for place, value in new.items()]
        )
        self._db.execute("UPDATE state SET size = ? WHERE id = 0", (first + len(leaves),))
        return first

    def append_start(
        self, container: bytes, run: int, app: str, make: Callable[[int, bytes, bytes], bytes]
    ) -> int:
        """Append a run's start within `write`, and before the first one the leaf `create`.

        `make(number, previous head, hash of the newest cosigned checkpoint)` gives its leaf.
        """
        number, previous = self._check_next_run(container, run)
        if run == 0 and not self._has_operation(container, _CREATE):
            self.append_operation(_CREATE, container)
        leaf = make(number, previous, self.get_cosigned_hash())
        index = self.append(leaf, container=container, run=run)
        self._db.execute(
            "INSERT INTO runs VALUES (?, ?, ?, ?, ?, NULL, 0, ?)",
            (container, run, number, app, index, segment.ZERO_HASH),
        )
        return index

    def append_exit(self, leaf: hostlog.Exit) -> int:
        """Append a run's exit within `write`."""
        data = hostlog.encode_exit(leaf)
        index = self.append(data, container=leaf.container, run=leaf.run)
        self._db.execute(
            "UPDATE runs SET exit_leaf = ?, event_count = ?, head = ?"
            " WHERE container = ? AND run = ?",
            (index, leaf.event_count, leaf.head, leaf.container, leaf.run),
        )
        return index

    def append_operation(
        self, name: str, container: bytes = _NONE, labels: tuple[tuple[str, str], ...] = ()
    ) -> int:
        """Append something the runtime is about to do, within `write`."""
        where = container or hostlog.NO_CONTAINER
        leaf = hostlog.Operation(self.host, where, name, labels, time.time_ns())
        return self.append(hostlog.encode_operation(leaf), container=container)

    def append_key(self, new: GuardedKey) -> int:
        """Append the record of the host's next key within `write`, which signs from now on."""
        old = self._get_key()
        number = old.number + 1
        now, size = time.time_ns(), self.get_size()
        leaf = hostlog.Key(self.host, number, size, new.public, now, b"")
        index = self.append(hostlog.encode_key(hostkeys.sign_key(leaf, old)))
        old.take_over(number, new)
        self._db.execute("UPDATE state SET key_number = ?", (number,))
        return index

    def add_cosigned(self, size: int, note: bytes) -> None:
        """Keep a checkpoint of this log that others have signed, within `write`."""
        self._db.execute("INSERT OR REPLACE INTO cosigned VALUES (?, ?)", (size, note))

    def get_cosigned_notes(self, limit: int) -> tuple[bytes, ...]:
        """The newest checkpoints that others have signed, newest first."""
        ask = "SELECT note FROM cosigned ORDER BY size DESC LIMIT ?"
        return tuple(_check_blob(row[0]) for row in self._db.execute(ask, (limit,)))

    def get_cosigned_hash(self) -> bytes:
        """SHA-256 of the newest checkpoint that others have signed; zeros if there is none."""
        row = self._db.execute("SELECT note FROM cosigned ORDER BY size DESC LIMIT 1").fetchone()
        return sha256(_check_blob(row[0])).digest() if row else segment.ZERO_HASH

    def get_key_number(self) -> int:
        """The number of the key that signed the last commit; -1 in an empty log."""
        number = self._find_int("SELECT key_number FROM state")
        return -1 if number is None else number

    def get_key_leaves(
        self, kinds: tuple[int, ...] = hostlog.KEY_KINDS
    ) -> tuple[tuple[int, bytes], ...]:
        """Index and bytes of the key records and revocations (or other kinds), in order."""
        rows = self._db.execute(
            "SELECT leaf_index, bytes FROM leaves WHERE container = ? AND run = ?"
            f" AND kind IN ({', '.join('?' * len(kinds))}) ORDER BY leaf_index",
            (_NONE, _NO_RUN, *kinds),
        )
        return tuple((index, _check_blob(data)) for index, data in rows)

    def read_keys(self, enrolled: bytes) -> hostkeys.HostKeys:
        """The host's keys as the log says; TamperError if they do not follow from `enrolled`."""
        found = hostkeys.HostKeys(enrolled)
        for index, data in self.get_key_leaves():
            leaf = hostlog.decode_leaf(data)
            assert isinstance(leaf, hostlog.Key | hostlog.Revocation)
            if leaf.leaf_index != index:
                raise TamperError(f"host log: leaf {index} says that it is {leaf.leaf_index}")
            found.take(leaf)
        return found

    def get_size(self) -> int:
        """How many leaves the log has."""
        return self._find_int("SELECT size FROM state") or 0

    def read_host(self) -> bytes:
        """The id of the host whose log this is; empty while it has no leaf."""
        row = self._db.execute("SELECT host FROM state").fetchone()
        return _check_blob(row[0]) if row else b""

    def get_note(self) -> bytes:
        """The checkpoint of the last commit."""
        row = self._db.execute("SELECT note FROM state").fetchone()
        if row is None:
            raise StateError("the host log is empty: no container has run here")
        return _check_blob(row[0])

    def get_leaf(self, leaf_index: int) -> bytes:
        """The bytes of one leaf; TamperError if it is gone."""
        for row in self._db.execute("SELECT bytes FROM leaves WHERE leaf_index = ?", (leaf_index,)):
            return _check_blob(row[0])
        raise TamperError(f"host log: leaf {leaf_index} is missing")

    def iterate_leaves(self, first_index: int = 0) -> Iterator[tuple[int, bytes]]:
        """All leaves from `first_index` on, in order."""
        yield from self._db.execute(
            "SELECT leaf_index, bytes FROM leaves WHERE leaf_index >= ? ORDER BY leaf_index",
            (first_index,),
        )

    def read_leaves(self, first: int, count: int) -> tuple[bytes, ...]:
        """The bytes of consecutive leaves; TamperError if one is gone."""
        rows = self._db.execute(
            "SELECT bytes FROM leaves WHERE leaf_index >= ? AND leaf_index < ? ORDER BY leaf_index",
            (first, first + count),
        ).fetchall()
        if len(rows) != count:
            raise TamperError(f"host log: a leaf from {first} to {first + count - 1} is missing")
        return tuple([_check_blob(row[0]) for row in rows])

    def read_hashes(self, level: int, first: int, count: int) -> tuple[bytes, ...]:
        """The hashes of consecutive complete subtrees of one level."""
        rows = self._db.execute(
            "SELECT hash FROM nodes WHERE level = ? AND number >= ? AND number < ? ORDER BY number",
            (level, first, first + count),
        ).fetchall()
        if len(rows) != count:
            raise TamperError(f"host log: a hash of level {level} from {first} on is missing")
        return tuple([_check_blob(row[0]) for row in rows])

    def get_leaves(self, first: int, count_max: int) -> list[tuple[int, bytes]]:
        """Leaves from index `first` on, in order, at most `count_max`."""
        rows = self._db.execute(
            "SELECT leaf_index, bytes FROM leaves WHERE leaf_index >= ?"
            " ORDER BY leaf_index LIMIT ?",
            (first, count_max),
        )
        return [(index, _check_blob(data)) for index, data in rows]

    def count_segment_leaves(self, container: bytes, run: int) -> int:
        """How many segment leaves a run has."""
        query = "SELECT count(*) FROM leaves WHERE container = ? AND run = ? AND kind = ?"
        return self._find_int(query, container, run, hostlog.SEGMENT_KIND) or 0

    def get_proof(self, leaf_index: int, tree_size: int) -> tuple[bytes, ...]:
        """The inclusion proof of a leaf in the tree of the first `tree_size` leaves.

        TamperError for a leaf that they have not: a row may name any.
        """
        if not 0 <= leaf_index < tree_size:
            raise TamperError(f"host log: leaf {leaf_index} is named, and there are {tree_size}")
        return merkle.compute_inclusion(leaf_index, tree_size, self._read_node)

    def compute_root(self, tree_size: int) -> bytes:
        """The root of the first `tree_size` leaves."""
        return merkle.compute_tree_root(tree_size, self._read_node)

    def get_consistency(self, old_size: int, new_size: int) -> tuple[bytes, ...]:
        """The proof that the tree of the first `new_size` leaves continues that of `old_size`."""
        return merkle.compute_consistency(old_size, new_size, self._read_node)

    def get_segment_places(
        self, container: bytes, run: int, after: int = -1
    ) -> tuple[tuple[int, bytes], ...]:
        """Index and bytes of the segment leaves of a run after leaf `after`, in order."""
        rows = self._db.execute(
            "SELECT leaf_index, bytes FROM leaves WHERE container = ? AND run = ? AND kind = ?"
            " AND leaf_index > ? ORDER BY leaf_index",
            (container, run, hostlog.SEGMENT_KIND, after),
        )
        return tuple((index, _check_blob(data)) for index, data in rows)

    def find_segment_before(self, container: bytes, run: int, at: int) -> tuple[int, bytes] | None:
        """Index and bytes of the last segment leaf of a run before leaf `at`."""
        return self._db.execute(  # type: ignore[no-any-return]
            "SELECT leaf_index, bytes FROM leaves WHERE container = ? AND run = ? AND kind = ?"
            " AND leaf_index < ? ORDER BY leaf_index DESC LIMIT 1",
            (container, run, hostlog.SEGMENT_KIND, at),
        ).fetchone()

    def find_leaf(self, leaf: bytes, container: bytes, run: int) -> int | None:
        """The index of the leaf of a run that has these bytes."""
        return self._find_int(
            "SELECT leaf_index FROM leaves WHERE container = ? AND run = ? AND kind = ?"
            " AND bytes = ?",
            *(container, run, leaf[0], leaf),
        )

    def get_runs(self, container: str = "", run: int = -1) -> tuple[RunRecord, ...]:
        """The runs of a container (all for ""; only `run` if one is named) in order of start."""
        values: list[bytes | int] = [bytes.fromhex(container)] if container else []
        where = "WHERE container = ?" if container else ""
        if run >= 0:
            where += " AND run = ?"
            values.append(run)
        rows = self._db.execute(f"SELECT * FROM runs {where} ORDER BY start_leaf", values)
        return tuple(RunRecord(row[0].hex(), *row[1:]) for row in rows)

    def _has_operation(self, container: bytes, name: str) -> bool:
        rows = self._db.execute(
            "SELECT bytes FROM leaves WHERE container = ? AND run = ? AND kind = ?",
            (container, _NO_RUN, hostlog.OPERATION_KIND),
        )
        leaves = (hostlog.decode_leaf(row[0]) for row in rows)
        return any(isinstance(leaf, hostlog.Operation) and leaf.name == name for leaf in leaves)

    def _get_key(self) -> HostKey:
        assert self._key is not None, "the log is open for reading"
        return self._key

    def _check_next_run(self, container: bytes, run: int) -> tuple[int, bytes]:
        row = self._db.execute(
            "SELECT number, run, exit_leaf, head FROM runs WHERE container = ?"
            " ORDER BY run DESC LIMIT 1",
            (container,),
        ).fetchone()
        if row is None:
            if run != 0:
                raise StateError(f"container {container.hex()[:12]}: run {run} before run 0")
            found = self._db.execute("SELECT max(number) FROM runs").fetchone()[0]
            return (0 if found is None else found + 1), segment.ZERO_HASH
        number, last, exit_leaf, head = row
        if exit_leaf is None or run != last + 1:
            status = "is not closed" if exit_leaf is None else "is closed"
            raise StateError(
                f"container {container.hex()[:12]}: run {run} cannot start: run {last} {status}"
            )
        return number, head

    def _append_first_leaves(self) -> None:
        """Hold the key that the log names; a new log begins with it, a new boot with its record."""
        key, now, boot_id = self._get_key(), time.time_ns(), boot.get_boot_id()
        row = self._db.execute("SELECT boot, host, key_number FROM state").fetchone()
        self._check_published()
        if row is not None and row[1] != self.host:
            raise StateError("host.db is another host's log: restore keys/ and host.db together")
        key.hold(row[2] if row is not None else 0)
        if row is None:
            self._db.execute("INSERT INTO state VALUES (0, 0, x'', x'', ?, 0)", (self.host,))
            leaf = hostlog.Key(self.host, 0, 0, key.public, now, b"")
            self.append(hostlog.encode_key(hostkeys.sign_key(leaf, key)))
        if row is None or row[0] != boot_id:
            size = self.get_size()
            record = hostlog.Boot(self.host, boot_id, boot.get_boottime_ns(), now, size)
            self.append(hostlog.encode_boot(record))
            self._db.execute("UPDATE state SET boot = ?", (boot_id,))
            self._sign(size + 1)

    def _check_published(self) -> None:
        """Never sign below what was published: a restored or damaged host.db may be shorter."""
        size, published = self.get_size(), read_published_size(self._published)
        if published > size:
            raise TamperError(
                f"host.db has {size} leaves, and a checkpoint of {published} was published: it was "
                "cut or restored: `docklock log fsck` says more"
            )

    def _sign(self, size: int) -> None:
        root = self.compute_root(size)
        state = checkpoint.Checkpoint(checkpoint.get_origin(self.host), size, root)
        note = checkpoint.sign_checkpoint(state, self._get_key())
        self._db.execute("UPDATE state SET note = ?", (note,))

    def _find_int(self, query: str, *values: bytes | int) -> int | None:
        row = self._db.execute(query, values).fetchone()
        return int(row[0]) if row else None

    def _read_node(self, level: int, number: int) -> bytes:
        row = self._db.execute(
            "SELECT hash FROM nodes WHERE level = ? AND number = ?", (level, number)
        ).fetchone()
        if row is None:
            raise TamperError(f"host log: the hash at level {level}, number {number} is missing")
        return _check_blob(row[0])


def has_host_log(paths: Paths) -> bool:
    """Whether anything was ever logged here."""
    return os.path.exists(paths.host_db)


def _check_blob(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise TamperError("host log: a row has another type than was written")
    return value


def _open(path: str, *, writable: bool) -> sqlite3.Connection:
    if not writable and not os.path.exists(path):
        raise StateError(f"{path}: no host log yet: no container has run here")
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    # A recorder begins in one thread and goes on in another; never in two at once.
    db = None
    try:
        db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and writable:
            version = _create(db, path)
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
    except sqlite3.DatabaseError as error:
        if db is not None:
            db.close()
        if isinstance(error, sqlite3.OperationalError):
            raise StateError(f"{path}: the host log cannot be opened: {error}") from None
        raise SpecError(f"{path}: not a host log: {error}") from None
    if version != SCHEMA_VERSION:
        db.close()
        raise SpecError(f"{path}: schema version {version}; this program reads {SCHEMA_VERSION}")
    return db


def _create(db: sqlite3.Connection, path: str) -> int:
    # Turning to WAL does not wait for another process that does the same: one at a time.
    lock = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:
            os.chmod(path, 0o600)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("BEGIN IMMEDIATE")
            for statement in SCHEMA:
                db.execute(statement)
            db.execute("COMMIT")
        return int(db.execute("PRAGMA user_version").fetchone()[0])
    finally:
        os.close(lock)
