"""What was measured lately: points in time, the oldest dropped. Pure.

Invariants: times rise; never more than HISTORY_POINTS_MAX points; what was not measured is kept as
a point of facts.UNKNOWN, so that a plot can leave a gap there.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

HISTORY_POINTS_MAX = 1200
"""Twenty minutes of one a second; twice the dots of a very wide plot."""


class Point(NamedTuple):
    """A value at a moment; facts.UNKNOWN where nobody could tell it."""

    at_ns: int
    value: float


class History:
    """Points as they come; a clock that is set back begins anew, or its lines would cross."""

    def __init__(self, limit: int = HISTORY_POINTS_MAX) -> None:
        self._points: deque[Point] = deque(maxlen=limit)

    def add(self, at_ns: int, value: float) -> None:
        """A second value of the same moment takes the first one's place."""
        if self._points and at_ns < self._points[-1].at_ns:
            self._points.clear()
        if self._points and at_ns == self._points[-1].at_ns:
            self._points.pop()
        self._points.append(Point(at_ns, value))

    def get_points(self) -> tuple[Point, ...]:
        """The oldest first."""
        return tuple(self._points)
