"""A store of another schema version is refused; one that is written is read to its end."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from chainlite.errors import SpecError, StateError
from docklock.evidence import container_store, host_log
from docklock.paths import Paths
from tests.evidence.recording import begin, make_id, make_paths, record


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A host with one container, whose run has ended."""
    paths = make_paths(tmp_path)
    record(paths)
    return paths


def set_version(path: str, version: int) -> None:
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {version}")
    db.close()


def test_a_containers_file_of_an_older_version_is_refused_and_not_added_to(paths: Paths) -> None:
    path = container_store.get_store_path(paths, make_id())
    old = container_store.SCHEMA_VERSION - 1
    set_version(path, old)
    for use in (container_store.open_store, container_store.create_store):
        with pytest.raises(SpecError, match=f"schema version {old}; this program reads {old + 1}"):
            use(paths, make_id())
    live = begin(paths, run=1)

    def write() -> None:
        live.append("x", decision=0, plane=2, seen=1)  # refused already, if the writer knows
        live.close(0)

    with pytest.raises(StateError, match="evidence not written: .* schema version"):
        write()


def test_a_hosts_log_of_an_older_version_is_refused(paths: Paths) -> None:
    old = host_log.SCHEMA_VERSION - 1
    set_version(paths.host_db, old)
    for start in (lambda: host_log.HostLog(paths, None), lambda: begin(paths, make_id(2))):
        with pytest.raises(SpecError, match=f"schema version {old}; this program reads {old + 1}"):
            start()


def make_row(index: int) -> container_store.SegmentRow:
    return container_store.SegmentRow(
        0, index, 1, index, "op", b"h" * 241, b"s" * 64, b"", b"t" * 8, b"b" * 300, index
    )


def test_a_log_with_its_blocks_reserved_is_read_to_its_last_transaction(tmp_path: Path) -> None:
    """In the middle, after SQLite has begun it anew (1,000 pages), and as a crash leaves it."""
    paths = make_paths(tmp_path)
    os.makedirs(paths.evidence)
    db = container_store.create_store(paths, make_id())
    container_store.reserve_log(paths, make_id())
    log = Path(container_store.get_store_path(paths, make_id()) + "-wal")
    assert log.stat().st_size == container_store.LOG_BYTES
    container_store.reserve_log(paths, make_id())
    for count in (1, 10, 1500):
        before = container_store.get_event_count(db, 0)
        for index in range(before, before + count):
            container_store.insert_segments(db, [make_row(index)], [])
        crashed = make_paths(tmp_path / str(count))
        os.makedirs(crashed.evidence)
        for file in Path(paths.evidence).glob("*.db*"):
            if not file.name.endswith("-shm"):
                (Path(crashed.evidence) / file.name).write_bytes(file.read_bytes())
        for found in (paths, crashed):
            reader = container_store.open_store(found, make_id())
            assert container_store.get_event_count(reader, 0) == before + count
            assert reader.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            reader.close()
    assert log.stat().st_size == container_store.LOG_BYTES, "the log has grown all the same"
    db.close()
