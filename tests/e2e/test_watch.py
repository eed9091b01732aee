"""Through the command line: what the kernel does to a running container is on record at once.

On hosts with v1 and with v2 controllers (tests/vm runs it on v2 alone).
"""

from __future__ import annotations

import json
import time

import pytest

from docklock.cgroup import driver
from docklock.supervisor.watch import INTERVAL_S
from tests.e2e.conftest import Docklock
from tests.e2e.test_worker import of

EAT = "x=a; while true; do x=$x$x; done"


def read_leaves(dock: Docklock, name: str, op: str) -> list[dict[str, str]]:
    lines = dock("receipts", "--host", "--json", "--op", op, name).stdout.splitlines()
    return [json.loads(line)["labels"] for line in lines]


def count_events(dock: Docklock, name: str) -> driver.Events:
    cgroup = driver.find_cgroup(str(dock.inspect(name)["Id"]))
    assert cgroup is not None
    return cgroup.count_events()


def check_alike(dock: Docklock, name: str, kind: str, total: int) -> list[dict[str, str]]:
    """Leaves and receipts of one kind: they say the same, and the kernel's number in all."""
    leaves = read_leaves(dock, name, kind)
    assert leaves == [receipt["labels"] for receipt in of(dock, name, f"runtime.{kind}")]
    assert sum(int(labels["count"]) for labels in leaves) == total
    return leaves


def test_a_killed_child_is_on_record_while_its_container_runs(dock: Docklock) -> None:
    script = f"sleep 0.3; sh -c '{EAT}'; sleep 60"  # it is watched by then
    dock("run", "-d", "--name", "child", "-m", "16m", "busybox", "sh", "-c", script)
    dock.wait_for(lambda: read_leaves(dock, "child", "oom"))
    assert dock.inspect("child")["State"]["Status"] == "running"  # type: ignore[index]
    assert check_alike(dock, "child", "oom", 1) == [{"count": "1"}]
    dock("rm", "-f", "child")
    assert read_leaves(dock, "child", "oom") == [{"count": "1"}]


@pytest.mark.parametrize("before", ["", "sleep 0.5; "])
def test_an_init_that_is_killed_is_on_record_before_its_exit(dock: Docklock, before: str) -> None:
    """Also one that lived too short a time to be watched."""
    name = f"init{len(before)}"
    dock(
        "run", "--name", name, "-m", "16m", "busybox", "sh", "-c", before + EAT, code=137
    )  # fmt: skip
    check_alike(dock, name, "oom", 1)
    lines = dock("receipts", "--host", "--json", name).stdout.splitlines()
    assert [json.loads(line)["op"] for line in lines] == ["create", "start", "oom", "exit"]
    dock("verify", name)
    dock("rm", name)


def test_many_kills_are_few_leaves_that_count_them(dock: Docklock) -> None:
    script = f"for i in 1 2 3 4 5 6 7 8; do sh -c '{EAT}'; done; echo done; sleep 60"
    began = time.monotonic()
    dock("run", "-d", "--name", "storm", "-m", "16m", "busybox", "sh", "-c", script)
    dock.wait_for(lambda: "done" in dock("logs", "storm").stdout, limit_s=30)
    time.sleep(1.5 * INTERVAL_S)
    total = count_events(dock, "storm").oom_kills
    assert total >= 8
    leaves = check_alike(dock, "storm", "oom", total)
    assert leaves[0] == {"count": "1"}
    assert len(leaves) <= 2 + (time.monotonic() - began) / INTERVAL_S
    dock("rm", "-f", "storm")


def test_a_reached_process_limit_is_on_record_while_its_container_runs(dock: Docklock) -> None:
    script = "sleep 0.3; sh -c 'for i in 1 2 3 4 5 6 7 8; do sleep 5 & done'; sleep 60"
    dock("run", "-d", "--name", "forks", "--pids-limit", "5", "busybox", "sh", "-c", script)
    dock.wait_for(lambda: read_leaves(dock, "forks", "limit"))
    assert dock.inspect("forks")["State"]["Status"] == "running"  # type: ignore[index]
    time.sleep(1.5 * INTERVAL_S)
    total = count_events(dock, "forks").refused_forks
    assert total > 0
    assert {labels["limit"] for labels in check_alike(dock, "forks", "limit", total)} == {"pids"}
    dock("rm", "-f", "forks")


def test_a_container_within_its_limits_leaves_nothing(dock: Docklock) -> None:
    words = ("-m", "64m", "--pids-limit", "20", "busybox", "sh", "-c", "true; sleep 0.3")
    dock("run", "--name", "well", *words)
    check_alike(dock, "well", "oom", 0)
    check_alike(dock, "well", "limit", 0)
    dock("rm", "well")
