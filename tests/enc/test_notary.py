"""The notary over real evidence: each receipt in one LogBlock, and nothing that is not whole."""

from __future__ import annotations

import io
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import docklock.notary
from chainlite import bundle, keys, logblock, notarised, segment
from chainlite.cosignature import encode_witness
from chainlite.economy import poe_bundle
from chainlite.economy.poe_index import DEFAULT_TERMS, compute_phi
from chainlite.errors import StateError, TamperError
from chainlite.report import Trust
from chainlite.verify import check_file
from docklock.cli.evidence import run_evidence
from docklock.cli.verify import run_verify
from docklock.evidence import container_store, keyring, rotation
from docklock.evidence.cosigned import store_cosigned
from docklock.evidence.notarising import LocalSource
from docklock.evidence.notary_key import ensure_notary_key, get_notary_fingerprint
from docklock.evidence.recovery import recover_runs
from docklock.notary import get_directory
from docklock.paths import Paths
from enc.notary.export import collect_frames
from enc.notary.notary import Notary, Pass
from enc.notary.source import HostView
from enc.notary.store import Store
from tests.chainlite.samples import WITNESS
from tests.enc.notarising import (
    NOW_MS,
    count_taken,
    export,
    get_aside,
    get_held,
    notarise,
    open_db,
)
from tests.enc.test_fuzz import Spoilt
from tests.evidence.recording import (
    ROOT,
    append,
    append_durably,
    begin,
    cosign_log,
    make_id,
    make_paths,
    record,
    record_and_die,
)

HOUR_MS = 3_600_000


def expect(*runs: tuple[str, int, int]) -> dict[tuple[str, int, int], int]:
    """Each receipt of these (container, run, count) once."""
    return {(name, run, n): 1 for name, run, count in runs for n in range(count)}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A host with a container of two runs in several segments each, and another container."""
    paths = make_paths(tmp_path)
    for run in range(2):
        live = begin(paths, make_id(1), run=run)
        for number in range(6):
            append_durably(live, number)
        for number in range(3000):
            append(live, number)
        live.close(0)
    record(paths, make_id(2), app="db", count=30)
    return paths


ALL = expect((make_id(1), 0, 3006), (make_id(1), 1, 3006), (make_id(2), 0, 30))


def edit_store(paths: Paths, statement: str, container: str = make_id(1)) -> None:
    path = container_store.get_store_path(paths, container)
    with sqlite3.connect(path) as db:
        db.execute(statement)
    db.close()


def test_each_receipt_is_in_one_logblock_and_the_file_verifies(
    paths: Paths, tmp_path: Path
) -> None:
    done = notarise(paths)
    assert (done.receipts, done.troubles) == (6042, ())
    assert done.due_ms == NOW_MS + logblock.OPEN_MS, "30 receipts of `db` wait for their time"
    assert notarise(paths, NOW_MS + logblock.OPEN_MS - 1).blocks == 0
    assert notarise(paths, NOW_MS + logblock.OPEN_MS).blocks >= 1
    assert count_taken(paths) == ALL
    for app in ("web", "db"):
        text, code = export(paths, app, tmp_path / app)
        assert code == 0 and text.startswith("whole"), text
    assert notarise(paths).segments == 0


class Enough(Exception):
    """Ends a notary that follows."""


def test_an_idle_notary_closes_its_block_when_the_time_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing happens on the host meanwhile: its timer alone wakes it."""
    monkeypatch.setattr(
        logblock, "OPEN_MS", 3000
    )  # its first pass takes less on a busy machine, too
    monkeypatch.setattr(docklock.notary, "LOOK_S", 0.05)
    paths = make_paths(tmp_path)
    record(paths, make_id(), count=5)
    began, passes = time.monotonic(), list[Pass]()

    def tell(done: Pass) -> None:
        passes.append(done)
        if done.blocks:
            raise Enough

    with pytest.raises(Enough):
        docklock.notary.follow(paths, 0, tell, pytest.fail)
    assert [(done.segments > 0, done.blocks) for done in passes] == [(True, 0), (False, 1)]
    assert time.monotonic() - began > 2.9
    assert count_taken(paths) == expect((make_id(), 0, 5))


def test_a_live_run_is_taken_up_where_it_stood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over passes, epochs, a rotation of the host's key, and the end."""
    monkeypatch.setattr(segment, "EPOCH_NS", 1)
    paths = make_paths(tmp_path)
    live = begin(paths)
    taken = 0
    for number in range(12):
        append_durably(live, number)
        if number == 6:
            rotation.rotate_host_key(paths)
        done = notarise(paths, NOW_MS + number * 1000)
        assert done.troubles == ()
        taken += done.receipts
    live.close(0)
    taken += notarise(paths, flush=True).receipts
    assert taken == 12 and count_taken(paths) == expect((make_id(), 0, 12))
    text, code = export(paths, "web", tmp_path / "file")
    assert code == 0, text


def test_a_run_that_was_cut_and_recovered_is_taken_with_its_gap(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    source = "for n in range(5): append(recorder, n)\nrecorder.request_commit(now=True)"
    record_and_die(paths, source + "\ntime.sleep(0.3)")
    notarise(paths)
    [run] = recover_runs(paths, lambda _: False)
    assert notarise(paths, flush=True).troubles == ()
    counts = count_taken(paths)
    assert set(counts.values()) == {1} and len(counts) == 6, "five receipts and the gap"
    record(paths, make_id(), run=1, count=2)
    assert notarise(paths, flush=True).receipts == 2
    text, code = export(paths, "web", tmp_path / "file")
    assert code == 0 and run.container == make_id(), text


EDITS: dict[str, tuple[str, str]] = {
    "body": (
        "UPDATE segments SET body = CAST(substr(body, 1, length(body) - 3) || x'070707' AS BLOB)"
        " WHERE run = 0 AND first_index = 3",
        "",
    ),
    "header": (
        "UPDATE segments SET header = CAST(substr(header, 1, 240) ||"
        " CASE substr(header, 241) WHEN x'07' THEN x'08' ELSE x'07' END AS BLOB)"
        " WHERE run = 0 AND first_index = 3",
        "not signed by its epoch's key",
    ),
    "signature": (
        "UPDATE segments SET signature = zeroblob(64) WHERE run = 0 AND first_index = 3",
        "not signed by its epoch's key",
    ),
    "swapped": (
        "UPDATE segments SET body = (SELECT body FROM segments WHERE run = 0 AND first_index = 2)"
        " WHERE run = 0 AND first_index = 3",
        "not those that were signed",
    ),
    "missing": ("DELETE FROM segments WHERE run = 0 AND first_index = 3", "missing"),
    "type": ("UPDATE segments SET body = 'text' WHERE run = 0 AND first_index = 3", "another type"),
}


@pytest.mark.parametrize("edit", sorted(EDITS))
def test_a_bad_segment_is_set_aside_and_its_run_stands_still(paths: Paths, edit: str) -> None:
    statement, why = EDITS[edit]
    path = Path(container_store.get_store_path(paths, make_id(1)))
    whole = path.with_suffix(".whole")
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    shutil.copy(path, whole)
    edit_store(paths, statement)
    done = notarise(paths, flush=True)
    [trouble] = done.troubles
    assert (trouble.container, trouble.run, trouble.first_index) == (make_id(1), 0, 3)
    assert trouble.is_new and why in trouble.why
    # What is before the hole counts, what is after it in this run does not, and all else does.
    assert count_taken(paths) == expect(
        (make_id(1), 0, 3), (make_id(1), 1, 3006), (make_id(2), 0, 30)
    )
    assert list(get_held(paths)) == [(make_id(1), 0)]
    [aside] = get_aside(paths)
    assert aside[:3] == (make_id(1), 0, 3) and (aside[4] > 300 or edit in ("missing", "type"))
    # Reported again, kept once; nothing bridges the hole later.
    again = notarise(paths, flush=True)
    assert [t.is_new for t in again.troubles] == [False] and again.segments == 0
    assert len(get_aside(paths)) == 1
    # Once the segment is there again the run goes on; what was set aside stays.
    shutil.copy(whole, path)
    assert notarise(paths, flush=True).troubles == ()
    assert count_taken(paths) == ALL and get_held(paths) == {} and len(get_aside(paths)) == 1


def test_a_containers_file_that_is_gone_is_reported_and_nothing_else_stops(paths: Paths) -> None:
    for suffix in ("", "-wal", "-shm"):
        path = Path(container_store.get_store_path(paths, make_id(1)) + suffix)
        path.unlink(missing_ok=True)
    done = notarise(paths, flush=True)
    assert ["is gone" in trouble.why for trouble in done.troubles] == [True, True]
    assert count_taken(paths) == expect((make_id(2), 0, 30))


def test_different_bad_frames_of_a_run_are_kept_up_to_a_limit(paths: Paths) -> None:
    for number in range(20):
        edit_store(
            paths,
            f"UPDATE segments SET signature = CAST(zeroblob(63) || x'{number:02x}' AS BLOB)"
            " WHERE run = 0 AND first_index = 3",
        )
        assert len(notarise(paths, flush=True).troubles) == 1
    assert len(get_aside(paths)) == 16


def test_usage_that_falls_is_set_aside(tmp_path: Path) -> None:
    """A run may sign that it has used less than before: nobody is to be paid twice for that."""
    paths = make_paths(tmp_path)
    live = begin(paths)
    for usage in ((5, 5, 5, 5), (9, 9, 9, 9), (3, 9, 9, 9), (12, 12, 12, 12)):
        live.append("runtime.usage", decision=0, plane=2, seen=1, usage=usage)
        live.request_commit(now=True)
        while live.durable_count < live.event_count:
            pass
    live.close(0)
    [trouble] = notarise(paths, flush=True).troubles
    assert (trouble.first_index, trouble.why) == (2, "a counter of usage falls")
    assert count_taken(paths) == expect((make_id(), 0, 2))


def test_a_run_under_a_revoked_key_does_not_count(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record(paths, make_id(1), count=3)
    rotation.revoke_host_key(paths, 0, 0)
    record(paths, make_id(2), app="db", count=4)
    [trouble] = notarise(paths, flush=True).troubles
    assert "revoked" in trouble.why
    assert count_taken(paths) == expect((make_id(2), 0, 4))


def test_a_run_is_judged_by_the_keys_of_now_also_in_the_auditors_file(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record(paths, make_id(1), count=3)
    notarise(paths, flush=True)
    rotation.revoke_host_key(paths, 0, 0)
    text, code = export(paths, "web", tmp_path / "file")
    assert code == 4 and "revoked" in text


def test_what_is_erased_later_stays_notarised_and_what_was_erased_is_taken(paths: Paths) -> None:
    assert run_evidence(["erase", make_id(2), "--values", "all"], paths) == 0
    assert notarise(paths, flush=True).troubles == ()
    assert run_evidence(["erase", make_id(1), "--values", "all"], paths) == 0
    assert notarise(paths, flush=True).troubles == ()
    assert count_taken(paths) == ALL


def record_usage(paths: Paths, container: str, run: int, *usages: tuple[int, ...]) -> None:
    live = begin(paths, container, run=run)
    for usage in usages:
        live.append("runtime.usage", decision=0, plane=2, seen=1, usage=usage)
    live.close(0)


def test_windows_add_up_to_what_the_runs_used(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record_usage(paths, make_id(1), 0, (10**9, 5 * 10**8, 10**6, 10**7))
    notarise(paths, NOW_MS, flush=True)
    record_usage(paths, make_id(1), 1, (7 * 10**8, 3, 0, 0), (8 * 10**8, 4, 1, 1))
    later = NOW_MS + HOUR_MS
    assert notarise(paths, later, flush=True).bundles == 1, "the first hour is over"
    assert notarise(paths, later + HOUR_MS).bundles == 1
    with Store(get_directory(paths), None) as store:
        made = [poe_bundle.decode_bundle(row.bundle) for row in store.get_windows("web")]
    assert [one.parts[0].usage[:4] for one in made] == [
        (10**9, 5 * 10**8, 10**6, 10**7),
        (8 * 10**8, 4, 1, 1),
    ]
    assert [one.parts[0].usage[4] for one in made] == [10**6, 2 * 10**6], "receipts, in 10^-6"
    for one in made:
        assert one.phi == compute_phi(one.parts[0].usage, DEFAULT_TERMS)
    text, code = export(paths, "web", tmp_path / "file")
    assert code == 0 and text.count("Phi ") == 2, text
    # A clock that is set back does not put a block into an hour that is billed.
    record_usage(paths, make_id(2), 0, (1, 1, 1, 1))
    assert notarise(paths, NOW_MS, flush=True).blocks == 1
    with Store(get_directory(paths), None) as store:
        assert [bool(row.bundle) for row in store.get_windows("web")] == [True, True, False]
    assert export(paths, "web", tmp_path / "again")[1] == 0


def test_a_cosigned_log_is_told_with_its_witness(paths: Paths, tmp_path: Path) -> None:
    file = cosign_log(paths, tmp_path / "note")
    store_cosigned(paths, Path(file).read_bytes())
    notarise(paths, flush=True)
    write = tmp_path / "file"
    export(paths, "web", write)
    words = [str(write), "--witness-key", encode_witness(WITNESS)]
    assert run_verify(words, paths) == 0
    assert run_verify([*words, "--require-anchor"], paths) == 0


class Absent(LocalSource):
    """This host while one container's file cannot be read."""

    def open(self) -> HostView | None:
        view = super().open()
        assert view is not None
        return Spoilt(view, self._refuse)

    @staticmethod
    def _refuse(kind: int, payload: bytes) -> tuple[int, bytes]:
        if kind == bundle.SEGMENT:
            header, _ = bundle.decode_segment(payload)
            if header.container.hex() == make_id(1) and header.first_index >= 3:
                raise StateError("it is locked")
        return kind, payload


def test_what_cannot_be_read_now_is_looked_at_again_and_nothing_else_waits(paths: Paths) -> None:
    done = notarise(paths, flush=True, source=Absent(paths))
    assert (done.unread, done.troubles) == ("it is locked", ())
    counts = count_taken(paths)
    assert set(expect((make_id(2), 0, 30))) <= set(counts)
    assert not any(name == make_id(1) for name, _, _ in counts), "three segments were undone"
    done = notarise(paths, flush=True)
    assert (done.unread, done.troubles) == ("", ())
    assert count_taken(paths) == ALL


def test_two_passes_at_once_take_nothing_twice(paths: Paths) -> None:
    code = (
        "from docklock.paths import get_paths\nfrom tests.enc.notarising import notarise\n"
        f"notarise(get_paths({paths.state!r}), flush=True)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
        for _ in range(3)
    ]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert count_taken(paths) == ALL


def test_a_database_of_another_notary_or_version_is_refused(paths: Paths, tmp_path: Path) -> None:
    notarise(paths)
    changes: tuple[tuple[str, str], ...] = (
        ("UPDATE notary SET public = zeroblob(32)", "another notary's"),
        ("PRAGMA user_version = 9", "schema version 9"),
    )
    for statement, why in changes:
        with open_db(paths) as db:
            db.execute(statement)
        db.close()
        with pytest.raises(Exception, match=why):
            notarise(paths)


def test_who_edits_the_notarys_database_gains_a_refused_export(
    paths: Paths, tmp_path: Path
) -> None:
    notarise(paths, flush=True)
    edits: list[str] = [
        "UPDATE blocks SET signature = zeroblob(64) WHERE height = 0",
        "DELETE FROM segments WHERE first_index = 3",
        "UPDATE segments SET height = 1 WHERE first_index = 3",
        "DELETE FROM blocks WHERE height = 0",
    ]
    path = Path(get_directory(paths), "notary.db")
    whole = path.read_bytes()
    refuse: Callable[[], object] = lambda: export(paths, "web", tmp_path / "file")  # noqa: E731
    for statement in edits:
        path.write_bytes(whole)
        with open_db(paths) as db:
            db.execute(statement)
        db.close()
        with pytest.raises(TamperError):
            refuse()
        assert not (tmp_path / "file").exists()


def test_one_notary_bills_an_app_on_two_hosts(tmp_path: Path) -> None:
    """One chain for each host, one bundle for both: scales count active hosts."""
    first, second = make_paths(tmp_path / "a"), make_paths(tmp_path / "b")
    key = ensure_notary_key(first)
    record_usage(first, make_id(1), 0, (10**9, 5 * 10**8, 10**6, 10**7))
    record_usage(second, make_id(1), 0, (3 * 10**9, 1, 2, 3))
    notary = bytes.fromhex(get_notary_fingerprint(first))
    sources = [LocalSource(paths) for paths in (first, second)]
    hosts = [keys.compute_host_id(keyring.get_public_key(paths)) for paths in (first, second)]
    with Store(get_directory(first), key.public) as store:
        for host, source in zip(hosts, sources, strict=True):
            done = Notary(store, host, source, key).run_pass(NOW_MS, flush=True)
            assert (done.blocks, done.troubles) == (1, ())
        start = poe_bundle.find_window(NOW_MS * 10**6).start
        over_ms = (start + poe_bundle.WINDOW_SECONDS) * 1000
        assert Notary(store, hosts[0], sources[0], key).run_pass(over_ms).bundles == 1
        views = {host: source.open() for host, source in zip(hosts, sources, strict=True)}
        file = io.BytesIO()
        frames = list(collect_frames(store, {h: v for h, v in views.items() if v}, "web"))
        state = notarised.write_file(file.write, frames, key, 7)
    [made] = state.bundles
    assert [part.host for part in made.parts] == sorted(hosts) and made.notary == notary
    usage = (4 * 10**9, 5 * 10**8 + 1, 10**6 + 2, 10**7 + 3, 2 * 10**6)
    assert made.phi == compute_phi(usage, DEFAULT_TERMS, 2)
    file.seek(0)
    text, code = check_file(file.read, Trust(hosts[0].hex(), notary=notary.hex()), as_json=False)
    assert code == 4 and "2 active hosts" in text, "the second host was not named"
    for source in sources:
        source.close()
        source.end()
