"""What each running container of this host uses and records, measured now and then.

One measurement reads a handful of files of its cgroup and its network, and 16 bytes of its journal:
nobody is asked, so a guard that is busy, stopped or of an older version makes no one wait. Rates
are over the time since the one before. Not here: which ones are measured when (host_containers).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from docklock.cgroup.driver import Cgroup
from docklock.cgroup.sampling import Sample, compute_cpu_percent, locate, take_sample
from docklock.console.facts import UNKNOWN, Usage
from docklock.evidence.counts import read_totals

if TYPE_CHECKING:
    from docklock.console.host_records import Record
    from docklock.paths import Paths

NS_PER_S = 1_000_000_000
LIMIT_APART_NS = 20 * NS_PER_S
"""`docklock update` may change a limit; it is read again after so long."""
NOT_ITS_OWN = ("host", "container:")
"""Networks whose bytes nobody could tell to be the container's."""


class Reading(NamedTuple):
    """What was measured of a run, when (monotonic), and what the next one is compared with."""

    run: int
    pid: int
    at_ns: int
    usage: Usage
    receipts: int
    receipts_per_s: float
    refused: int
    sample: Sample | None
    cgroup: Cgroup | None
    limit_ns: int  # when its limit was read


def measure(paths: Paths, record: Record, before: Reading | None) -> Reading:
    """A running container now. `before` is the last of it, if there is one."""
    state = record.state
    if before is not None and (before.run, before.pid) != (state.run, state.pid):
        before = None
    now_ns = time.monotonic_ns()
    cgroup = find_cgroup(record) if before is None else before.cgroup
    is_known = before is not None and now_ns - before.limit_ns < LIMIT_APART_NS
    limit = before.sample.limit_bytes if before and before.sample and is_known else 0
    sample = None if cgroup is None else look(record, cgroup, limit)
    totals = read_totals(paths, record.id, state.run)
    receipts, rate = UNKNOWN, float(UNKNOWN)
    if totals is not None:
        receipts = totals.receipts
        if before is not None and before.receipts != UNKNOWN:
            rate = NS_PER_S * max(0, receipts - before.receipts) / max(1, now_ns - before.at_ns)
    return Reading(
        run=state.run,
        pid=state.pid,
        at_ns=now_ns,
        usage=compute_usage(record, before.sample if before else None, sample),
        receipts=receipts,
        receipts_per_s=rate,
        refused=totals.refused if totals else UNKNOWN,
        sample=sample,
        cgroup=cgroup,
        limit_ns=before.limit_ns if limit and before else now_ns,
    )


def look(record: Record, cgroup: Cgroup, limit: int) -> Sample | None:
    """None if no process is there any more. A limit that is known is not read again."""
    assert record.container is not None
    has_network = record.container.network != "none"
    sample = take_sample(cgroup, record.state.pid, limit_bytes=limit, has_network=has_network)
    return sample if sample.pids or sample.memory_bytes else None


def find_cgroup(record: Record) -> Cgroup | None:
    """As its guard wrote it down, else where its first process is."""
    state = record.state
    return Cgroup(record.id, state.cgroup) if state.cgroup else locate(record.id, state.pid)


def compute_usage(record: Record, before: Sample | None, now: Sample | None) -> Usage:
    """What a screen shows of two samples; a rate needs both."""
    if now is None:
        return Usage()
    usage = Usage(memory_bytes=now.memory_bytes, memory_limit_bytes=now.limit_bytes, pids=now.pids)
    assert record.container is not None
    has_own = not record.container.network.startswith(NOT_ITS_OWN)
    if has_own:
        usage = usage._replace(received_bytes=now.network[0], sent_bytes=now.network[1])
    if before is None:
        return usage
    usage = usage._replace(cpu_percent=compute_cpu_percent(before, now))
    if not has_own:
        return usage
    spent_ns = max(1, now.at_ns - before.at_ns)
    received, sent = (
        NS_PER_S * max(0, new - old) / spent_ns
        for new, old in zip(now.network, before.network, strict=True)
    )
    return usage._replace(received_bytes_per_s=received, sent_bytes_per_s=sent)
