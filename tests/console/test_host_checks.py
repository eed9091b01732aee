"""A spoilt store is noticed without anybody asking, named, and forgotten when it is whole again.

The evidence is made by the real recorder, and damaged past SQLite or through it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainlite.checkpoint import parse_claim
from chainlite.errors import TamperError
from docklock.console.facts import Progress, Verdict
from docklock.console.host_checks import SAVED_NS, SHARE, HostChecks, StoppedError
from docklock.evidence.container_store import get_store_path
from docklock.evidence.cosigned import store_cosigned
from docklock.evidence.host_log import HostLog
from docklock.evidence.keyring import get_public_key
from docklock.evidence.spot_check import ITS_FILE, THE_LOG, Continued, Moment
from docklock.notary import run_once
from docklock.paths import Paths
from tests.evidence.recording import (
    append,
    append_durably,
    begin,
    cosign_log,
    make_id,
    make_paths,
    record,
)

CALLS_MAX = 10
"""Of a small store: a call looks at many leaves, and there are fewer than twenty."""
WEB, DB = make_id(1), make_id(2)


class Checks(HostChecks):
    """With all the time that it may save up at each call."""

    def __init__(self, paths: Paths) -> None:
        self.now_ns = 0
        super().__init__(paths, clock_ns=lambda: self.now_ns)

    def look(self) -> tuple[Verdict, ...]:
        self.now_ns += int(SAVED_NS / SHARE) * 2
        return self.read_verdicts()

    def find(self) -> Verdict:
        """The one finding, which takes a bounded number of calls."""
        for _ in range(CALLS_MAX):
            found = self.look()
            if found:
                (one,) = found
                return one
        raise AssertionError("nothing was noticed")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """A host with two containers, the first with several segments."""
    paths = make_paths(tmp_path_factory.mktemp("host"))
    recorder = begin(paths, WEB, app="web")
    for number in range(120):
        append(recorder, number)
        if number in (50, 90):
            append_durably(recorder, number)
    recorder.close(0)
    record(paths, DB, app="db", count=3)
    return paths


@pytest.fixture
def paths(original: Paths, tmp_path: Path) -> Paths:
    paths = make_paths(tmp_path)
    shutil.copytree(original.state, paths.state)
    return paths


@pytest.fixture
def checks(paths: Paths) -> Iterator[Checks]:
    """That have been over all of it once, and found nothing."""
    checks = Checks(paths)
    assert [checks.look() for _ in range(CALLS_MAX)] == [()] * CALLS_MAX
    yield checks
    checks.close()


def edit(path: str, *statements: str) -> None:
    db = sqlite3.connect(path)
    with db:
        for statement in statements:
            db.execute(statement)
    db.close()


def flip(path: str, place: bytes) -> None:
    """Change the byte after `place` in the file itself; again undoes it."""
    data = Path(path).read_bytes()
    at = data.index(place) + len(place)
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(bytes([data[at] ^ 1]))


def read_row(paths: Paths, column: str, first: int) -> bytes:
    db = sqlite3.connect(get_store_path(paths, WEB))
    try:
        return bytes(
            db.execute(f"SELECT {column} FROM segments WHERE first_index = {first}").fetchone()[0]
        )
    finally:
        db.close()


def list_firsts(paths: Paths) -> list[tuple[int, int]]:
    db = sqlite3.connect(get_store_path(paths, WEB))
    try:
        return list(db.execute("SELECT first_index, event_count FROM segments ORDER BY 1"))
    finally:
        db.close()


def test_a_changed_byte_is_noticed_where_it_is_and_until_it_is_undone(
    paths: Paths, checks: Checks
) -> None:
    first, count = list_firsts(paths)[1]
    for column in ("body", "header", "signature", "leaf_tags", "secret"):
        place = read_row(paths, column, first)
        change = f"UPDATE segments SET {column} = x'{{}}' WHERE first_index = {first}"
        changed = place[:-1] + bytes([place[-1] ^ 1])
        edit(get_store_path(paths, WEB), change.format(changed.hex()))
        found = checks.find()
        assert (found.is_whole, found.container) == (False, WEB), column
        number = int(found.where.split()[1])
        assert first <= number < first + count
        assert found.where.endswith(" of run 0")
        assert found.why
        (later,) = checks.look()
        assert later.since_ns == found.since_ns
        assert later.checked_ns > found.checked_ns
        edit(get_store_path(paths, WEB), change.format(place.hex()))
        assert checks.look() == ()


def test_a_byte_that_is_changed_past_sqlite_is_noticed(paths: Paths, checks: Checks) -> None:
    """Also in the log itself, of which pages are held in memory from call to call."""
    body = read_row(paths, "body", list_firsts(paths)[0][0])[:40]
    flip(get_store_path(paths, WEB), body)
    assert checks.find().container == WEB
    flip(get_store_path(paths, WEB), body)
    assert checks.look() == ()
    with HostLog(paths, None) as log:
        leaf = log.get_leaf(2)  # under no run
        edit(paths.host_db, "PRAGMA wal_checkpoint(TRUNCATE)")
        flip(paths.host_db, leaf[:-1])
        found = checks.find()
        assert (found.container, found.where) == ("", f"leaf 2 of {THE_LOG}")
        flip(paths.host_db, leaf[:-1])
        assert checks.look() == ()


def test_what_was_taken_out_is_noticed(paths: Paths, checks: Checks) -> None:
    first, count = list_firsts(paths)[-1]
    edit(get_store_path(paths, WEB), f"DELETE FROM segments WHERE first_index = {first}")
    found = checks.find()
    assert found.where == f"receipts {first} to {first + count - 1} of run 0"
    assert "has not" in found.why


def test_a_file_that_is_gone_is_one_finding(paths: Paths, checks: Checks, tmp_path: Path) -> None:
    path = get_store_path(paths, WEB)
    os.rename(path, tmp_path / "aside")
    found = checks.find()
    assert (found.container, found.where, found.why) == (WEB, ITS_FILE, "is gone")
    assert [one.since_ns for one in checks.look()] == [found.since_ns]
    os.rename(tmp_path / "aside", path)
    assert checks.look() == ()


def test_what_comes_while_we_look_is_looked_at_first(paths: Paths, checks: Checks) -> None:
    recorder = begin(paths, make_id(3), app="new")
    append_durably(recorder, 1)
    recorder.close(0)
    assert checks.look() == ()
    edit(get_store_path(paths, make_id(3)), "UPDATE segments SET signature = zeroblob(64)")
    recorder = begin(paths, make_id(4), app="newer")
    append_durably(recorder, 1)
    recorder.close(0)
    edit(get_store_path(paths, make_id(4)), "UPDATE segments SET signature = zeroblob(64)")
    assert make_id(4) in {one.container for one in checks.look()}  # in the very next call
    for _ in range(CALLS_MAX):
        found = checks.look()
    assert {one.container for one in found} == {make_id(3), make_id(4)}


def test_a_log_that_is_cut_or_rewritten_is_noticed(
    paths: Paths, checks: Checks, tmp_path: Path
) -> None:
    """Whole in itself, but not what continues that which this process has seen."""
    snapshot, later = tmp_path / "snapshot", tmp_path / "later"
    shutil.copytree(paths.state, snapshot)
    record(paths, make_id(3))
    assert checks.look() == ()
    shutil.copytree(paths.state, later)
    shutil.rmtree(paths.state)
    shutil.copytree(snapshot, paths.state)
    found = checks.find()
    assert (found.container, found.where) == ("", THE_LOG)
    assert "cut or restored" in found.why
    for number in (4, 5, 6):
        record(paths, make_id(number))
    assert "rewritten" in checks.find().why
    shutil.rmtree(paths.state)
    shutil.copytree(later, paths.state)
    assert checks.look() == ()


def test_a_log_that_left_what_witnesses_cosigned_is_noticed(paths: Paths, tmp_path: Path) -> None:
    """By a process that has seen nothing before: the cosigned checkpoint is of another history."""
    snapshot = tmp_path / "snapshot"
    shutil.copytree(paths.state, snapshot)
    record(paths, make_id(3))
    note = Path(cosign_log(paths, tmp_path / "note")).read_bytes()
    store_cosigned(paths, note)
    checks = Checks(paths)
    assert [checks.look() for _ in range(CALLS_MAX)] == [()] * CALLS_MAX
    checks.close()
    shutil.rmtree(paths.state)
    shutil.copytree(snapshot, paths.state)
    for number in (4, 5, 6):
        record(paths, make_id(number))
    size = parse_claim(note).size
    edit(paths.host_db, f"INSERT INTO cosigned VALUES ({size}, x'{note.hex()}')")
    checks = Checks(paths)
    found = checks.find()
    assert (found.where, "forked or rewritten" in found.why) == (THE_LOG, True)
    checks.close()


def test_rows_of_another_type_are_a_finding_and_no_crash(paths: Paths, checks: Checks) -> None:
    for change, undo in (
        ("UPDATE runs SET container = 'text' WHERE number = 0",
         f"UPDATE runs SET container = x'{WEB}' WHERE number = 0"),
        ("UPDATE runs SET start_leaf = 'first' WHERE number = 0",
         "UPDATE runs SET start_leaf = 3 WHERE number = 0"),
    ):  # fmt: skip
        edit(paths.host_db, change)
        for _ in range(CALLS_MAX):
            found = checks.look()
        assert found, change
        edit(paths.host_db, undo)
        for _ in range(CALLS_MAX):
            found = checks.look()
        assert found == (), undo


def test_a_checkpoint_that_nobody_signed_is_noticed(paths: Paths, checks: Checks) -> None:
    edit(
        paths.host_db,
        "UPDATE state SET note = substr(note, 1, length(note) - 9) || x'41414141410a'",
    )
    assert checks.find().where == THE_LOG


def test_what_the_notary_set_aside_is_told_until_it_is_taken(paths: Paths, checks: Checks) -> None:
    record(paths, make_id(3), count=5)
    place = get_store_path(paths, make_id(3))
    kept = Path(place).read_bytes()
    edit(place, "UPDATE segments SET signature = zeroblob(64)")
    run_once(paths, flush=True)
    for _ in range(CALLS_MAX):
        found = checks.look()
    aside = [one for one in found if "set aside by the notary" in one.why]
    assert [(one.container, one.where) for one in aside] == [(make_id(3), "receipt 0 of run 0")]
    assert abs(aside[0].since_ns - time.time_ns()) < 60e9
    Path(place).write_bytes(kept)
    run_once(paths, flush=True)
    for _ in range(CALLS_MAX):
        found = checks.look()
    assert found == ()


def test_a_look_costs_no_more_than_its_share(paths: Paths) -> None:
    """Thread time: whatever else runs here. What was saved up is spent once."""
    checks = Checks(paths)
    checks.look()
    began_ns, looks = time.thread_time_ns(), 100
    for _ in range(looks):
        checks.now_ns += 10_000_000
        assert checks.read_verdicts() == ()
    spent_ns = time.thread_time_ns() - began_ns
    assert spent_ns < SAVED_NS + looks * 10_000_000 * SHARE + 30_000_000
    checks.close()


def test_everything_can_be_verified_with_progress_and_is_remembered(
    paths: Paths, checks: Checks
) -> None:
    told: list[Progress] = []

    def tell(progress: Progress) -> bool:
        told.append(progress)
        return True

    assert checks.verify("", tell) == ()
    seen = list(dict.fromkeys((one.done, one.total) for one in told))  # a slow one is told again
    assert seen == [(0, 0), (1, 3), (2, 3), (3, 3)]
    edit(get_store_path(paths, WEB), "UPDATE segments SET time_last = 1, body = x'00'"
         " WHERE first_index = 0")  # fmt: skip
    edit(paths.host_db, f"UPDATE runs SET app = 'evil' WHERE container = x'{DB}'")
    found = checks.verify("", tell)
    assert [(one.container, one.where.split(" to ")[0]) for one in found] == [
        ("", THE_LOG),
        (WEB, "receipts 0"),
    ]
    assert set(found) <= set(checks.look())
    assert checks.verify(DB, tell) == ()
    edit(paths.host_db, f"UPDATE runs SET app = 'db' WHERE container = x'{DB}'")
    assert [one.container for one in checks.verify("", tell)] == [WEB]
    assert THE_LOG not in {one.where for one in checks.look()}


def test_a_verification_stops_when_it_is_told_to(paths: Paths, checks: Checks) -> None:
    with pytest.raises(StoppedError):
        checks.verify("", lambda progress: progress.done < 2)
    assert checks.look() == ()


def test_what_is_found_again_is_broken_since_it_was_found_first(
    paths: Paths, checks: Checks
) -> None:
    edit(get_store_path(paths, WEB), "UPDATE segments SET body = x'00' WHERE first_index = 0")
    edit(paths.host_db, f"UPDATE runs SET app = 'evil' WHERE container = x'{DB}'")
    first = {one.where: one.since_ns for one in checks.verify("", lambda _: True)}
    again = {one.where: one.since_ns for one in checks.verify("", lambda _: True)}
    assert len(first) == 2
    assert again == first


def test_one_that_is_stopped_amid_a_container_has_found_nothing(
    checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("docklock.console.host_checks.TELL_NS", 0)
    with pytest.raises(StoppedError):
        checks.verify(WEB, lambda progress: "part" not in progress.now)
    assert checks.look() == ()


def test_where_nothing_has_run_there_is_nothing_to_find(tmp_path: Path) -> None:
    checks = Checks(make_paths(tmp_path))
    assert checks.look() == ()
    assert not os.path.exists(make_paths(tmp_path).state)
    checks.close()


def test_each_segment_of_many_epochs_and_runs_is_checked(tmp_path: Path) -> None:
    """The leaves one by one, each as if it were the first that is looked at."""
    paths = make_paths(tmp_path)
    for run in range(3):
        recorder = begin(paths, WEB, run=run, sign_each=True)
        for number in range(4):
            append_durably(recorder, number)
        recorder.close(0)
    with HostLog(paths, None) as log, log.read():
        moment = Moment(paths, log, get_public_key(paths))
        moment.check_log(Continued(0, b""))
        assert [moment.check_leaf(index) for index in range(moment.size)] == [None] * moment.size
        with pytest.raises(TamperError, match="rewritten"):
            moment.check_log(Continued(moment.size - 1, bytes(32)))
