"""What a container used: in its receipts, and in docklock stats."""

from __future__ import annotations

import json
import os
import time
from itertools import pairwise
from typing import Any

from tests.e2e.conftest import Docklock
from tests.e2e.test_crash import is_running

MILLION = 1_000_000
SHM_BYTES = 32 << 20
SAMPLED = """
import sys
import docklock.supervisor.usage as usage
usage.SAMPLE_S = 0.05
usage.SAMPLES_PER_RECEIPT = 4
import docklock.supervisor.storage as storage
storage.BYTE_NS_PER_UNIT = 10**9  # a byte for a second
sys.argv = ["docklock", *{words!r}]
from docklock.cli.main import main
main()
"""


def usages(dock: Docklock, name: str, run: int = 0) -> list[tuple[int, ...]]:
    """The vectors of a run's `runtime.usage` receipts, in order."""
    return [
        tuple(int(value) for value in receipt["usage"])  # type: ignore[attr-defined]
        for receipt in dock.receipts(name)
        if receipt["op"] == "runtime.usage" and receipt["run"] == run
    ]


def test_a_run_ends_with_what_it_used(dock: Docklock) -> None:
    words = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
    dock("run", "--name", "burn", "busybox", "sh", "-c", words)
    *_, (cpu, memory, storage, egress, count) = usages(dock, "burn")
    receipts = dock.receipts("burn")
    assert receipts[-1]["op"] == "runtime.usage"
    assert count == len(receipts) * MILLION
    assert 50 * MILLION < cpu < 20_000 * MILLION  # 10^-6 ms
    assert memory > 0
    assert (storage, egress) == (0, 0)
    dock("start", "-a", "burn")
    second = usages(dock, "burn", 1)[-1]
    assert second[4] == count  # a run's counters begin with it
    assert second[0] < 5 * cpu
    assert all("usage" in receipt for receipt in receipts)
    dock("verify", "burn")
    dock("rm", "burn")


def test_calls_right_before_the_exit_come_before_the_last_usage(dock: Docklock) -> None:
    for number in range(5):
        name = f"quick{number}"
        dock("run", "--name", name, "busybox", "sh", "-c", "chroot / true; chroot / true")
        receipts = dock.receipts(name)
        assert receipts[-1]["op"] == "runtime.usage", name
        assert int(receipts[-1]["usage"][4]) == len(receipts) * MILLION  # type: ignore[index]
        dock("rm", name)


def test_a_run_says_what_it_used_now_and_then(dock: Docklock) -> None:
    """With samples every 50 ms: memory that is held for a while is counted by its time."""
    program = f"dd if=/dev/zero of=/dev/shm/x bs={SHM_BYTES} count=1; sleep 1"
    words = ["run", "-d", "--name", "held", "busybox", "sh", "-c", program]
    process = dock.start_program(SAMPLED.format(words=words))
    assert process.wait(30) == 0, process.communicate()
    process.communicate()
    assert dock("wait", "held").stdout == "0\n"
    found = usages(dock, "held")
    assert len(found) >= 4
    for before, after in pairwise(found):
        assert all(low <= high for low, high in zip(before, after, strict=True)), found
    assert SHM_BYTES * 0.9 < found[-1][1] < SHM_BYTES * 2  # 10^-6 MB times a second
    dock("rm", "held")


def test_what_is_stored_counts_by_its_time(dock: Docklock) -> None:
    """In bytes times seconds here; 32 MB in the upper directory, and as many in a tmpfs."""
    dd = "dd if=/dev/zero bs=1000000 count=32 2>/dev/null"
    program = f"mkdir /d; {dd} of=/d/x; ln /d/x /d/y; ln -s / /d/z; {dd} of=/dev/shm/x; sleep 2;"
    program += "i=0; while [ $i -lt 20 ]; do i=$((i+1)); sleep 0.05; done; rm /d/x /d/y; sleep 0.5"
    words = ["run", "--name", "stored", "busybox", "sh", "-c", program]
    process = dock.start_program(SAMPLED.format(words=words))
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out, error) == (0, "", "")
    found = [vector[2] for vector in usages(dock, "stored")]
    assert found == sorted(found)
    assert 32e6 * 2 < found[-1] < 32e6 * 6, found
    dock("start", "-a", "stored")  # for less than 10 s, with the usual times
    assert usages(dock, "stored", 1)[-1][2] == 0
    dock("verify", "stored")
    dock("rm", "stored")


def test_bytes_that_leave_a_network_of_its_own_are_counted_to_the_end(dock: Docklock) -> None:
    # A new link drops what it is given until the kernel's link watch has activated it, up to 1 s
    # later: so the three that count are sent once one has left.
    sent = "awk '/ v0:/ {print $10}' /proc/net/dev"
    ping = "ping -i 0.1 -s 1000 -W 1 10.99.0.2"
    words = (
        "ip link add v0 type veth && ip addr add 10.99.0.1/24 dev v0"
        " && ip link set v0 up && ip link set veth0 up"
        " && busybox arp -i v0 -s 10.99.0.2 02:00:00:00:00:02 || exit 2;"
        f" until [ $({sent}) -gt 1000 ]; do {ping} -c 1 >/dev/null; done;"
        f" {sent}; {ping} -c 3 >/dev/null"
    )
    options = ("--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW")
    run = dock("run", "--name", "sent", *options, "busybox", "sh", "-c", words, code=1)  # no answer
    before = int(run.stdout)
    assert before + 3 * 1000 < usages(dock, "sent")[-1][3] < before + 10_000
    dock("rm", "sent")


def test_a_shared_network_is_nobodys(dock: Docklock) -> None:
    dock("run", "--name", "host", "--network", "host", "busybox", "true")
    assert usages(dock, "host")[-1][3] == 0
    dock("rm", "host")


def test_a_long_run_costs_its_guard_no_descriptor(dock: Docklock) -> None:
    dock("run", "-d", "--name", "fds", "busybox", "sleep", "60")
    guard = dock.supervisor_pid("fds")
    links = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{guard}/fd")]
    assert sum(link.endswith("/net/dev") for link in links) == 1
    dock("rm", "-f", "fds")
    dock.wait_for(lambda: not is_running(guard))


def test_stats_show_dockers_columns(dock: Docklock) -> None:
    loop = ("busybox", "sh", "-c", "while :; do :; done")
    dock("run", "-d", "--name", "busy", "-m", "64m", "--cpus", "0.5", *loop)
    dock("run", "-d", "--name", "calm", "busybox", "sleep", "60")
    dock("create", "--name", "made", "busybox", "true")
    head, *rows = dock("stats", "--no-stream").stdout.splitlines()
    columns = ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O"]
    assert [head.index(column) for column in columns] == sorted(map(head.index, columns))
    assert [row.split()[1] for row in rows] == ["calm", "busy"]
    busy, calm = stats(dock, "busy"), stats(dock, "calm")
    assert 2 < float(busy["CPUPerc"].rstrip("%")) < 90  # 50, if nobody else wants the machine
    assert float(calm["CPUPerc"].rstrip("%")) < 1
    assert busy["MemUsage"].endswith(" / 64MiB")
    assert (busy["PIDs"], busy["Name"], len(busy["ID"])) == ("1", "busy", 12)
    assert stats(dock, "made")["PIDs"] == "--"
    assert len(dock("stats", "-a", "--no-stream").stdout.splitlines()) == 4
    assert "No such container" in dock("stats", "--no-stream", "none", code=1).stderr
    columns = "table {{.Name}}\t{{.PIDs}}"
    shown = dock("stats", "--no-stream", "--format", columns, "busy").stdout.split()
    assert shown == ["NAME", "PIDS", "busy", busy["PIDs"]]
    assert "{{ without }}" in dock("stats", "--format", "{{.Name", code=2).stderr
    dock("rm", "-f", "busy", "calm", "made")


def stats(dock: Docklock, name: str) -> dict[str, Any]:
    (line,) = dock("stats", "--no-stream", "--format", "json", name).stdout.splitlines()
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


def test_stats_go_on_until_interrupted(dock: Docklock) -> None:
    dock("run", "-d", "--name", "flow", "busybox", "sleep", "60")
    process = dock.start("stats", "--format", "json")
    assert process.stdout is not None
    assert [json.loads(process.stdout.readline())["Name"] for _ in range(2)] == ["flow", "flow"]
    began = time.monotonic()
    process.send_signal(2)
    process.communicate(timeout=10)
    assert process.returncode == 130
    assert time.monotonic() - began < 5
    dock("rm", "-f", "flow")
