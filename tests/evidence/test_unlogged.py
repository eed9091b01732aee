"""What happens to a running container is in the host's log at once, by the recorder's thread."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from chainlite import hostlog
from chainlite.errors import StateError
from docklock.evidence.audit import audit_log
from docklock.evidence.export import verify_container
from docklock.evidence.host_log import HostLog
from docklock.paths import Paths
from tests.evidence.recording import append, begin, make_id, make_paths

LIMIT_S = 10.0


def read_operations(paths: Paths) -> list[tuple[str, dict[str, str]]]:
    with HostLog(paths, None) as log:
        leaves = [hostlog.decode_leaf(data) for _, data in log.iterate_leaves()]
    found = [leaf for leaf in leaves if isinstance(leaf, hostlog.Operation)]
    assert {leaf.container.hex() for leaf in found} <= {make_id()}
    return [(leaf.name, dict(leaf.labels)) for leaf in found]


def test_an_operation_is_a_leaf_while_the_run_goes_on(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    recorder = begin(paths)
    recorder.log_operation("oom", (("count", "1"),))
    deadline = time.monotonic() + LIMIT_S
    while ("oom", {"count": "1"}) not in read_operations(paths):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    recorder.close(0)
    assert [name for name, _ in read_operations(paths)] == ["create", "oom"]
    assert audit_log(paths).why == ""


def test_what_no_thread_has_logged_is_logged_with_the_exit(tmp_path: Path) -> None:
    """A run that ends before its thread began, or the moment after."""
    paths = make_paths(tmp_path)
    for run in range(20):
        recorder = begin(paths, run=run)
        append(recorder, run)
        recorder.log_operation("limit", (("count", str(run)),))
        recorder.close(0)
        with pytest.raises(StateError):
            recorder.log_operation("limit", ())
    counts = [labels["count"] for name, labels in read_operations(paths) if name == "limit"]
    assert counts == [str(run) for run in range(20)]
    assert verify_container(paths, make_id()).first_bad is None


def test_each_is_logged_once_among_segments_and_other_writers(tmp_path: Path) -> None:
    paths, count = make_paths(tmp_path), 100
    recorder = begin(paths)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            recorder.append("runtime.test", decision=0, plane=2, seen=1)
            recorder.request_commit(now=True)
            time.sleep(0.001)

    other = threading.Thread(target=write)
    other.start()
    for number in range(count):
        recorder.log_operation("oom", (("count", str(number)),))
        time.sleep(0.002)
    stop.set()
    other.join()
    recorder.close(0)
    logged = [labels["count"] for name, labels in read_operations(paths) if name == "oom"]
    assert logged == [str(number) for number in range(count)]
    assert audit_log(paths).why == ""
    assert verify_container(paths, make_id()).first_bad is None
