"""An audit of what nobody touched is silent; of anything else it names the row."""

from __future__ import annotations

import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from chainlite.bpci import act_log
from chainlite.bpci.actor import Role
from chainlite.bpci.at_rest import ServerKey
from chainlite.bpci.audit import _audit, audit
from chainlite.bpci.batch import encode_batch
from chainlite.bpci.handed import encode_handed
from chainlite.bpci.intake import BEHIND, TAKEN, HandedIn
from chainlite.bpci.orders import SetQuota, SetRetention
from chainlite.bpci.quota import DAY_MS
from chainlite.bpci.restoring import MARK
from chainlite.bpci.sqlite_store import FILE, SqliteStore
from chainlite.bpci.verification import POE
from chainlite.errors import TamperError
from docklock.paths import get_paths
from tests.bpci.batches import make_batch, make_data
from tests.bpci.handing import make_bundles, make_handed_data
from tests.bpci.joined import admit, make_office
from tests.bpci.servers import KEY, NOW_MS, Server
from tests.bpci.test_sqlite_store import edit
from tests.bpci.test_verification import find_kind, hostlog, spoil_body
from tests.evidence.recording import append_durably, begin, make_id, record
from tests.ledger.offered import make_host

TABLES = (
    "tenants", "hosts", "leaves", "segments", "runs", "alerts", "acts", "log", "logblocks",
    "notarised", "bundles",
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A server with two hosts of two tenants, an open run and an alert."""
    top = tmp_path_factory.mktemp("audit")
    first, second = make_host(top), get_paths(str(top / "second"))
    record(second, make_id(1), count=6)
    recorder = begin(second, make_id(2))
    append_durably(recorder, 1)
    with Server(top / "server") as server:
        host, other = server.enrol(first), server.enrol(second, "other")
        batch = make_batch(first)
        number = find_kind(batch, hostlog.Segment)[2]
        items = list(batch.items)
        items[number] = spoil_body(items[number])
        server.take(host, encode_batch(batch._replace(items=tuple(items))))
        for end in (number + 3, None):
            server.sync(first, host, end)
        server.sync(second, other)
        assert server.intake.hand_in(HandedIn(host, make_handed_data(first))).kind == TAKEN
        record(first, make_id(3), count=4)
        server.sync(first, host)
        assert server.intake.hand_in(HandedIn(host, make_handed_data(first))).kind == TAKEN
        bundles = HandedIn(host, encode_handed(make_bundles(first, hours=1)), POE)
        assert server.intake.hand_in(bundles).kind == TAKEN
        admit(server, 1, Role.ADMIN)
        office = make_office(server)
        office.set_retention(SetRetention("acme", 30), NOW_MS)
        office.set_quota(SetQuota("acme", {"hosts": 5}), NOW_MS)
        cutoff_ns = sorted(one.time_last for one in server.store.read_segments(host, 0, 99))[2]
        now_ms = cutoff_ns // 10**6 + 1 + 30 * DAY_MS
        *_, done = office.erase("acme", now_ms)
        assert 0 < done.segments < len(server.store.read_segments(host, 0, 99))
        assert server.audit() == []
    recorder.close(0)
    return top / "server"


def audit_copy(directory: Path, key: ServerKey = KEY) -> list[tuple[str, str, int]]:
    with SqliteStore(str(directory), is_writer=False) as store:
        return [damage[:3] for damage in audit(store, key, str(directory / act_log.FILE))]


def copy(whole: Path, to: Path) -> Path:
    shutil.copytree(whole, to)
    return to


def read_rows(directory: Path, table: str) -> tuple[list[str], list[sqlite3.Row]]:
    db = sqlite3.connect(directory / FILE)
    try:
        cursor = db.execute(f"SELECT * FROM {table}")
        return [one[0] for one in cursor.description], cursor.fetchall()
    finally:
        db.close()


def spoil(value: object, rng: random.Random) -> object:
    if isinstance(value, int):
        return value + rng.choice((-1, 1))
    if isinstance(value, str):
        return value + "x"
    assert isinstance(value, bytes)
    if not value:
        return b"x"
    changed = bytearray(value)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def test_every_column_of_every_table_is_vouched_for(
    whole: Path, tmp_path: Path, seed: int, full: bool
) -> None:
    """Any value of any row, changed, is found, and is named unless it is a key of its row."""
    rng, tried = random.Random(seed), 0
    for table in TABLES:
        names, rows = read_rows(whole, table)
        assert rows, f"{table} is empty: nothing of it is tested"
        for column, name in enumerate(names):
            for number in rng.sample(range(len(rows)), min(len(rows), 12 if full else 2)):
                if (table, name) == ("log", "id"):
                    continue
                at = copy(whole, tmp_path / f"{table}-{name}-{number}")
                old = rows[number]
                db = sqlite3.connect(at / FILE)
                where = " AND ".join(f"{one} = ?" for one in names)
                values = (spoil(old[column], rng), *old)
                with db:
                    try:
                        changed = db.execute(f"UPDATE {table} SET {name} = ? WHERE {where}", values)
                    except sqlite3.IntegrityError:
                        continue  # another row has this name
                    assert changed.rowcount == 1
                db.close()
                found = audit_copy(at)
                assert found, (table, name, number)
                if table in ("leaves", "segments") and name not in ("host", "leaf_index"):
                    place = old[names.index("leaf_index")]
                    whose = old[0].hex() or "server"
                    assert any(one[1:] == (whose, place) for one in found), (table, name, found)
                tried += 1
                shutil.rmtree(at)
    assert tried > 60


def test_every_row_that_is_gone_is_missed(whole: Path, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    for table in TABLES:
        names, rows = read_rows(whole, table)
        for number in rng.sample(range(len(rows)), min(len(rows), 4)):
            at = copy(whole, tmp_path / f"{table}-{number}")
            db = sqlite3.connect(at / FILE)
            with db:
                where = " AND ".join(f"{one} = ?" for one in names)
                db.execute(f"DELETE FROM {table} WHERE {where}", rows[number])
            db.close()
            assert audit_copy(at), (table, number)


def test_swapped_rows_are_named(whole: Path, tmp_path: Path) -> None:
    _, rows = read_rows(whole, "segments")
    first, second = rows[0], rows[1]
    at = copy(whole, tmp_path / "swapped")
    db = sqlite3.connect(at / FILE)
    with db:
        for row, other in ((first, second), (second, first)):
            db.execute(
                "UPDATE segments SET box = ? WHERE host = ? AND leaf_index = ?",
                (other[8], row[0], row[1]),
            )
    db.close()
    found = audit_copy(at)
    for row in (first, second):
        assert ("segments", row[0].hex(), row[1]) in found


def test_one_damage_hides_no_other(whole: Path, tmp_path: Path) -> None:
    _, rows = read_rows(whole, "segments")
    at = copy(whole, tmp_path / "many")
    hit = [row for row in rows if row[1] % 2]
    for row in hit:
        edit(at, f"UPDATE segments SET box = x'00' WHERE host = x'{row[0].hex()}'"
             f" AND leaf_index = {row[1]}")  # fmt: skip
    edit(at, "UPDATE tenants SET sealed_key = x'00' WHERE name = 'other'")
    found = audit_copy(at)
    assert ("tenants", "other", -1) in found
    assert all(("segments", row[0].hex(), row[1]) in found for row in hit)


def test_an_audit_is_of_one_moment_while_a_host_sends(whole: Path, tmp_path: Path) -> None:
    paths = get_paths(str(tmp_path / "third"))
    record(paths, make_id(1), count=4)
    at = copy(whole, tmp_path / "sent")
    with Server(at) as server, SqliteStore(str(at), is_writer=False) as reader:
        host = server.enrol(paths)
        found = audit(reader, KEY)
        with reader.moment():
            assert reader.find_host(host) is not None  # the moment has begun
            server.sync(paths, host)
            assert list(_audit(reader, KEY)) == []
        assert list(found) == []


def test_another_servers_key_opens_nothing(whole: Path) -> None:
    found = {one[0] for one in audit_copy(whole, ServerKey(b"\x44" * 32))}
    assert {"tenants", "log", "hosts", "segments"} <= found


def test_a_store_that_was_put_back_signs_nothing(whole: Path, tmp_path: Path) -> None:
    """An older copy of the file is whole in itself; what was published says that it is old."""
    host_paths = get_paths(str(tmp_path / "host"))
    record(host_paths, make_id(1), count=3)
    top = tmp_path / "server"
    with Server(top) as server:
        host = server.enrol(host_paths)
    old = copy(top, tmp_path / "old")
    with Server(top) as server:
        server.sync(host_paths, host)
    shutil.copy(old / FILE, top / FILE)
    with Server(top) as server:
        published = (top / "checkpoint").read_bytes()
        assert server.intake.restore.is_on
        assert server.take(host, make_data(host_paths))[0].kind == BEHIND
        assert (top / "checkpoint").read_bytes() == published != server.intake.log.note
    (top / MARK).unlink()
    # another history of the same size
    (old / "checkpoint").unlink()
    with Server(old) as server:
        server.sync(host_paths, host, 2)
    shutil.copy(old / FILE, top / FILE)
    with pytest.raises(TamperError, match="a fork"):
        Server(top)
    edit(old, "UPDATE log SET note = x'00'")
    with pytest.raises(TamperError, match="is not this server's"):
        Server(old)
