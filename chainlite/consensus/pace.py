"""How long round 0 may take: from how long the deciding rounds of the last heights took.

Not here: timers (node), how a round's timeout grows (qbft). Invariant: never below the chain's
parameter, so one quick hour makes no validator impatient. Source: README.md of this room, "Time".
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
        """The 95th percentile; 0 before the first height."""
        ordered = sorted(self._durations)
        return ordered[(len(ordered) * 95 - 1) // 100] if ordered else 0

    def compute_base_timeout_ms(self, least_ms: int) -> int:
        """Round 0's timeout: four times the percentile, at least `least_ms`."""
        return min(max(least_ms, FACTOR * self.compute_p95_ms()), TIMEOUT_MAX_MS)
