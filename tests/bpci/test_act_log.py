"""Who edits the rows of acts gains nothing: the server does not open, and the audit names it."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from chainlite.bpci import act_log
from chainlite.bpci.act import Act, Kind
from chainlite.bpci.actor import Role
from chainlite.bpci.at_rest import ServerKey
from chainlite.bpci.audit import audit
from chainlite.bpci.orders import Revoke, SetQuota
from chainlite.bpci.sqlite_store import FILE, SqliteStore
from chainlite.errors import StateError, TamperError
from tests.bpci.joined import admit, make_office
from tests.bpci.servers import KEY, NOW_MS, Server
from tests.bpci.test_sqlite_store import edit


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A server with two members, of which one was revoked at last, and a quota."""
    with Server(tmp_path / "server") as server:
        office = make_office(server)
        admit(server, 1, Role.ADMIN)
        name = admit(server, 2, Role.AUDITOR)
        office.set_quota(SetQuota("acme", {"bytes": 1000}), NOW_MS)
        office.revoke(Revoke(name), NOW_MS)
        assert server.intake.acts.state.size == 4
    return tmp_path / "server"


def audit_acts(top: Path) -> list[tuple[str, int]]:
    with SqliteStore(str(top), is_writer=False) as store:
        found = list(audit(store, KEY, str(top / act_log.FILE)))
    return [(one.table, one.place) for one in found]


def test_all_of_it_is_there_when_it_is_opened_again(top: Path) -> None:
    with Server(top) as server:
        access = server.intake.access
        assert len(access.members) == 2 and access.get_quota("acme").bytes == 1000
        assert sorted(bool(one.revoked_ms) for one in access.members.values()) == [False, True]
    assert audit_acts(top) == []


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE acts SET box = zeroblob(300) WHERE number = 1", ("acts", 1)),
        ("UPDATE acts SET box = (SELECT box FROM acts WHERE number = 0) WHERE number = 1",
         ("acts", 1)),
        ("UPDATE acts SET number = 9 WHERE number = 3", ("acts", 9)),
        ("UPDATE acts SET number = -1 WHERE number = 0", ("acts", -1)),
        ("UPDATE acts SET number = 9223372036854775807 WHERE number = 3",
         ("acts", 2**63 - 1)),
        ("DELETE FROM acts WHERE number = 1", ("acts", 2)),
        ("DELETE FROM acts WHERE number = 0", ("acts", 1)),
        ("DELETE FROM acts WHERE number = 3", ("acts", -1)),
        ("DELETE FROM acts", ("acts", -1)),
        ("INSERT INTO acts SELECT 4, box FROM acts WHERE number = 3", ("acts", 4)),
        ("INSERT INTO acts VALUES (4, x'00')", ("acts", 4)),
    ],
)  # fmt: skip
def test_no_row_can_be_changed_moved_added_or_taken_away(
    top: Path, statement: str, named: tuple[str, int]
) -> None:
    edit(top, statement)
    assert named in audit_acts(top)
    with pytest.raises(TamperError):
        Server(top)


def test_rows_that_were_put_back_are_not_believed(top: Path) -> None:
    """An older copy of the file, whole in itself, knows nothing of the revocation."""
    db = sqlite3.connect(top / FILE)
    with db:
        row = db.execute("SELECT * FROM acts WHERE number = 3").fetchone()
        db.execute("DELETE FROM acts WHERE number = 3")
    with pytest.raises(TamperError, match="4 acts were written, and 3 are here"):
        Server(top)
    with db:
        db.execute("INSERT INTO acts VALUES (?, ?)", row)
    db.close()
    Server(top).__exit__()


def test_another_history_of_the_same_length_is_not_believed(top: Path, tmp_path: Path) -> None:
    other = shutil.copytree(top, tmp_path / "other")
    edit(other, "DELETE FROM acts WHERE number = 3")
    (other / act_log.FILE).unlink()
    with Server(other) as server:
        admit(server, 3, Role.ADMIN)
    shutil.copy(other / FILE, top / FILE)
    with pytest.raises(TamperError, match="others than were written"):
        Server(top)
    assert audit_acts(top) == [("acts", 3)]


def test_a_file_of_another_server_and_a_spoilt_one_are_refused(top: Path) -> None:
    for spoilt in (b"", bytes(80), (top / act_log.FILE).read_bytes()[:-1]):
        (top / act_log.FILE).write_bytes(spoilt)
        with pytest.raises(TamperError, match="not this server's"):
            Server(top)
        assert audit_acts(top) == [("acts", -1)]


def test_what_does_not_follow_is_not_written(top: Path) -> None:
    with Server(top) as server:
        name = next(one.member for one in server.intake.access.members.values() if one.revoked_ms)
        with pytest.raises(StateError):
            server.intake.act(Act(Kind.REVOKE, NOW_MS, "acme", b"", name))
        assert server.intake.acts.state.size == 4
        admit(server, 4, Role.READER)
    assert audit_acts(top) == []


def test_a_server_with_a_new_key_goes_on_with_all_acts(top: Path) -> None:
    new = ServerKey(b"\x55" * 32)
    with Server(top) as server:
        half = act_log.seal_anew(server.store, KEY, new)[:2]
        before = server.intake.access.members
    for _ in range(2):  # the second time half of them are sealed already
        with SqliteStore(str(top), is_writer=False) as store:
            rows = act_log.seal_anew(store, KEY, new)
        db = sqlite3.connect(top / FILE)
        with db:
            db.executemany("UPDATE acts SET box = ?2 WHERE number = ?1", half)
        db.close()
    db = sqlite3.connect(top / FILE)
    with db:
        db.executemany("UPDATE acts SET box = ?2 WHERE number = ?1", rows)
    db.close()
    with SqliteStore(str(top), is_writer=False) as store:
        assert act_log.ActLog(store, new, str(top / "none")).access.members == before
        with pytest.raises(TamperError):
            act_log.ActLog(store, KEY, str(top / "none"))
        with pytest.raises(TamperError):
            act_log.seal_anew(store, KEY, ServerKey(b"\x66" * 32))


def test_a_file_that_cannot_be_written_says_less_and_nothing_is_lost(top: Path) -> None:
    with Server(top) as server:
        (top / f"{act_log.FILE}.part").mkdir()
        with pytest.raises(StateError, match="cannot be written"):
            admit(server, 7, Role.READER)
        (top / f"{act_log.FILE}.part").rmdir()
        assert len(server.intake.access.members) == 3 and server.audit() == []
        admit(server, 8, Role.READER)
        assert server.intake.acts.state.size == 6
    with Server(top) as server:
        assert len(server.intake.access.members) == 4
    assert audit_acts(top) == []


def test_acts_of_while_it_is_audited_are_not_missed(top: Path) -> None:
    with Server(top) as server, SqliteStore(str(top), is_writer=False) as reader:
        found = audit(reader, KEY, str(top / act_log.FILE))
        edit(top, "UPDATE tenants SET sealed_key = x'00' WHERE name = 'acme'")
        assert next(found).table == "tenants"  # its moment has begun
        admit(server, 9, Role.READER)
        assert list(found) == []


def test_a_commit_that_failed_changes_nobodys_rights(top: Path) -> None:
    with Server(top) as server:
        server.store._db.execute("PRAGMA max_page_count = 1")
        big = [Act(Kind.EXCEED, NOW_MS, "acme", name=bytes(32), numbers=(0, n)) for n in range(99)]
        with pytest.raises(StateError, match="the disk is full"):
            server.intake.act(*big)
        assert server.intake.access.excesses == {}
        server.store._db.execute("PRAGMA max_page_count = 1000000")
        server.intake.act(*big[:1])
        assert len(server.intake.access.excesses) == 1
    assert audit_acts(top) == []
