"""A killed recorder loses nothing it returned; the next command signs the gap, once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from chainlite import receipt
from docklock.evidence import container_store, journal, recovery
from docklock.evidence.export import verify_container
from docklock.evidence.host_log import HostLog
from docklock.paths import Paths
from tests.evidence.recording import (
    ROOT,
    append,
    begin,
    make_id,
    make_paths,
    record,
    record_and_die,
)
from tests.evidence.test_recorder import read_all


def recover(paths: Paths) -> list[recovery.RecoveredRun]:
    return recovery.recover_runs(paths, lambda _: False)


def check_cut(paths: Paths, count: int) -> None:
    """The run holds `count` events and the gap, verifies, and is cut."""
    report = verify_container(paths, make_id())
    assert report.first_bad is None
    assert report.runs[0].state == "cut"
    shown = read_all(paths, make_id())
    assert [item.receipt.event_index for item in shown] == list(range(count + 1))
    gap = shown[-1].receipt
    assert gap.op == "gap"
    assert [name for name, _ in gap.labels] == ["count", "t1", "t2"]
    assert all(item.receipt.op != "gap" for item in shown[:-1])


@pytest.mark.parametrize("count", [0, 1, 700, 5000])
@pytest.mark.parametrize("sign_each", [False, True])
def test_nothing_that_append_returned_is_lost(tmp_path: Path, count: int, sign_each: bool) -> None:
    paths = make_paths(tmp_path)
    source = f"for number in range({count}): append(recorder, number)\n"
    if sign_each:
        source = source.replace("recorder,", "each,")
        source = (
            "recorder.close(0)\n"
            f"each = begin(get_paths({paths.state!r}), run=1, sign_each=True)\n" + source
        )
    record_and_die(paths, source)
    assert [run.event_count for run in recover(paths)] == [count + 1]
    assert recover(paths) == []
    if sign_each:
        assert verify_container(paths, make_id()).runs[1][1:3] == ("cut", count + 1)
        assert verify_container(paths, make_id()).first_bad is None
    else:
        check_cut(paths, count)


def test_a_kill_at_any_moment_loses_nothing_that_was_said(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    for attempt in range(4):
        paths = make_paths(tmp_path / str(attempt))
        code = (
            "import sys\nfrom docklock.paths import get_paths\n"
            "from tests.evidence.recording import append, begin\n"
            f"recorder = begin(get_paths({paths.state!r}))\n"
            "for number in range(10**7):\n"
            "    append(recorder, number)\n"
            "    if number % 50 == 0: print(number, flush=True)\n"
        )
        child = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert child.stdout is not None
        wanted = rng.randrange(50, 6000)
        for line in child.stdout:
            if int(line) >= wanted:
                break
        child.send_signal(signal.SIGKILL)
        said = [int(line)] + [int(rest) for rest in child.stdout.read().split("\n")[:-1]]
        child.wait()
        child.stdout.close()
        (run,) = recover(paths)
        assert run.event_count >= said[-1] + 2
        check_cut(paths, run.event_count - 1)


def test_a_live_run_is_left_alone(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    live = begin(paths)
    append(live, 0)
    assert recover(paths) == []
    append(live, 1)
    live.close(0)
    assert verify_container(paths, make_id()).runs[0].state == "closed"


def test_a_run_that_someone_knows_alive_is_left_alone(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record_and_die(paths, "append(recorder, 0)")
    assert recovery.recover_runs(paths, lambda container: container == make_id()) == []
    assert len(recover(paths)) == 1


def test_two_commands_at_once_sign_one_gap(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record_and_die(paths, "for number in range(300): append(recorder, number)")
    found: list[recovery.RecoveredRun] = []
    threads = [threading.Thread(target=lambda: found.extend(recover(paths))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 1
    check_cut(paths, 300)


def test_a_run_can_follow_a_cut_one(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record_and_die(paths, "append(recorder, 0)")
    recover(paths)
    record(paths, run=1)
    report = verify_container(paths, make_id())
    assert report.first_bad is None
    assert [run.state for run in report.runs] == ["cut", "closed"]


def test_a_start_that_was_never_logged_leaves_nothing(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    journal.create_journal(paths, make_id()).close()
    assert recover(paths) == []
    assert os.listdir(paths.evidence) == []


def test_recovery_that_was_itself_killed_goes_on(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record_and_die(paths, "for number in range(300): append(recorder, number)")
    code = (
        "import os\nfrom docklock.paths import get_paths\nfrom docklock.evidence import recovery\n"
        "recovery._log_exit = lambda *_: os.kill(os.getpid(), 9)\n"
        f"recovery.recover_runs(get_paths({paths.state!r}), lambda c: False)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(recover(paths)) == 1
    check_cut(paths, 300)


def test_a_journal_left_after_the_exit_is_only_removed(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record_and_die(paths, "type(recorder._journal).remove = lambda _: None\nrecorder.close(0)")
    assert recover(paths) == []
    assert not os.path.exists(journal.get_journal_path(paths, make_id()))
    assert verify_container(paths, make_id()).runs[0].state == "closed"


def test_a_torn_or_forged_record_ends_what_is_taken(tmp_path: Path, seed: int) -> None:
    """Power loss can leave old pages; a container can put bytes of its choice into values."""
    rng = random.Random(seed)
    for attempt in range(16):
        paths = make_paths(tmp_path / str(attempt))
        source = "type(recorder)._commit = lambda *_: time.sleep(99)\n"
        source += "for number in range(40): append(recorder, number)\n"
        record_and_die(paths, source)
        path = journal.get_journal_path(paths, make_id())
        whole = Path(path).read_bytes()
        data = bytearray(whole)
        start = journal.HALVES_OFFSET + 24
        end = data.rindex(b"/tmp/37")
        position = rng.randrange(start, end)
        data[position] ^= 1 << rng.randrange(8)
        Path(path).write_bytes(bytes(data))
        (run,) = recover(paths)
        assert run.event_count <= 41
        check_cut(paths, run.event_count - 1)
        for number, shown in enumerate(read_all(paths, make_id())[:-1]):
            assert receipt.encode_receipt(shown.receipt) in whole
            assert all(value is not None and value in whole for _, value in shown.values)
            assert shown.receipt.event_index == number


def test_a_full_journal_overwrites_nothing_that_is_not_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, count = make_paths(tmp_path), 1500
    source = f"""
from docklock.evidence import journal
commit = type(recorder)._commit
def slowly(*words):
    time.sleep(0.1)
    commit(*words)
type(recorder)._commit = slowly
for number in range({count}):
    append(recorder, number)
"""
    begun = "from docklock.evidence import journal; journal.HALF_BYTES = 60_000\n"
    record_and_die(paths, source, before=begun)
    monkeypatch.setattr(journal, "HALF_BYTES", 60_000)
    assert [run.event_count for run in recover(paths)] == [count + 1]
    check_cut(paths, count)


def test_all_segments_of_a_recovered_run_are_in_the_log(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record_and_die(paths, "for number in range(3000): append(recorder, number)")
    recover(paths)
    db = container_store.open_store(paths, make_id())
    rows = list(container_store.iterate_segments(db, 0))
    db.close()
    with HostLog(paths, None) as log:
        assert log.count_segment_leaves(bytes.fromhex(make_id()), 0) == len(rows)


INTERLEAVED = """
from docklock.evidence import attempts
from tests.evidence.test_attempts import open_ring_of, write
COMMIT
mapped, writer = open_ring_of(recorder)
for number in range(COUNT):
    write(mapped, writer, number)
    if number % 50 == 7:
        recorder.take_attempts()
        append(recorder, number)
"""


@pytest.mark.parametrize("commits", [True, False])
def test_attempts_and_events_are_put_together_as_they_were(tmp_path: Path, commits: bool) -> None:
    """The guard dies with attempts taken, attempts not taken, and events of its own between."""
    paths, count = make_paths(tmp_path), 1024
    stop = "" if commits else "type(recorder)._commit = lambda *_: time.sleep(99)"
    source = INTERLEAVED.replace("COMMIT", stop).replace("COUNT", str(count))
    record_and_die(paths, source, rules=True)
    (run,) = recover(paths)
    own = len(range(7, count, 50))
    assert run.event_count == count + own + 1
    check_cut(paths, count + own)
    shown = read_all(paths, make_id())
    gate = [item for item in shown if item.receipt.nr == 7]
    assert [item.receipt.mono for item in gate] == list(range(count))
    assert all(
        item.values
        == ((("path", b"/tmp/%d" % item.receipt.mono),) if item.receipt.mono % 2 else ())
        for item in gate
    )


def test_of_another_boots_journal_nothing_is_taken(tmp_path: Path) -> None:
    """Its pages may be of any age: what was committed stands, and the gap says the rest."""
    paths = make_paths(tmp_path)
    stop = "type(recorder)._commit = lambda *_: time.sleep(99)\n"
    record_and_die(paths, stop + "for number in range(40): append(recorder, number)")
    path = Path(journal.get_journal_path(paths, make_id()))
    data = bytearray(path.read_bytes())
    head = journal.read_file_head(bytes(data))
    assert head is not None
    at = data.index(head.boot)
    data[at : at + 16] = bytes(16)
    path.write_bytes(bytes(data))
    assert [run.event_count for run in recover(paths)] == [1]
    check_cut(paths, 0)
