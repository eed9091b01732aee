"""How much of this host's log a server has not acknowledged: leaves, their age, and bytes.

Not here: what it has acknowledged (sent). Bytes are those of leaves and of segments' bodies as they
are stored, which is what batches have before they are compressed. Invariants: a look at a backlog
of days costs no more than one of LEAVES_MAX leaves and FILES_MAX files; what is beyond is reckoned
from these, and said to be.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from chainlite import hostlog, segment
from docklock.evidence.export import open_container
from docklock.evidence.host_log import HostLog, has_host_log

if TYPE_CHECKING:
    from docklock.paths import Paths

LEAVES_MAX = 2048
FILES_MAX = 64
NS_PER_S = 1_000_000_000


class Lag(NamedTuple):
    """Of one server; `age_s` is the age of the oldest leaf. Not `is_exact`: bytes are reckoned."""

    leaves: int = 0
    age_s: float = 0.0
    size_bytes: int = 0
    is_exact: bool = True


def measure_lags(paths: Paths, firsts: list[int]) -> tuple[int, list[Lag]]:
    """The size of the log, and what there is from each of these leaves on."""
    if not has_host_log(paths):
        return 0, [Lag() for _ in firsts]
    with HostLog(paths, None) as log, log.read():
        size = log.get_size()
        looked = {first: log.read_leaves(first, min(size - first, LEAVES_MAX))
                  for first in set(firsts) if first < size}  # fmt: skip
    found = {first: _measure(paths, leaves, size - first) for first, leaves in looked.items()}
    return size, [found.get(first, Lag()) for first in firsts]


def _measure(paths: Paths, leaves: tuple[bytes, ...], count: int) -> Lag:
    age_ns = max(0, time.time_ns() - get_time_ns(leaves[0]))
    runs: dict[tuple[bytes, int], list[int]] = {}
    total = sum(map(len, leaves))
    for data in leaves:
        if data[0] == hostlog.SEGMENT_KIND:
            leaf = hostlog.decode_leaf(data)
            assert isinstance(leaf, hostlog.Segment), "its kind says so"
            header = segment.decode_header(leaf.header)
            runs.setdefault((header.container, header.run), []).append(header.first_index)
    segments = sum(map(len, runs.values()))
    bodies, counted = _measure_bodies(paths, runs)
    if counted:
        total += bodies * segments // counted
    is_exact = counted == segments and len(leaves) == count
    return Lag(count, age_ns / NS_PER_S, total * count // len(leaves), is_exact)


def _measure_bodies(paths: Paths, runs: dict[tuple[bytes, int], list[int]]) -> tuple[int, int]:
    """Bytes that are stored of segments of at most FILES_MAX containers, and how many segments."""
    total = counted = 0
    wanted = list(dict.fromkeys(container for container, _ in runs))[:FILES_MAX]
    for container in wanted:
        with open_container(paths, container.hex()) as db:
            for number in [run for one, run in runs if one == container and db is not None]:
                indexes = runs[container, number]
                assert db is not None, "else there is nothing to look through"
                row = db.execute(
                    "SELECT count(*), ifnull(sum(length(secret) + length(leaf_tags)"
                    " + length(body)), 0) FROM segments WHERE run = ?"
                    " AND first_index BETWEEN ? AND ?",
                    (number, min(indexes), max(indexes)),
                ).fetchone()
                counted, total = counted + row[0], total + row[1]
    return total, counted


def get_time_ns(data: bytes) -> int:
    """When a leaf of the log says that it was."""
    leaf = hostlog.decode_leaf(data)
    if isinstance(leaf, hostlog.Start):
        return segment.decode_genesis(leaf.genesis).time
    if isinstance(leaf, hostlog.Segment):
        return segment.decode_header(leaf.header).time_last
    return leaf.time
