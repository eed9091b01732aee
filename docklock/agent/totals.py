"""What all guards have counted since this agent began: histograms, added up. Pure.

A guard tells what it has counted in its life (docklock/evidence/figures.py); here the difference
to what it told before is added. What a guard had counted before this agent knew it is not: the
sums begin with the agent, as its other counters do, and never fall while it lives.
"""

from __future__ import annotations

from docklock.evidence.histogram import BOUNDS_NS

NAMES = ("answers", "held", "commits")
SIZE = len(BOUNDS_NS) + 2
"""Of a list of a histogram's: a count for each bound, one for all above, and the sum in ns."""


class Totals:
    """The sums, by NAMES; guards by container id."""

    def __init__(self) -> None:
        self.sums = {name: [0] * SIZE for name in NAMES}
        self._last: dict[str, dict[str, list[int]]] = {}

    def begin(self, container_id: str) -> None:
        """A guard that began after this agent: all that it counts is new."""
        self._last[container_id] = {name: [0] * SIZE for name in NAMES}

    def has(self, container_id: str) -> bool:
        """Whether it is known what of a guard's count was there before us."""
        return container_id in self._last

    def take(self, container_id: str, told: object) -> None:
        """What a guard has told. The first word of one that was there before us adds nothing.

        One of another version, which has other bounds, adds nothing either.
        """
        if not isinstance(told, dict) or not all(is_histogram(told.get(name)) for name in NAMES):
            return
        found: dict[str, list[int]] = {name: told[name] for name in NAMES}
        last = self._last.get(container_id, found)
        for name, values in found.items():
            self.sums[name] = [
                total + max(0, now - before)
                for total, now, before in zip(self.sums[name], values, last[name], strict=True)
            ]
        self._last[container_id] = found

    def forget(self, container_id: str) -> None:
        """A guard that has gone; the next one of this container begins with nothing."""
        self._last.pop(container_id, None)


def is_histogram(value: object) -> bool:
    """Whether it is one list of this version's `describe`."""
    return (
        isinstance(value, list) and len(value) == SIZE and all(type(item) is int for item in value)
    )
