"""What a running container uses, read from its cgroup and its first process: one sample of it.

Not here: texts (cli/stats.py, tui/), the usage vector of receipts (supervisor/usage.py).
"""

from __future__ import annotations

import os
import sys
import time

from chainlite.lean import NamedTuple
from docklock.cgroup.driver import Cgroup


class Sample(NamedTuple):
    """What a container has used, and uses, at a monotonic time. `blocks`: None if nobody counts."""

    at_ns: int
    cpu_ns: int
    memory_bytes: int
    limit_bytes: int
    pids: int
    network: tuple[int, int]  # bytes received, sent
    blocks: tuple[int, int] | None = None  # bytes read, written


def locate(container_id: str, pid: int) -> Cgroup | None:
    """The cgroup that a container's init is in, whoever made it; None if it has just ended."""
    from docklock.cgroup.hierarchy import find_process

    found = find_process(pid)
    return Cgroup(container_id, tuple((one.name, one.own) for one in found)) if found else None


def take_sample(
    cgroup: Cgroup, pid: int, *, limit_bytes: int = 0, has_network: bool = True
) -> Sample:
    """All but `blocks`; 0 for what is not counted, and for one that has just ended.

    For who looks often: a `limit_bytes` that is known is not read, nor is a network without.
    """
    memory = cgroup.memory_bytes()
    return Sample(
        at_ns=time.monotonic_ns(),
        cpu_ns=cgroup.cpu_ns(),
        memory_bytes=max(0, memory - cgroup.idle_cache_bytes()),
        limit_bytes=limit_bytes or read_limit(cgroup),
        pids=cgroup.count_tasks(),
        network=sum_network(read_interfaces(pid)) if has_network else (0, 0),
    )


def read_limit(cgroup: Cgroup) -> int:
    """The most memory that it may hold: the machine's, without a limit of its own."""
    return min(cgroup.memory_limit_bytes() or sys.maxsize, read_host_memory_bytes())


def read_interfaces(pid: int) -> list[tuple[str, int, int]]:
    """(name, bytes received, sent) of each interface of a process's network namespace."""
    found = []
    try:
        with open(f"/proc/{pid}/net/dev", "rb") as file:
            lines = file.read().decode("utf-8", "backslashreplace").splitlines()[2:]
    except OSError:
        return []
    for line in lines:
        name, _, fields = line.partition(":")
        counters = fields.split()
        found.append((name.strip(), int(counters[0]), int(counters[8])))
    return found


def sum_network(interfaces: list[tuple[str, int, int]]) -> tuple[int, int]:
    """(received, sent) of all but lo."""
    outer = [one for one in interfaces if one[0] != "lo"]
    return sum(one[1] for one in outer), sum(one[2] for one in outer)


def read_host_memory_bytes() -> int:
    """The machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def compute_cpu_percent(before: Sample, now: Sample) -> float:
    """Of one core, as Docker counts: two busy cores are 200."""
    spent_ns = max(1, now.at_ns - before.at_ns)
    return 100 * max(0, now.cpu_ns - before.cpu_ns) / spent_ns
