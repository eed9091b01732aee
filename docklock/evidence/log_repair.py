"""Mend a host log from the copy that is right: `docklock log fsck --repair`, `--rebuild`.

Not here: what is wrong (log_check). `--repair` writes tiles from what is verified, and single rows
of a database that can be read; `--rebuild` writes host.db anew from leaves that all verify under a
signed checkpoint, wherever they still lie. Invariants: nothing is written that does not give the
verified checkpoint's root; the log never becomes smaller than what was published or cosigned; the
old host.db is kept beside the new one. What no copy has any more stays reported.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from chainlite import checkpoint, hostlog, merkle, note, segment, tile
from chainlite.errors import StateError, TamperError
from chainlite.ledger.body_file import sync_file
from docklock.evidence import key_file, tiles
from docklock.evidence.database import sqlite3
from docklock.evidence.host_log import SCHEMA, HostLog
from docklock.evidence.keyring import get_public_key
from docklock.evidence.log_check import DATABASE, FILES, LEAF_TABLE, ROWS, LogCheck, check_log
from docklock.evidence.log_copies import Database, Files, find_host_keys
from docklock.evidence.log_tree import compute_levels
from docklock.evidence.published import PUBLISHED
from docklock.evidence.recovery import find_journals

if TYPE_CHECKING:
    from chainlite.hostkeys import HostKeys
    from docklock.paths import Paths

NEW, DAMAGED = ".new", ".damaged"
_COLUMNS = tuple[bytes, int]


class Leaves(NamedTuple):
    """The verified leaves, from whichever copy has each."""

    database: Database
    files: Files
    chunks: tuple[tuple[bytes, ...], ...]
    published_size: int

    def read(self, number: int, width: int) -> list[bytes]:
        """The first leaves of a chunk; TamperError for one that no copy has."""
        right = self.chunks[number][:width]
        found = self.database.read_leaves(number * tile.WIDTH, width)
        if any(leaf is None or merkle.compute_leaf_hash(leaf) != value
               for leaf, value in zip(found, right, strict=True)):  # fmt: skip
            served = tile.get_width(0, number, self.published_size)
            for at, leaf in enumerate(self.files.read_leaves(number, served)[:width]):
                if leaf is not None and merkle.compute_leaf_hash(leaf) == right[at]:
                    found[at] = leaf
        for at, (leaf, value) in enumerate(zip(found, right, strict=True)):
            if leaf is None or merkle.compute_leaf_hash(leaf) != value:
                raise TamperError(f"leaf {number * tile.WIDTH + at}: no copy has it any more")
        return [leaf for leaf in found if leaf is not None]


def repair_log(paths: Paths, found: LogCheck) -> LogCheck:
    """Mend files and rows; what is left is in the new report."""
    mended = list[str]()
    if found.verified is not None:
        with tiles.LogLock(paths):
            database = Database(paths)
            try:
                published = found.published.state.size if found.published else 0
                leaves = Leaves(database, Files(paths), found.leaves.chunks, published)
                mended += _mend_files(paths, found, leaves)
                if not any(one.mend == DATABASE for one in found.defects):
                    mended += _mend_rows(paths, found, leaves)
            finally:
                database.close()
        mended += _mend_checkpoint(paths, found)
    return check_log(paths)._replace(mended=(*found.mended, *mended))


def rebuild_log(paths: Paths, found: LogCheck) -> LogCheck:
    """As repair, and write host.db anew where it cannot be read or lacks leaves.

    StateError while containers run, whose supervisors have it open, or where the leaves do not
    reach what was published or cosigned.
    """
    if not any(one.mend == DATABASE for one in found.defects):
        return repair_log(paths, found)
    if found.verified is None:
        raise StateError(
            "log fsck: no signed checkpoint whose leaves are all here: restore host.db"
        )
    needed = max(
        [one.state.size for one in found.signed if one.where != "host.db: state"], default=0
    )
    size = found.verified.state.size
    if size < needed:
        raise StateError(
            f"log fsck: {size} leaves verify, and a checkpoint of {needed} was published or "
            "cosigned: a smaller log would be a fork: restore host.db"
        )
    if find_journals(paths):
        raise StateError("log fsck: containers run and have host.db open: stop them, then rebuild")
    mended = [f"host.db: written anew with {size} leaves; the old one is host.db{DAMAGED}"]
    newest = found.newest.state.size if found.newest else size
    if newest > size:
        mended.append(f"host.db: leaves {size} to {newest - 1} are lost: no copy has them")
    with tiles.LogLock(paths):
        database = Database(paths)
        try:
            _write_database(paths, found, database)
        finally:
            database.close()
        _replace_database(paths)
    return repair_log(paths, check_log(paths)._replace(mended=tuple(mended)))


def _mend_files(paths: Paths, found: LogCheck, leaves: Leaves) -> list[str]:
    wanted = [tile.Tile(*one.at) for one in found.defects if one.mend == FILES and one.at]
    files = []
    for one in wanted:
        first = one.number * tile.WIDTH
        if one.level == tile.ENTRIES:
            data = tile.encode_bundle(leaves.read(one.number, one.width))
        elif one.level == 0:
            data = b"".join(found.leaves.chunks[one.number][: one.width])
        else:
            level = compute_levels(found.leaves.full_roots)[tile.HEIGHT * (one.level - 1)]
            data = b"".join(level[first : first + one.width])
        files.append((one, data))
    tiles.write_tiles(paths, files)
    return [f"log/{tile.encode_path(one)}" for one in wanted]


def _mend_rows(paths: Paths, found: LogCheck, leaves: Leaves) -> list[str]:
    rows = [one for one in found.defects if one.mend == ROWS]
    if not rows or found.verified is None:
        return []
    db = sqlite3.connect(paths.host_db, timeout=30, isolation_level=None)
    try:
        db.execute("PRAGMA synchronous = FULL")
        db.execute("BEGIN IMMEDIATE")
        for one in rows:
            table, level, number = one.at
            if table == LEAF_TABLE and number >= found.verified.state.size:
                db.execute("DELETE FROM leaves WHERE leaf_index >= ?", (number,))
            elif table == LEAF_TABLE:
                chunk, at = divmod(number, tile.WIDTH)
                row = _make_row(number, leaves.read(chunk, len(found.leaves.chunks[chunk]))[at])
                db.execute("INSERT OR REPLACE INTO leaves VALUES (?, ?, ?, ?, ?)", row)
            else:
                value = _compute_node(found, level, number)
                db.execute("INSERT OR REPLACE INTO nodes VALUES (?, ?, ?)", (level, number, value))
        db.execute("COMMIT")
    finally:
        db.close()
    return [one.place for one in rows]


def _compute_node(found: LogCheck, level: int, number: int) -> bytes:
    first, count = number << level, 1 << level
    if count <= tile.WIDTH:
        chunk, at = divmod(first, tile.WIDTH)
        return merkle.compute_root(found.leaves.chunks[chunk][at : at + count])
    start = first // tile.WIDTH
    return merkle.compute_root(found.leaves.roots[start : start + count // tile.WIDTH])


def _mend_checkpoint(paths: Paths, found: LogCheck) -> list[str]:
    """Publish anew where the published checkpoint is spoilt: at least what its tiles reach."""
    place = f"log/{PUBLISHED}"
    mends = {one.mend for one in found.defects if one.place == place or one.mend == DATABASE}
    if mends != {FILES}:
        return []
    with HostLog(paths, None) as log:
        size = log.get_size()
    extent = Files(paths).get_extent()
    if extent > size:
        raise StateError(
            f"log fsck: host.db has {size} leaves, and bundles of {extent} were published: "
            "restore host.db"
        )
    tiles.publish(paths, is_spoilt=True)
    return [place]


def _make_row(index: int, leaf: bytes) -> tuple[int, int, bytes, int, bytes]:
    """The row of a leaf, as HostLog.append makes it."""
    container, run = _get_columns(hostlog.decode_leaf(leaf))
    return (index, leaf[0], container, run, leaf)


def _get_columns(leaf: hostlog.Leaf) -> _COLUMNS:
    if isinstance(leaf, hostlog.Start):
        genesis = segment.decode_genesis(leaf.genesis)
        return genesis.container, genesis.run
    if isinstance(leaf, hostlog.Segment):
        header = segment.decode_header(leaf.header)
        return header.container, header.run
    if isinstance(leaf, hostlog.Exit):
        return leaf.container, leaf.run
    if isinstance(leaf, hostlog.Operation) and leaf.container != hostlog.NO_CONTAINER:
        return leaf.container, -1
    return b"", -1


def _write_database(paths: Paths, found: LogCheck, old: Database) -> None:
    """host.db.new, whole and durable, of the verified leaves."""
    assert found.verified is not None
    state, path = found.verified.state, f"{paths.host_db}{NEW}"
    if found.leaves.compute_root(state.size) != state.root:
        raise TamperError("log fsck: the leaves do not give the checkpoint's root")
    for suffix in ("", "-wal", "-shm", "-journal"):
        if os.path.exists(path + suffix):
            os.unlink(path + suffix)
    published = found.published.state.size if found.published else 0
    source = Leaves(old, Files(paths), found.leaves.chunks, published)
    db = sqlite3.connect(path, isolation_level=None)
    try:
        os.chmod(path, 0o600)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA:
            db.execute(statement)
        _fill(db, paths, found, source)
        for size, data in _collect_cosigned(found):
            db.execute("INSERT OR REPLACE INTO cosigned VALUES (?, ?)", (size, data))
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        db.close()
    sync_file(path)


def _fill(db: sqlite3.Connection, paths: Paths, found: LogCheck, source: Leaves) -> None:
    """Leaves, hashes, runs and state."""
    assert found.verified is not None
    keys, boot = list[bytes](), b""
    for number, chunk in enumerate(found.leaves.chunks):
        leaves = source.read(number, len(chunk))
        first = number * tile.WIDTH
        rows = [_make_row(first + at, leaf) for at, leaf in enumerate(leaves)]
        db.executemany("INSERT INTO leaves VALUES (?, ?, ?, ?, ?)", rows)
        _insert_nodes(db, first, 0, compute_levels(chunk))
        for index, data in enumerate(leaves, first):
            leaf = hostlog.decode_leaf(data)
            _take_run(db, index, leaf)
            if isinstance(leaf, hostlog.Boot):
                boot = leaf.boot
            if data[0] in hostlog.KEY_KINDS:
                keys.append(data)
    if found.leaves.full_roots:
        _insert_nodes(db, 0, tile.HEIGHT, compute_levels(found.leaves.full_roots), skip=1)
    known = find_host_keys(get_public_key(paths), keys)
    text = _keep_own_line(found.verified.note, known)
    values = (0, found.verified.state.size, boot, text, known.host, known.number)
    db.execute("INSERT INTO state VALUES (?, ?, ?, ?, ?, ?)", values)


def _insert_nodes(
    db: sqlite3.Connection, first: int, base: int, levels: list[tuple[bytes, ...]], skip: int = 0
) -> None:
    """Hashes of consecutive nodes; `first` is counted in nodes of level `base`."""
    for step, values in enumerate(levels):
        if step < skip:
            continue
        rows = [(base + step, (first >> step) + at, value) for at, value in enumerate(values)]
        db.executemany("INSERT INTO nodes VALUES (?, ?, ?)", rows)


def _take_run(db: sqlite3.Connection, index: int, leaf: hostlog.Leaf) -> None:
    if isinstance(leaf, hostlog.Start):
        g = segment.decode_genesis(leaf.genesis)
        row = (g.container, g.run, g.number, g.app, index, segment.ZERO_HASH)
        db.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, NULL, 0, ?)", row)
    elif isinstance(leaf, hostlog.Exit):
        db.execute(
            "UPDATE runs SET exit_leaf = ?, event_count = ?, head = ?"
            " WHERE container = ? AND run = ?",
            (index, leaf.event_count, leaf.head, leaf.container, leaf.run),
        )


def _keep_own_line(data: bytes, known: HostKeys) -> bytes:
    """The note as a commit leaves it: with the host's Ed25519 line alone."""
    name = checkpoint.get_origin(known.host)
    own = {
        note.compute_key_id(note.VerifierKey(name, public, note.ED25519))
        for public in known.publics
    }
    signed = note.parse_note(data)
    lines = [line for line in signed.lines if line.name == name and line.key_id in own]
    return note.encode_note(signed.text, lines)


def _collect_cosigned(found: LogCheck) -> list[tuple[int, bytes]]:
    """The cosigned checkpoints that the verified leaves continue."""
    return [
        (one.state.size, one.note)
        for one in found.signed
        if one.where == "host.db: cosigned"
        and found.leaves.compute_root(one.state.size) == one.state.root
    ]


def _replace_database(paths: Paths) -> None:
    """The old files aside, the log of SQLite first: it must never be folded into the new one."""
    path = paths.host_db
    for suffix in ("-wal", "-shm", ""):
        if os.path.exists(path + suffix):
            os.rename(path + suffix, f"{path}{DAMAGED}{suffix}")
            key_file.sync_directory(paths.state)
    os.rename(path + NEW, path)
    key_file.sync_directory(paths.state)
