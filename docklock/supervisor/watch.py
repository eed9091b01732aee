"""While a container runs: tell when the kernel killed in it for memory, or refused it a process.

Set up a moment after the start, so that no start pays for it; what was counted before is told then,
and what nobody saw is told at the end (`close`). At most one report of a kind in INTERVAL_S,
with how many it stands for. Nothing is guessed: a report is a count of the kernel's that has grown.
Where the kernel notifies nobody (docklock.cgroup.events), a timer looks once in INTERVAL_S.
"""

from __future__ import annotations

import time

from chainlite.lean import TYPE_CHECKING
from docklock.cgroup.events import has_silent_limit, open_notifiers

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.cgroup.driver import Cgroup
    from docklock.cgroup.events import Notifier
    from docklock.supervisor.loop import Loop

INTERVAL_S = 1.0
LOOK_SOON_S = 0.01  # on v1 the notification comes before the count
LOOKS_SOON_MAX = 50
KINDS = ("oom", "limit")  # in the order of driver.Events


class Watch:
    """Looks at one cgroup's counts; `tell(kind, count)` is called for those that have grown."""

    def __init__(self, loop: Loop, cgroup: Cgroup, tell: Callable[[str, int], None]) -> None:
        self._loop, self._cgroup, self._tell = loop, cgroup, tell
        self._told = dict.fromkeys(KINDS, 0)
        self._next_at = dict.fromkeys(KINDS, 0.0)
        self._looks_soon = 0
        self._is_paced = self._is_blind = self._has_begun = False
        self._notifiers: list[Notifier] = []

    def begin(self) -> None:
        """Watch from now on; where a notification is not to be had, by looking."""
        self._has_begun = True
        try:
            self._notifiers = open_notifiers(self._cgroup)
        except OSError:
            self._is_blind = True
        for notifier in self._notifiers:
            self._watch(notifier)
        self.pace()

    def pace(self) -> None:
        """Look now, and again and again if there is a limit of which no notifier tells.

        For `begin`, and when limits have changed since.
        """
        if not self._has_begun:
            return
        self._is_paced = self._is_blind or has_silent_limit(self._cgroup)
        self._look()

    def close(self) -> None:
        """The container has ended, its cgroup is still there: tell the rest."""
        for notifier in self._notifiers:
            self._loop.unwatch(notifier.fd)
            notifier.close()
        self._loop.cancel(self._look)
        for kind, count in self._list_grown():
            self._report(kind, count)

    def _watch(self, notifier: Notifier) -> None:
        self._loop.watch(notifier.fd, lambda _mask: self._upon_event(notifier), notifier.mask)

    def _upon_event(self, notifier: Notifier) -> None:
        notifier.clear()
        if notifier.is_early:
            self._looks_soon = LOOKS_SOON_MAX
        self._look()

    def _look(self) -> None:
        """Report what has grown and may be told now; set the timer for what may not."""
        now = time.monotonic()
        waits = [INTERVAL_S] * self._is_paced
        for kind, count in self._list_grown():
            if now >= self._next_at[kind]:
                self._report(kind, count)
            else:
                waits.append(self._next_at[kind] - now)
        if self._looks_soon:
            self._looks_soon -= 1
            waits.append(LOOK_SOON_S)
        if waits:
            self._loop.call_later(min(waits), self._look)

    def _list_grown(self) -> list[tuple[str, int]]:
        """(kind, how many more than were told)."""
        counts = zip(KINDS, self._cgroup.count_events(), strict=True)
        grown = [(kind, count - self._told[kind]) for kind, count in counts]
        return [(kind, more) for kind, more in grown if more > 0]

    def _report(self, kind: str, count: int) -> None:
        self._told[kind] += count
        self._next_at[kind] = time.monotonic() + INTERVAL_S
        self._tell(kind, count)
