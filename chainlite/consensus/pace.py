"""How long round 0 may take: from how long the deciding rounds of the last heights took.

Not here: timers (node), how a round's timeout grows (qbft). Invariants: never below the chain's
parameter, so one quick hour makes no validator impatient; an outage at three heights of the last 64
changes nothing, so validators that come back from one, and those that were there, wait alike and
soon meet in a round. Source: README.md of this room, "Time".
"""

from __future__ import annotations

HEIGHTS_KEPT = 64
FACTOR = 4
"""Round 0's timeout is so many times the 95th percentile of the last heights."""
TIMEOUT_MAX_MS = 10_000


class Pace:
    """Durations of the rounds that decided the last heights, in ms, by this validator's clock."""

    __slots__ = ("_durations",)

    def __init__(self) -> None:
        self._durations: list[int] = []

    def note(self, duration_ms: int) -> None:
        """The round that decided a height took so long."""
        self._durations = [*self._durations[1 - HEIGHTS_KEPT :], max(duration_ms, 0)]

    def get_durations_ms(self) -> list[int]:
        """Those of the last heights, the newest last."""
        return list(self._durations)

    def compute_p95_ms(self) -> int:
        """The 95th percentile of HEIGHTS_KEPT heights, of which those not yet seen took nothing."""
        slowest = HEIGHTS_KEPT - 1 - (HEIGHTS_KEPT * 95 - 1) // 100
        ordered = sorted(self._durations, reverse=True)
        return ordered[slowest] if len(ordered) > slowest else 0

    def compute_base_timeout_ms(self, least_ms: int) -> int:
        """Round 0's timeout: four times the percentile, at least `least_ms`."""
        return min(max(least_ms, FACTOR * self.compute_p95_ms()), TIMEOUT_MAX_MS)
