"""The store on SQLite: what every store does, and what is this one's own."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from chainlite.bpci import sqlite_store, tables
from chainlite.bpci.sqlite_store import FILE, SqliteStore
from chainlite.bpci.store import Changes, Segment, Store
from chainlite.errors import SpecError, StateError, TamperError
from tests.bpci.conformance import (
    HOSTS,
    StoreConformance,
    make_host,
    make_leaf,
    make_segment,
)


class TestSqlite(StoreConformance):
    def open_writer(self, directory: Path) -> Store:
        return SqliteStore(str(directory), is_writer=True)

    def open_reader(self, directory: Path) -> Store:
        return SqliteStore(str(directory), is_writer=False)

    def close(self, store: Store) -> None:
        assert isinstance(store, SqliteStore)
        store.close()


def edit(directory: Path, statement: str, *values: object) -> None:
    db = sqlite3.connect(directory / FILE)
    try:
        with db:
            db.execute(statement, values)
    finally:
        db.close()


def test_it_is_durable_before_a_commit_returns(tmp_path: Path) -> None:
    with SqliteStore(str(tmp_path), is_writer=True) as store:
        found = [
            store._db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "user_version")
        ]
    assert found == ["wal", 2, len(tables.MIGRATIONS)]
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0


def test_a_newer_programs_file_and_no_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="no server's store"):
        SqliteStore(str(tmp_path), is_writer=False)
    SqliteStore(str(tmp_path), is_writer=True).close()
    edit(tmp_path, f"PRAGMA user_version = {len(tables.MIGRATIONS) + 1}")
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
    later = (*tables.MIGRATIONS, ("CREATE TABLE later (x)", "INSERT INTO later VALUES (1)"))
    monkeypatch.setattr(sqlite_store, "MIGRATIONS", later)
    with pytest.raises(StateError, match="schema"):
        SqliteStore(str(tmp_path), is_writer=False)
    for _ in range(2):
        with SqliteStore(str(tmp_path), is_writer=True) as store:
            assert store.find_host(HOSTS[0]) == make_host(0)
            assert store._db.execute("SELECT * FROM later").fetchall() == [(1,)]


def test_a_file_of_the_first_schema_is_brought_up_with_its_sums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, "MIGRATIONS", tables.MIGRATIONS[:1])
    SqliteStore(str(tmp_path), is_writer=True).close()
    monkeypatch.undo()
    host, segment = make_host(0), make_segment(HOSTS[0], 1, b"c" * 32, 0, 0)
    for table, row in (
        ("hosts", host[:-1]), ("segments", segment[:-1]), ("leaves", make_leaf(HOSTS[0], 1)),
        ("alerts", (HOSTS[0], "gap", 4, 5, b"box")),
    ):  # fmt: skip
        insert(tmp_path, table, row)
    with SqliteStore(str(tmp_path), is_writer=True) as store:
        size = len(make_leaf(HOSTS[0], 1).data) + len(segment.box) + len(b"box")
        assert store.find_host(HOSTS[0]) == host._replace(stored_bytes=size)
        assert store.read_segments(HOSTS[0], 0, 9) == [segment]
        assert [one.erased for one in store.read_alerts(HOSTS[0], 0, 9)] == [0]
        assert store.read_acts(0, 9) == []


def insert(directory: Path, table: str, row: tuple[object, ...]) -> None:
    db = sqlite3.connect(directory / FILE)
    try:
        with db:
            db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
    finally:
        db.close()


def test_of_what_is_erased_no_piece_is_left_wherever_it_had_been_moved(
    tmp_path: Path, seed: int
) -> None:
    """Rows come, move between pages and are erased, of sizes on either side of what spills over."""
    rng, kept, erased, numbers = random.Random(seed), dict[int, Segment](), list[bytes](), 0
    with SqliteStore(str(tmp_path), is_writer=True) as store:
        for _ in range(30):
            new = list[Segment]()
            for _ in range(rng.randrange(1, 50)):
                numbers += 1
                size = rng.choice((40, 100, 480, 700, 1500, 3900, 4100, 9000))
                made = make_segment(rng.choice(HOSTS), numbers, bytes(32), 0, numbers)
                new.append(made._replace(box=rng.randbytes(size)))
            progress = rng.randbytes(rng.randrange(3000))
            hosts = [make_host(n, progress=progress) for n in range(len(HOSTS))]
            store.commit(Changes(segments=new, hosts=hosts))
            kept.update((one.leaf_index, one) for one in new)
            gone = rng.sample(list(kept.values()), rng.randrange(len(kept)))
            left = [one._replace(box=rng.randbytes(44), erased=1) for one in gone]
            store.commit(Changes(erased_segments=left))
            erased += [kept.pop(one.leaf_index).box for one in gone]
        store.purge()
        data = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    pieces = {data[at : at + 16] for at in range(len(data) - 16)}
    assert len(erased) > 100 and any(one.box[:16] in pieces for one in kept.values())
    for box in erased:
        assert not any(box[at : at + 16] in pieces for at in range(0, len(box) - 16, 8))


def test_what_somebody_reads_is_purged_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, "PURGE_S", 0.1)
    with SqliteStore(str(tmp_path), is_writer=True) as store:
        store.commit(Changes(hosts=[make_host(0)]))
        with SqliteStore(str(tmp_path), is_writer=False) as reader, reader.moment():
            assert reader.find_host(HOSTS[0]) is not None
            store.commit(Changes(hosts=[make_host(1)]))
            with pytest.raises(StateError, match="while it is read"):
                store.purge()
        store.purge()


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
