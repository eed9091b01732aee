"""The store on SQLite: what every store does, and what is this one's own."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from chainlite.bpci import sqlite_store
from chainlite.bpci.sqlite_store import FILE, SqliteStore
from chainlite.bpci.store import Changes, Store
from chainlite.errors import SpecError, StateError, TamperError
from tests.bpci.conformance import HOSTS, StoreConformance, make_host, make_leaf


class TestSqlite(StoreConformance):
    def open_writer(self, directory: Path) -> Store:
        return SqliteStore(str(directory), is_writer=True)

    def open_reader(self, directory: Path) -> Store:
        return SqliteStore(str(directory), is_writer=False)

    def close(self, store: Store) -> None:
        assert isinstance(store, SqliteStore)
        store.close()


def edit(directory: Path, statement: str) -> None:
    db = sqlite3.connect(directory / FILE)
    try:
        with db:
            db.execute(statement)
    finally:
        db.close()


def test_it_is_durable_before_a_commit_returns(tmp_path: Path) -> None:
    with SqliteStore(str(tmp_path), is_writer=True) as store:
        found = [
            store._db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "user_version")
        ]
    assert found == ["wal", 2, len(sqlite_store.MIGRATIONS)]
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0


def test_a_newer_programs_file_and_no_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="no server's store"):
        SqliteStore(str(tmp_path), is_writer=False)
    SqliteStore(str(tmp_path), is_writer=True).close()
    edit(tmp_path, f"PRAGMA user_version = {len(sqlite_store.MIGRATIONS) + 1}")
    for is_writer in (True, False):
        with pytest.raises(StateError, match="schema"):
            SqliteStore(str(tmp_path), is_writer=is_writer)
    (tmp_path / FILE).write_bytes(b"something else" * 1000)
    with pytest.raises(SpecError, match="not a server's store"):
        SqliteStore(str(tmp_path), is_writer=True)


def test_an_older_file_is_brought_up_and_keeps_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SqliteStore(str(tmp_path), is_writer=True) as store:
        store.commit(Changes(hosts=[make_host(0)]))
    later = (*sqlite_store.MIGRATIONS, ("CREATE TABLE later (x)", "INSERT INTO later VALUES (1)"))
    monkeypatch.setattr(sqlite_store, "MIGRATIONS", later)
    with pytest.raises(StateError, match="schema"):
        SqliteStore(str(tmp_path), is_writer=False)
    for _ in range(2):
        with SqliteStore(str(tmp_path), is_writer=True) as store:
            assert store.find_host(HOSTS[0]) == make_host(0)
            assert store._db.execute("SELECT * FROM later").fetchall() == [(1,)]


def test_a_full_disk_passes_and_loses_nothing(tmp_path: Path) -> None:
    with SqliteStore(str(tmp_path), is_writer=True) as store:
        store.commit(Changes(leaves=[make_leaf(HOSTS[0], 0)]))
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {pages + 4}")
        big = [make_leaf(HOSTS[0], 1)._replace(data=bytes(60_000))]
        for _ in range(2):
            with pytest.raises(StateError, match="the disk is full"):
                store.commit(Changes(leaves=big))
        assert store.read_leaves(HOSTS[0], 0, 9) == [make_leaf(HOSTS[0], 0)]
        store._db.execute("PRAGMA max_page_count = 1000000")
        store.commit(Changes(leaves=big))
        assert store.read_leaves(HOSTS[0], 1, 9) == big


def test_after_another_error_nothing_is_written_until_it_is_opened_anew(tmp_path: Path) -> None:
    with SqliteStore(str(tmp_path), is_writer=True) as store:
        store.commit(Changes(leaves=[make_leaf(HOSTS[0], 0)]))
        with pytest.raises(StateError, match="a commit failed"):
            store.commit(Changes(leaves=[make_leaf(HOSTS[0], 0)]))
        with pytest.raises(StateError, match="open it anew"):
            store.commit(Changes(leaves=[make_leaf(HOSTS[0], 1)]))
    with SqliteStore(str(tmp_path), is_writer=True) as store:
        store.commit(Changes(leaves=[make_leaf(HOSTS[0], 1)]))


def test_an_edited_row_of_another_type_is_named(tmp_path: Path) -> None:
    with SqliteStore(str(tmp_path), is_writer=True) as store:
        store.commit(Changes(hosts=[make_host(0)], leaves=[make_leaf(b"", 0)], note=b"note"))
    edit(tmp_path, "UPDATE hosts SET note = 'text'")
    edit(tmp_path, "UPDATE leaves SET data = 7")
    edit(tmp_path, "UPDATE log SET note = 1.5")
    with SqliteStore(str(tmp_path), is_writer=False) as store:
        for read in (
            lambda: store.find_host(HOSTS[0]),
            lambda: store.read_leaves(b"", 0, 1),
            store.find_log,
        ):
            with pytest.raises(TamperError, match="another type"):
                read()
