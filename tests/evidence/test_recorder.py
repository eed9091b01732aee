"""What append returned is in the evidence, durable when it is said to be, and nothing else is."""

from __future__ import annotations

import os
import select
import threading
import time
from pathlib import Path

import pytest

from chainlite import receipt, segment
from chainlite.errors import SpecError, StateError
from docklock.evidence import attempts, container_store, recorder, sealing
from docklock.evidence.export import verify_container
from docklock.evidence.host_log import HostLog
from docklock.evidence.journal import get_journal_path
from docklock.evidence.reading import Query, Shown, iterate_receipts
from tests.evidence.recording import append, append_durably, begin, make_id, make_paths, record


def read_all(paths: object, container: str, run: int = 0, query: Query = Query()) -> list[Shown]:  # noqa: B008
    db = container_store.open_store(paths, container)  # type: ignore[arg-type]
    try:
        return list(iterate_receipts(db, run, 0, query))
    finally:
        db.close()


@pytest.mark.parametrize("sign_each", [False, True])
def test_a_run_verifies_and_reads_back_as_it_was_appended(tmp_path: Path, sign_each: bool) -> None:
    paths, count = make_paths(tmp_path), 2500
    container = record(paths, count=count, sign_each=sign_each)
    report = verify_container(paths, container)
    assert report.first_bad is None
    assert (report.receipts, report.runs[0].state) == (count, "closed")
    shown = read_all(paths, container)
    assert [item.receipt.event_index for item in shown] == list(range(count))
    assert shown[7].receipt.args == (7,) * 6
    assert shown[7].receipt.op == "syscall.execve"
    assert shown[7].values == (("path", b"/tmp/7"),)
    assert shown[8].values == (("path", b""), ("argv", b"ls\0-l\0"))
    assert not os.path.exists(get_journal_path(paths, container))


def test_a_query_gives_what_it_names_and_skips_the_rest(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    container = record(paths, count=100)
    assert len(read_all(paths, container, query=Query("*.execve"))) == 50
    assert read_all(paths, container, query=Query("nothing")) == []
    assert read_all(paths, container, query=Query(since_ns=time.time_ns())) == []


def test_a_run_without_events_leaves_a_start_and_an_exit(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    begin(paths).close(7)
    report = verify_container(paths, make_id())
    assert report.first_bad is None
    assert report.runs[0][:4] == (0, "closed", 0, 0)


def wait_for_flush(live: recorder.RunRecorder, durable: threading.Event) -> None:
    """As the guard's loop does: woken by wakeup_fd alone."""
    while not durable.is_set():
        ready, _, _ = select.select([live.wakeup_fd], [], [], 10)
        assert ready, "not woken within 10 s"
        live.upon_commit()


def test_held_events_wake_the_waiter_once_durable_and_signed(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    live = begin(paths)
    try:
        for number in range(5):
            index = append(live, number)
            durable = threading.Event()
            live.add_flush(durable.set)
            wait_for_flush(live, durable)
            assert live.durable_count > index
            db = container_store.open_store(paths, make_id())
            assert container_store.get_event_count(db, 0) > index
            db.close()
            assert verify_container(paths, make_id()).runs[0].state == "open"
    finally:
        live.close(0)


def test_without_a_request_events_are_durable_soon(tmp_path: Path) -> None:
    live = begin(make_paths(tmp_path))
    try:
        append(live, 0)
        deadline = time.monotonic() + 10
        while not live.durable_count and time.monotonic() < deadline:
            time.sleep(0.005)
        assert live.durable_count == 1
    finally:
        live.close(0)


def test_runs_follow_each_other_and_cannot_overlap(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    live = begin(paths)
    with pytest.raises(StateError, match="last run is not closed"):
        begin(paths, run=1)
    live.close(0)
    for run in (0, 2):
        with pytest.raises(StateError, match="cannot start"):
            begin(paths, run=run)
    record(paths, run=1)
    report = verify_container(paths, make_id())
    assert report.first_bad is None
    assert [run.receipts for run in report.runs] == [0, 10]


def test_containers_are_numbered_in_the_order_of_their_first_start(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    for number in (5, 3, 9):
        record(paths, make_id(number), count=1)
    record(paths, make_id(5), count=1, run=1)
    with HostLog(paths, None) as log:
        runs = [(int(run.container, 16), run.run, run.number) for run in log.get_runs()]
    assert runs == [(5, 0, 0), (3, 0, 1), (9, 0, 2), (5, 1, 0)]


def test_epochs_change_under_one_chain_of_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment, "EPOCH_NS", 1)
    paths = make_paths(tmp_path)
    live = begin(paths)
    for number in range(3):
        append_durably(live, number)
    live.close(0)
    db = container_store.open_store(paths, make_id())
    assert len(list(container_store.iterate_epochs(db, 0))) == 3
    db.close()
    assert verify_container(paths, make_id()).first_bad is None


def test_more_events_than_the_journal_holds_wait_and_lose_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder.journal, "HALF_BYTES", 60_000)
    paths = make_paths(tmp_path)
    container = record(paths, count=3000)
    report = verify_container(paths, container)
    assert (report.first_bad, report.receipts) == (None, 3000)


def test_large_values_close_segments_early_and_are_cut_at_their_limit(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    live = begin(paths)
    for _ in range(150):
        live.append("x", decision=0, plane=2, seen=1, values=(("v", os.urandom(70_000)),))
    live.close(0)
    report = verify_container(paths, make_id())
    assert report.first_bad is None
    assert report.segments >= 150 * receipt.VALUE_LIMIT_BYTES // (sealing.BATCH_LIMIT_BYTES + 65536)
    shown = read_all(paths, make_id())[3]
    assert len(shown.values[0][1] or b"") == receipt.VALUE_LIMIT_BYTES
    assert shown.receipt.labels == (("truncated", "v"),)


def test_a_failure_to_write_accepts_nothing_more(tmp_path: Path, need_root: None) -> None:
    paths = make_paths(tmp_path)
    live = begin(paths)
    os.makedirs(container_store.get_store_path(paths, make_id()))
    append(live, 0)
    deadline = time.monotonic() + 10
    while live.failure is None and time.monotonic() < deadline:
        time.sleep(0.005)
    with pytest.raises(StateError, match="evidence not written"):
        append(live, 1)
    with pytest.raises(StateError, match="evidence not written"):
        live.close(0)
    assert os.path.exists(get_journal_path(paths, make_id()))


def test_an_event_that_cannot_be_encoded_takes_no_index(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    live = begin(paths)
    assert append(live, 0) == 0
    with pytest.raises(SpecError):
        live.append("x" * 65, decision=0, plane=0, seen=0)
    with pytest.raises(SpecError):
        live.append("x", decision=0, plane=0, seen=0, labels=(("a", "b"),) * 17)
    with pytest.raises(StateError):
        live.append("x", decision=0, plane=0, seen=0, values=(("a", b"b"),) * 17)
    assert append(live, 1) == 1
    live.close(0)
    assert verify_container(paths, make_id()).first_bad is None


def test_a_closed_recorder_accepts_nothing(tmp_path: Path) -> None:
    live = begin(make_paths(tmp_path))
    live.close(0)
    with pytest.raises(StateError):
        append(live, 0)


def test_the_end_is_seen_whenever_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also just before the writer's thread clears what wakes it: then nothing else would."""
    live = begin(make_paths(tmp_path))
    append(live, 0)
    time.sleep(0.3)  # committed and logged: the thread waits without a limit
    clear = attempts.clear_eventfd

    def end_first(fd: int) -> None:
        live._closing = True
        os.eventfd_write(fd, 1)
        clear(fd)

    monkeypatch.setattr(attempts, "clear_eventfd", end_first)
    os.eventfd_write(live._work_fd, 1)
    deadline = time.monotonic() + 5
    while not live._drained and time.monotonic() < deadline:
        time.sleep(0.005)
    assert live._drained
    monkeypatch.setattr(attempts, "clear_eventfd", clear)
    live.close(0)
