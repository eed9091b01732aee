"""`log fsck`: every defect is named with its place, and mended from the copy that is right."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from chainlite import checkpoint, tile
from chainlite.errors import SpecError, StateError, TamperError
from docklock.cli.log import run_log
from docklock.evidence import audit
from docklock.evidence.cosigned import store_cosigned
from docklock.evidence.log_check import LogCheck, check_log
from docklock.evidence.log_repair import DAMAGED, rebuild_log, repair_log
from docklock.evidence.tiles import publish, read_published
from docklock.paths import Paths
from tests.evidence.logs import check_served, get_files, grow
from tests.evidence.recording import append_durably, begin, cosign_log, make_paths

FULL = os.environ.get("DOCKLOCK_TEST_FULL") == "1"
SIZE = 700


def make_log(tmp_path: Path, size: int = SIZE) -> Paths:
    """A published log of a run and of operations, with a cosigned checkpoint."""
    paths = make_paths(tmp_path)
    recorder = begin(paths)
    append_durably(recorder, 7)
    recorder.close(0, oom=False)
    grow(paths, size // 2)
    cosign_now(paths)
    grow(paths, size // 2)
    publish(paths)
    fold(paths)
    return paths


def fold(paths: Paths) -> None:
    """Put SQLite's log into host.db, so that the one file is the database."""
    db = sqlite3.connect(paths.host_db)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def edit(paths: Paths, *statements: str) -> None:
    db = sqlite3.connect(paths.host_db)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def cosign_now(paths: Paths) -> None:
    """Keep the log's checkpoint of now with a witness's line."""
    note = Path(paths.state, "note")
    cosign_log(paths, note)
    store_cosigned(paths, note.read_bytes())
    note.unlink()


def get_places(found: LogCheck) -> set[str]:
    return {defect.place for defect in found.defects}


def assert_mended(paths: Paths, mend: Callable[[Paths, LogCheck], LogCheck]) -> None:
    """All is as before: what is served, what the leaves say, and the log goes on."""
    try:
        before = checkpoint.parse_claim(read_published(paths)).size
    except SpecError:
        before = 0
    left = mend(paths, check_log(paths))
    assert left.defects == (), left.render()
    assert left.mended
    state = check_served(paths)
    assert state.size >= before
    assert audit.audit_log(paths).problems == ()
    size = grow(paths, 3)
    publish(paths)
    assert check_served(paths).size == size
    assert check_log(paths).defects == ()


def test_nothing_is_wrong_with_a_log_at_any_size(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    for count in (1, 200, 53, 1, 255, 256, 300):
        grow(paths, count)
        assert check_log(paths).defects == ()
        publish(paths)
        found = check_log(paths)
        assert found.defects == () and found.verified is not None


@pytest.mark.parametrize("name", ["tile/0/000", "tile/entries/001", "tile/1/000", "tile/0/002"])
@pytest.mark.parametrize("how", ["torn", "missing", "changed", "empty", "longer"])
def test_a_spoilt_file_is_named_and_written_again(tmp_path: Path, name: str, how: str) -> None:
    paths = make_log(tmp_path)
    top = Path(paths.log)
    path = next(one for one in sorted(top.rglob("*")) if one.is_file()
                and str(one.relative_to(top)).startswith(name))  # fmt: skip
    place = f"log/{path.relative_to(top)}"
    data = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    elif how == "changed":
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    else:
        size = {"torn": len(data) // 2 + 1, "empty": 0, "longer": len(data)}[how]
        path.write_bytes(bytes(data[:size]) + (b"\0" if how == "longer" else b""))
    found = check_log(paths)
    assert get_places(found) == {place}
    assert {one.mend for one in found.defects} == {"files"}
    assert_mended(paths, repair_log)


def test_all_files_gone_are_written_again(tmp_path: Path) -> None:
    paths = make_log(tmp_path)
    shutil.rmtree(f"{paths.log}/tile")
    files = list(tile.get_new_tiles(0, checkpoint.parse_claim(read_published(paths)).size))
    assert get_places(check_log(paths)) == {f"log/{tile.encode_path(one)}" for one in files}
    assert_mended(paths, repair_log)


@pytest.mark.parametrize("spoilt", [b"", b"not a checkpoint\n", None])
def test_a_spoilt_checkpoint_is_named_and_published_again(
    tmp_path: Path, spoilt: bytes | None
) -> None:
    paths = make_log(tmp_path)
    path = Path(paths.log, "checkpoint")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if spoilt is None else spoilt)
    found = check_log(paths)
    assert get_places(found) == {"log/checkpoint"}
    assert_mended(paths, repair_log)


def test_a_changed_or_lost_row_is_named_and_comes_back_from_the_tiles(tmp_path: Path) -> None:
    paths = make_log(tmp_path)
    edit(
        paths,
        "UPDATE leaves SET bytes = x'25' WHERE leaf_index = 300",
        "DELETE FROM leaves WHERE leaf_index IN (5, 301)",
        "UPDATE nodes SET hash = zeroblob(32) WHERE level = 0 AND number = 77",
        "DELETE FROM nodes WHERE level = 3 AND number = 20",
        "UPDATE nodes SET hash = zeroblob(32) WHERE level = 9 AND number = 0",
    )
    found = check_log(paths)
    assert get_places(found) == {
        "host.db: leaf 300", "host.db: leaf 5", "host.db: leaf 301",
        "host.db: hash 77 of level 0", "host.db: hash 20 of level 3", "host.db: hash 0 of level 9",
    }  # fmt: skip
    assert_mended(paths, repair_log)


def test_spoilt_copies_of_different_places_in_one_chunk_mend_each_other(tmp_path: Path) -> None:
    paths = make_log(tmp_path)
    edit(
        paths,
        "UPDATE leaves SET bytes = x'25' WHERE leaf_index = 10",
        "UPDATE nodes SET hash = zeroblob(32) WHERE level = 0 AND number = 11",
    )
    path = Path(paths.log, "tile/0/000")
    data = bytearray(path.read_bytes())
    data[32 * 12] ^= 1
    path.write_bytes(data)
    bundle = Path(paths.log, "tile/entries/000")
    bundle.write_bytes(bundle.read_bytes()[:-40])
    assert get_places(check_log(paths)) == {
        "host.db: leaf 10", "host.db: hash 11 of level 0", "log/tile/0/000", "log/tile/entries/000",
    }  # fmt: skip
    assert_mended(paths, repair_log)


def test_a_leaf_that_no_copy_has_is_said_and_nothing_is_invented(tmp_path: Path) -> None:
    paths = make_log(tmp_path)
    edit(paths, "DELETE FROM leaves WHERE leaf_index = 10")
    bundle = Path(paths.log, "tile/entries/000")
    bundle.write_bytes(bundle.read_bytes()[:200])
    assert "host.db: leaf 10" in get_places(check_log(paths))
    with pytest.raises(TamperError, match="leaf 10: no copy has it"):
        repair_log(paths, check_log(paths))


def test_a_lost_last_write_is_named_and_comes_back_from_the_tiles(tmp_path: Path) -> None:
    """The disk said that it had written host.db and had not: the published log is longer."""
    paths = make_log(tmp_path)
    shutil.copy(paths.host_db, tmp_path / "old.db")
    old = checkpoint.parse_claim(read_published(paths)).size
    size = grow(paths, 400)
    publish(paths)
    for suffix in ("-wal", "-shm"):
        Path(paths.host_db + suffix).unlink(missing_ok=True)
    shutil.copy(tmp_path / "old.db", paths.host_db)
    found = check_log(paths)
    assert [one.why for one in found.defects] == [
        f"leaves {old} to {size - 1} are missing: the last write was lost"
    ]
    assert repair_log(paths, found).defects == found.defects  # a file anew is for --rebuild
    assert_mended(paths, rebuild_log)


def test_a_lost_last_publication_is_named_and_made_again(tmp_path: Path) -> None:
    """The checkpoint is there, and the tiles that were written before it are as they were."""
    paths = make_log(tmp_path)
    before = get_files(paths)
    grow(paths, 400)
    publish(paths)
    after = get_files(paths)
    for name in after.keys() - before.keys():
        Path(paths.log, name).unlink()
    places = get_places(check_log(paths))
    assert places == {f"log/{name}" for name in after.keys() - before.keys()}
    assert_mended(paths, repair_log)


def test_a_missing_database_is_written_anew_from_the_tiles(tmp_path: Path) -> None:
    paths = make_log(tmp_path)
    os.unlink(paths.host_db)
    with pytest.raises(TamperError, match="was published"):
        grow(paths, 1)
    for suffix in ("", "-wal", "-shm"):  # what that attempt made
        Path(paths.host_db + suffix).unlink(missing_ok=True)
    assert get_places(check_log(paths)) == {"host.db"}
    assert_mended(paths, rebuild_log)


def test_every_spoilt_page_of_the_database_is_named_or_harmless_and_mended(tmp_path: Path) -> None:
    paths = make_log(tmp_path)
    whole = Path(paths.host_db).read_bytes()
    pages = len(whole) // 4096
    rng = random.Random(19)
    named = 0
    for page in range(pages) if FULL else sorted(rng.sample(range(pages), min(12, pages))):
        root = tmp_path / f"page{page}"
        shutil.copytree(paths.state, root)
        spoilt = Paths(str(root), str(root / "run"))
        data = bytearray(whole)
        data[page * 4096 : page * 4096 + 4096] = rng.randbytes(4096)
        Path(spoilt.host_db).write_bytes(data)
        found = check_log(spoilt)
        assert found.defects, page
        assert all(one.place.startswith("host.db") for one in found.defects)
        named += 1
        left = rebuild_log(spoilt, found)
        assert left.defects == (), (page, left.render())
        assert audit.audit_log(spoilt).problems == ()
        if not any(one.mend == "rows" for one in found.defects):
            assert os.path.exists(spoilt.host_db + DAMAGED)
        size = grow(spoilt, 2)
        publish(spoilt)
        assert check_served(spoilt).size == size
        shutil.rmtree(root)
    assert named >= min(12, pages)


def test_a_rebuild_never_goes_below_what_others_have_cosigned(tmp_path: Path) -> None:
    paths = make_log(tmp_path)
    grow(paths, 50)
    cosign_now(paths)
    fold(paths)
    edit(paths, "DELETE FROM leaves WHERE leaf_index = 720")  # in no bundle yet
    data = bytearray(Path(paths.host_db).read_bytes())
    found = check_log(paths)
    assert found.verified is not None
    edit(paths, "DELETE FROM state")
    with pytest.raises((StateError, TamperError)):
        rebuild_log(paths, check_log(paths))
    assert len(data) > 4096


def test_a_rebuild_waits_for_runs_to_end(tmp_path: Path) -> None:
    paths = make_log(tmp_path)
    recorder = begin(paths, f"{9:064x}")
    edit(paths, "DELETE FROM state")
    with pytest.raises(StateError, match="containers run"):
        rebuild_log(paths, check_log(paths))
    del recorder


def test_an_edit_with_the_hosts_key_is_a_fork_and_nothing_mends_it(tmp_path: Path) -> None:
    paths = make_log(tmp_path)
    shutil.copytree(paths.state, tmp_path / "fork")
    fork = Paths(str(tmp_path / "fork"), str(tmp_path / "fork/run"))
    grow(paths, 5)
    publish(paths)
    shutil.rmtree(fork.log)
    grow(fork, 9)
    shutil.copytree(paths.log, fork.log)
    found = check_log(fork)
    assert any("another history" in one.why for one in found.defects), found.render()
    assert repair_log(fork, found).defects
    with pytest.raises(TamperError, match="a fork"):
        publish(fork)


def test_the_command_names_places_and_exits_with_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = make_log(tmp_path)
    assert run_log(["fsck"], paths) == 0
    assert "nothing is wrong" in capsys.readouterr().out
    Path(paths.log, "tile/0/000").write_bytes(b"x" * 100)
    assert run_log(["fsck"], paths) == 3
    shown = capsys.readouterr().out
    assert "log/tile/0/000: has 100 bytes, not 8192: torn" in shown and "--repair" in shown
    assert run_log(["fsck", "--json"], paths) == 3
    assert json.loads(capsys.readouterr().out)["defects"][0]["place"] == "log/tile/0/000"
    assert run_log(["fsck", "--repair"], paths) == 0
    assert "mended: log/tile/0/000" in capsys.readouterr().out
    assert run_log(["fsck"], paths) == 0


def test_a_cosigned_checkpoint_survives_a_rebuild(tmp_path: Path) -> None:
    from docklock.evidence.host_log import HostLog

    paths = make_log(tmp_path)
    with HostLog(paths, None) as log:
        before = log.get_cosigned_notes(9)
    assert before
    edit(paths, "DELETE FROM state")
    assert_mended(paths, rebuild_log)
    with HostLog(paths, None) as log:
        assert log.get_cosigned_notes(9) == before
    store_cosigned(paths, before[0])
