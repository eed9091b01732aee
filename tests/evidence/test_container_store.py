"""A store of another schema version is refused, never misread or added to."""

from __future__ import annotations

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
    live.append("x", decision=0, plane=2, seen=1)
    with pytest.raises(StateError, match="evidence not written: .* schema version"):
        live.close(0)


def test_a_hosts_log_of_an_older_version_is_refused(paths: Paths) -> None:
    old = host_log.SCHEMA_VERSION - 1
    set_version(paths.host_db, old)
    for start in (lambda: host_log.HostLog(paths, None), lambda: begin(paths, make_id(2))):
        with pytest.raises(SpecError, match=f"schema version {old}; this program reads {old + 1}"):
            start()
