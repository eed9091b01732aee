"""What `verify --all` reports: files, starts, exits and numbers that are missing or differ.

The log's leaves cannot be changed without the host's key: these tests have it, as its root does,
and sign what they make. What the leaves then contradict is still seen.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from chainlite import hostlog
from docklock.cli.verify import run_verify
from docklock.evidence import journal
from docklock.evidence.audit import audit_log
from docklock.evidence.host_log import HostLog
from docklock.evidence.keyring import ensure_host_key
from docklock.paths import Paths
from tests.evidence.recording import begin, make_id, make_paths, record

Leaf = tuple[bytes, bytes, int]


def rewrite(paths: Paths, change: Callable[[list[Leaf]], list[Leaf]]) -> None:
    """Make the log anew out of changed leaves (bytes, container, run), signed by the host's key.

    The table of runs is left as it was.
    """
    db = sqlite3.connect(paths.host_db)
    rows = db.execute("SELECT bytes, container, run FROM leaves ORDER BY leaf_index").fetchall()
    db.execute("DELETE FROM leaves")
    db.execute("DELETE FROM nodes")
    db.execute("UPDATE state SET size = 0")
    db.commit()
    db.close()
    with HostLog(paths, ensure_host_key(paths)) as log, log.write():
        for data, container, run in change(rows):
            log.append(data, container=container, run=run)


def is_kind(leaf: Leaf, kind: type, container: str) -> bool:
    return isinstance(hostlog.decode_leaf(leaf[0]), kind) and leaf[1].hex() == container


def drop(kind: type, container: str) -> Callable[[list[Leaf]], list[Leaf]]:
    return lambda leaves: [leaf for leaf in leaves if not is_kind(leaf, kind, container)]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = make_paths(tmp_path)
    for number in range(4):
        record(paths, make_id(number), app=f"app{number}", count=3)
    assert audit_log(paths).problems == ()
    return paths


def check(paths: Paths, *wanted: str) -> None:
    """Each of these is reported, and `verify --all` exits 3."""
    problems = audit_log(paths).problems
    for why in wanted:
        assert any(why in problem for problem in problems), problems
    assert run_verify(["--all"], paths) == 3


def test_a_log_rewritten_by_its_host_as_it_was_is_whole(paths: Paths) -> None:
    rewrite(paths, lambda leaves: leaves)
    assert run_verify(["--all"], paths) == 0


def test_a_missing_file_is_reported_and_the_others_are_still_checked(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    os.unlink(f"{paths.evidence}/{make_id(1)}.db")
    Path(f"{paths.evidence}/{make_id(2)}.db").write_bytes(b"not a database" * 999)
    assert run_verify(["--all"], paths) == 3
    text = capsys.readouterr().out
    assert "TAMPERED: receipts 0 to the end of run 0: the container's evidence file is gone" in text
    assert "not evidence: file is not a database" in text
    assert text.count("whole: signed by") == 2


def test_a_missing_start_is_a_hole_in_the_numbers(paths: Paths) -> None:
    rewrite(paths, drop(hostlog.Start, make_id(1)))
    check(
        paths,
        "the start of container number 1 is missing: a hole",
        "run 0 has receipts but no start",
        "run 0 ended without a start",
    )


def test_a_container_taken_out_whole_is_a_hole_in_the_numbers(paths: Paths) -> None:
    gone = {make_id(1), make_id(2)}
    rewrite(paths, lambda leaves: [leaf for leaf in leaves if leaf[1].hex() not in gone])
    os.unlink(f"{paths.evidence}/{make_id(1)}.db")
    os.unlink(f"{paths.evidence}/{make_id(2)}.db")
    db = sqlite3.connect(paths.host_db)
    db.execute("DELETE FROM runs WHERE number IN (1, 2)")
    db.commit()
    db.close()
    check(paths, "the start of container number 1 to 2 is missing: a hole")


def test_a_missing_exit_is_reported(paths: Paths) -> None:
    db = sqlite3.connect(paths.host_db)
    db.execute("UPDATE runs SET exit_leaf = NULL, event_count = 0, head = zeroblob(32)")
    db.commit()
    db.close()
    rewrite(paths, drop(hostlog.Exit, make_id(3)))
    check(paths, "run 0 has no exit, and nobody records it")


def test_a_run_on_top_of_one_without_exit_is_reported(paths: Paths) -> None:
    record(paths, make_id(3), app="app3", run=1)

    def drop_first(leaves: list[Leaf]) -> list[Leaf]:
        first = next(leaf for leaf in leaves if is_kind(leaf, hostlog.Exit, make_id(3)))
        return [leaf for leaf in leaves if leaf is not first]

    rewrite(paths, drop_first)
    check(paths, "run 0 has no exit, and run 1 started")


def test_an_exit_that_differs_is_reported(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    def change(leaves: list[Leaf]) -> list[Leaf]:
        changed = []
        for leaf in leaves:
            exit_leaf = hostlog.decode_leaf(leaf[0])
            if isinstance(exit_leaf, hostlog.Exit) and leaf[1].hex() == make_id(2):
                leaf = (hostlog.encode_exit(exit_leaf._replace(event_count=2)), *leaf[1:])
            changed.append(leaf)
        return changed

    rewrite(paths, change)
    check(paths, "run 0 is not in the table of runs as in the leaves")
    capsys.readouterr()
    assert run_verify(["app2"], paths) == 3
    assert "receipt 2 of run 0: receipts are repeated" in capsys.readouterr().out


def test_a_live_run_is_not_a_missing_exit(paths: Paths) -> None:
    live = begin(paths, make_id(9), app="live")
    try:
        assert audit_log(paths).problems == ()
        assert run_verify(["--all"], paths) == 0
        os.rename(
            journal.get_journal_path(paths, make_id(9)),
            journal.get_journal_path(paths, make_id(9)) + ".away",
        )
        assert "nobody records it" in audit_log(paths).why
        os.rename(
            journal.get_journal_path(paths, make_id(9)) + ".away",
            journal.get_journal_path(paths, make_id(9)),
        )
    finally:
        live.close(0)
    assert audit_log(paths).problems == ()


def test_all_that_is_wrong_is_reported_not_only_the_first(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(paths, drop(hostlog.Start, make_id(1)))
    os.unlink(f"{paths.evidence}/{make_id(3)}.db")
    assert run_verify(["--all"], paths) == 3
    text = capsys.readouterr().out
    assert text.count("TAMPERED") >= 4
