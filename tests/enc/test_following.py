"""Following a host's log: its root at every size, and what cannot be hidden in it."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

from chainlite import merkle
from docklock.evidence import rotation
from tests.enc.notarising import count_taken, get_aside, notarise
from tests.evidence.recording import make_id, make_paths, record


def test_the_frontier_has_the_trees_root_at_every_size() -> None:
    frontier, hashes = list[bytes](), list[bytes]()
    assert merkle.compute_frontier_root(()) == merkle.EMPTY_ROOT
    for size in range(300):
        leaf = size.to_bytes(4, "big")
        merkle.add_leaf(frontier, size, leaf)
        hashes.append(merkle.compute_leaf_hash(leaf))
        assert merkle.compute_frontier_root(tuple(frontier)) == merkle.compute_root(hashes)
        assert len(frontier) == (size + 1).bit_count()


def test_a_log_that_was_restored_or_forked_is_refused_and_both_notes_kept(tmp_path: Path) -> None:
    paths, old = make_paths(tmp_path), tmp_path / "old"
    record(paths, make_id(1), count=3)
    shutil.copytree(paths.state, old)
    record(paths, make_id(2), count=3)
    assert notarise(paths, flush=True).troubles == ()
    before = count_taken(paths)
    for name in ("host.db", "host.db-wal", "host.db-shm"):
        Path(paths.state, name).unlink(missing_ok=True)
        if (old / name).exists():
            shutil.copy(old / name, paths.state)
    [trouble] = notarise(paths, flush=True).troubles
    assert "rolled back" in trouble.why and trouble.is_new
    assert not notarise(paths, flush=True).troubles[0].is_new
    for number in range(5, 9):
        record(paths, make_id(number), count=3)
    [trouble] = notarise(paths, flush=True).troubles
    assert "forked or rewritten" in trouble.why
    assert count_taken(paths) == before, "of a forked log nothing is taken"
    assert all(size > 400 for *_, size in get_aside(paths)), "two checkpoints each"


def test_no_leaf_can_be_hidden_changed_or_taken_out(tmp_path: Path) -> None:
    """Whoever edits host.db has no key: each edit is seen, whatever the row says of its kind."""
    for number, (edit, why) in enumerate(
        (
            ("DELETE FROM leaves WHERE leaf_index = 3", "missing"),
            ("UPDATE leaves SET bytes = CAST(substr(bytes, 1, length(bytes) - 1) ||"
             " CASE substr(bytes, -1) WHEN x'07' THEN x'08' ELSE x'07' END AS BLOB)"
             " WHERE leaf_index = 3", "forked or rewritten"),
            ("UPDATE leaves SET bytes = 'text' WHERE leaf_index = 3", "missing"),
            ("UPDATE leaves SET bytes = bytes || x'ff' WHERE leaf_index = 3", "cannot be read"),
            ("UPDATE leaves SET kind = 9, container = x'09', run = 9", ""),
        )
    ):  # fmt: skip
        paths = make_paths(tmp_path / str(number))
        record(paths, make_id(1), count=3)
        with sqlite3.connect(paths.host_db) as db:
            db.execute(edit)
        db.close()
        found = notarise(paths, flush=True)
        assert found.segments == 0, edit
        assert found.troubles and why in found.troubles[0].why, edit


def test_a_key_record_cannot_be_kept_from_the_notary(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record(paths, make_id(1), count=3)
    rotation.rotate_host_key(paths)
    rotation.revoke_host_key(paths, 0, None)
    with sqlite3.connect(paths.host_db) as db:
        # The row says that the revocation is of a container: then `get_key_leaves` misses it.
        db.execute("UPDATE leaves SET run = 7, container = x'07' WHERE kind = 0x26")
    db.close()
    [trouble] = notarise(paths, flush=True).troubles
    assert "key record" in trouble.why
