"""The host's log: append-only, signed at every commit, and what its editor gains."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import stat
import time
from pathlib import Path

import pytest

from chainlite import checkpoint, merkle
from docklock.cli.verify import run_verify
from docklock.evidence import host_log, keyring
from docklock.evidence.audit import audit_log
from docklock.evidence.export import verify_container
from docklock.paths import Paths
from tests.evidence.recording import append, begin, make_id, make_paths, record


def check_log(paths: Paths) -> int:
    """The checkpoint covers the leaves, each leaf is provable; the log's size."""
    public = keyring.get_public_key(paths)
    with host_log.HostLog(paths, None) as log:
        leaves = [data for _, data in log.iterate_leaves()]
        state = checkpoint.parse_checkpoint(log.get_note(), public)
        hashes = [merkle.compute_leaf_hash(leaf) for leaf in leaves]
        assert (state.size, state.root) == (len(leaves), merkle.compute_root(hashes))
        for index, leaf_hash in enumerate(hashes):
            proof = log.get_proof(index, state.size)
            assert merkle.is_included(leaf_hash, index, state.size, proof, state.root)
    return len(leaves)


def append_operations(paths: Paths, count: int) -> None:
    with host_log.HostLog(paths, keyring.ensure_host_key(paths)) as log:
        for number in range(count):
            with log.write():
                log.append_operation("test", labels=(("number", str(number)),))


def test_the_tree_holds_after_every_commit(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    for size in range(3, 20):
        append_operations(paths, 1)
        assert check_log(paths) == size
    assert audit_log(paths).why == ""


def test_many_processes_append_without_loss(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=append_operations, args=(paths, 25)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert check_log(paths) == 2 + 4 * 25
    assert audit_log(paths).why == ""


def test_a_failed_transaction_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    append_operations(paths, 3)

    def fail(log: host_log.HostLog) -> None:
        with log.write():
            log.append(b"leaf")
            raise RuntimeError

    key = keyring.ensure_host_key(paths)
    with host_log.HostLog(paths, key) as log, pytest.raises(RuntimeError):
        fail(log)
    assert check_log(paths) == 5


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE leaves SET bytes = zeroblob(40) WHERE leaf_index = 1",
        "UPDATE leaves SET bytes = (SELECT bytes FROM leaves WHERE leaf_index = 2)"
        " WHERE leaf_index = 5",
        "DELETE FROM leaves WHERE leaf_index = (SELECT max(leaf_index) FROM leaves)",
        "DELETE FROM leaves WHERE leaf_index = 3",
        "DELETE FROM runs WHERE number = 0",
        "UPDATE runs SET exit_leaf = NULL WHERE number = 1",
        "UPDATE runs SET start_leaf = 4000 WHERE number = 1",
        "UPDATE runs SET start_leaf = 'x', exit_leaf = -1 WHERE number = 1",
        "UPDATE state SET note = replace(note, 'docklock', 'docklack')",
        "UPDATE state SET note = CAST(replace(CAST(note AS TEXT), 'docklock', 'docklack') AS BLOB)",
    ],
)
def test_an_edit_without_the_hosts_key_is_seen(tmp_path: Path, change: str) -> None:
    paths = make_paths(tmp_path)
    for number in range(2):
        record(paths, make_id(number), count=3)
    assert audit_log(paths).why == ""
    db = sqlite3.connect(paths.host_db)
    db.execute(change)
    db.commit()
    db.close()
    assert audit_log(paths).why != ""
    assert run_verify(["--all"], paths) == 3


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM segments WHERE first_index > 0",
        "DELETE FROM segments",
        "UPDATE segments SET body = (SELECT body FROM segments WHERE first_index = 0)",
        "UPDATE segments SET secret = zeroblob(32)",
        "UPDATE segments SET leaf_tags = zeroblob(length(leaf_tags))",
        "UPDATE segments SET signature = zeroblob(64)",
    ],
)
def test_an_edit_of_a_containers_store_is_seen(tmp_path: Path, change: str) -> None:
    paths = make_paths(tmp_path)
    container = record(paths, count=1500)
    db = sqlite3.connect(f"{paths.evidence}/{container}.db")
    db.execute(change)
    db.commit()
    db.close()
    assert verify_container(paths, container).first_bad is not None


def test_segments_taken_from_a_live_run_are_seen(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    live = begin(paths)
    try:
        append(live, 0)
        deadline = time.monotonic() + 10
        with host_log.HostLog(paths, None) as log:
            while not log.get_segment_places(bytes.fromhex(make_id()), 0):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        db = sqlite3.connect(f"{paths.evidence}/{make_id()}.db")
        db.execute("DELETE FROM segments")
        db.commit()
        db.close()
        bad = verify_container(paths, make_id()).first_bad
        assert bad is not None
        assert "has not" in bad.why
    finally:
        live.close(0)


def test_a_container_whose_file_is_gone_is_seen(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    container = record(paths, count=5)
    os.unlink(f"{paths.evidence}/{container}.db")
    bad = verify_container(paths, container).first_bad
    assert bad is not None
    assert "gone" in bad.why


def test_evidence_that_the_log_does_not_know_is_seen(tmp_path: Path) -> None:
    paths, other = make_paths(tmp_path), make_paths(tmp_path / "other")
    record(paths, make_id(1))
    stranger = record(other, make_id(2))
    os.rename(f"{other.evidence}/{stranger}.db", f"{paths.evidence}/{stranger}.db")
    assert "no start in the log" in audit_log(paths).why


def test_files_of_evidence_are_private(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    container = record(paths)
    for path in (paths.host_db, f"{paths.evidence}/{container}.db"):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
