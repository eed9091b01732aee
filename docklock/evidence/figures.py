"""What this guard's gate and commits took, counted since its process began: for /metrics.

Nothing is timed for it on the path of a call: an attempt has the time of receipt by the monotonic
clock and the time of its writing, which is right before the answer, by the wall clock; both run
alike but for steps of the latter. Not here: asking for it (supervisor/control.py), the sum over
containers (agent/totals.py). The worker writes both times: a container that has taken it over can
make these numbers false, and nothing else.
"""

from __future__ import annotations

import time
from _bisect import bisect_left

from chainlite.lean import TYPE_CHECKING
from docklock.evidence.attempts import DENY, RECORD
from docklock.evidence.histogram import BOUNDS_NS, Histogram

if TYPE_CHECKING:
    from docklock.evidence.attempts import Attempt

STEP_NS = 1_000_000
"""The wall clock was set, or the machine slept, if it moved more than this against the other."""
_MONO, _TIME, _DONE = 12, 13, 20  # fields of attempts.SLOT
_AT_ONCE = (RECORD, DENY)


class Answers(Histogram):
    """Calls that the worker answered itself, from receipt to answer."""

    __slots__ = ("_offset_ns",)

    def __init__(self) -> None:
        super().__init__()
        self._offset_ns = 0

    def observe_attempts(self, found: list[Attempt]) -> None:
        """Those of `found` that were answered at once; none if a clock was set since the last."""
        offset_ns = time.time_ns() - time.monotonic_ns()
        is_stepped = abs(offset_ns - self._offset_ns) > STEP_NS and self._offset_ns
        self._offset_ns = offset_ns
        if is_stepped:
            return
        counts, sum_ns = self.counts, 0
        for fields, _ in found:
            if fields[_DONE] in _AT_ONCE:
                took_ns = fields[_TIME] - fields[_MONO] - offset_ns
                counts[bisect_left(BOUNDS_NS, took_ns)] += 1
                sum_ns += took_ns
        self.sum_ns += max(0, sum_ns)


answers, held, commits = Answers(), Histogram(), Histogram()
"""This process's own: runs that follow each other in one guard add up."""


def describe() -> dict[str, list[int]]:
    """For each histogram its counts, then its sum in ns: the answer to the verb `figures`."""
    known = {"answers": answers, "held": held, "commits": commits}
    return {name: [*one.counts, one.sum_ns] for name, one in known.items()}
