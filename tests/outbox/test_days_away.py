"""The server is away for three days and comes back: all of it goes by range, in bounded memory."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from chainlite import receipt
from chainlite.errors import StateError
from docklock.evidence import offering
from docklock.evidence.recorder import RunRecorder
from docklock.outbox import sending
from docklock.outbox.calls import CallFile
from docklock.outbox.door import HttpDoor
from docklock.outbox.lag import Lag, measure_lags
from docklock.outbox.sending import Outbox, Outcome
from docklock.outbox.sent import Sent
from docklock.outbox.signing import HostCalls
from docklock.outbox.status import find_servers
from docklock.paths import Paths
from tests.evidence.logs import grow
from tests.evidence.recording import ROOT, begin, make_id, make_paths
from tests.ledger.offered import get_size
from tests.outbox.test_with_server import Serving, run

HOURS = 72
NS_PER_HOUR = 3600 * 10**9
LEAVES_OF_HOUR, RECEIPTS_OF_HOUR = 300, 80
VALUE_BYTES = 8000
"""Of each receipt, random: three days are 50 MB."""
FILL_BYTES = 512 << 10
"""Of a batch here: three days are some hundred."""
SMALL = f"""
from docklock.evidence import offering
from docklock.outbox import sending
sending.BATCH = offering.BATCH._replace(fill_bytes={FILL_BYTES})
from docklock.cli.main import main
main()
"""


def append_value(recorder: RunRecorder, value: bytes) -> None:
    recorder.append(
        "syscall.execve", decision=receipt.ALLOWED, plane=receipt.GATE, seen=receipt.CLAIMED,
        pid=1, tid=1, nr=59, args=(0,) * 6, values=(("argv", value),), errno=0,
    )  # fmt: skip


def live(paths: Paths, first: int, hours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many hours of a host, the last of them just now: an hour is a container and leaves."""
    now_ns = time.time_ns()
    for hour in range(hours):
        then_ns = now_ns - (hours - hour) * NS_PER_HOUR
        with monkeypatch.context() as patch:
            patch.setattr(time, "time_ns", lambda then_ns=then_ns: then_ns)
            recorder = begin(paths, make_id(first + hour))
            for _ in range(RECEIPTS_OF_HOUR):
                append_value(recorder, os.urandom(VALUE_BYTES))
            recorder.close(0)
            grow(paths, LEAVES_OF_HOUR)


def sync_small(paths: Paths, config: str) -> tuple[int, int]:
    """`sync now` with small batches: its exit code, and its largest memory in bytes."""
    words = ["--root", paths.state, "sync", "now", "--config", config]
    process = subprocess.Popen(
        [sys.executable, "-c", SMALL, *words], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, used.ru_maxrss << 10


def read_acknowledged(paths: Paths, origin: str) -> int:
    with Sent(paths) as sent:
        return sent.get_standing(origin).size


def get_lag(paths: Paths, first: int) -> Lag:
    return measure_lags(paths, [first])[1][0]


async def send_until(outbox: Outbox, goal: int, upon: Callable[[], None]) -> Outcome:
    """A pass during which something happens once so much is acknowledged."""
    [server] = outbox.servers
    task = asyncio.ensure_future(outbox.run_pass(server))
    while outbox.get_standing(server).size < goal:
        assert not task.done(), task.result()
        await asyncio.sleep(0.001)
    upon()
    try:
        return await task
    finally:
        outbox.close()


def make_small_outbox(paths: Paths, config: str, monkeypatch: pytest.MonkeyPatch) -> Outbox:
    """As the command makes it, with small batches."""
    monkeypatch.setattr(sending, "BATCH", offering.BATCH._replace(fill_bytes=FILL_BYTES))
    calls = HostCalls(paths)
    servers = find_servers(paths, config)
    return Outbox(paths, servers, lambda server: HttpDoor(server, calls))


def count_taken(paths: Paths, after: int) -> int:
    """Calls that were answered with 200 since, by what this host kept of them."""
    with CallFile(paths) as calls:
        return sum(one.status == 200 for one in calls.list_newest(None, 10_000)) - after


def test_three_days_go_by_range_in_bounded_memory_though_the_server_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = Serving(tmp_path / "server").start()
    paths = make_paths(tmp_path)
    config = serving.write_config(tmp_path / "agent.toml")
    origin = serving.keys[0].partition("+")[0]
    try:
        live(paths, 1, 1, monkeypatch)
        serving.enrol(paths, config, tmp_path / "grant")
        code, usual_bytes = sync_small(paths, config)
        held, calls = get_size(paths), count_taken(paths, 0)
        assert code == 0 and read_acknowledged(paths, origin) == held
        serving.kill()
        live(paths, 100, HOURS, monkeypatch)
        lag = get_lag(paths, held)
        assert lag.age_s > 2.9 * 24 * 3600 and lag.leaves > HOURS * LEAVES_OF_HOUR
        code, away_bytes = sync_small(paths, config)
        assert (code, read_acknowledged(paths, origin)) == (1, held)
        serving.start()
        outbox = make_small_outbox(paths, config, monkeypatch)
        outcome = asyncio.run(send_until(outbox, held + lag.leaves // 4, serving.kill))
        assert isinstance(outcome.error, StateError)
        between = read_acknowledged(paths, origin)
        assert held < between < get_size(paths)
        serving.start()
        code, most_bytes = sync_small(paths, config)
        assert code == 0 and read_acknowledged(paths, origin) == get_size(paths)
        batches = count_taken(paths, calls)
        assert 20 < batches < 2 * lag.size_bytes // FILL_BYTES, "it was sent again"
        waiting_bytes = get_lag(paths, between).size_bytes
        for one_bytes in (away_bytes, most_bytes):
            assert one_bytes < usual_bytes + waiting_bytes // 2, "memory grew with what waited"
    finally:
        serving.kill()
    assert "whole" in run("bpci", "audit", serving.directory)
