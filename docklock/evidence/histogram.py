"""How long things take, in a fixed number of counters. Pure.

Not here: what is observed (figures.py), how it is told (agent/metrics.py).
"""

from __future__ import annotations

from _bisect import bisect_left

_US, _MS = 1_000, 1_000_000
BOUNDS_NS = (
    5 * _US, 10 * _US, 25 * _US, 50 * _US, 100 * _US, 250 * _US, 500 * _US,
    _MS, 5 * _MS // 2, 5 * _MS, 10 * _MS, 25 * _MS, 50 * _MS, 100 * _MS, 250 * _MS, 500 * _MS,
    1000 * _MS, 2500 * _MS,
)  # fmt: skip


class Histogram:
    """How many took at most BOUNDS_NS[i] and more than the bound before; the last took longer."""

    __slots__ = ("counts", "sum_ns")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_NS) + 1)
        self.sum_ns = 0

    def observe(self, took_ns: int) -> None:
        """One more."""
        self.counts[bisect_left(BOUNDS_NS, took_ns)] += 1
        self.sum_ns += took_ns
