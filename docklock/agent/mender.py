"""Have dead runs mended and due containers started: by a `docklock mend` of its own, one at a time.

A process apart, since mending waits, loads what an agent at rest needs not, and forks supervisors,
which must not inherit what the agent holds. It goes on if the agent is killed, and a second one
beside it does no harm (revive.py). Not here: what it does (cli/mend.py), how it is begun
(mend_process.py: as our child; mend_request.py: by systemd).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.agent.journal import Log

MEND_MAX_S = 120.0
AGAIN_AFTER_FAILURE_S = 5.0


class Mend(Protocol):
    """A way to have `docklock mend` run; one at a time."""

    def begin(self, upon_end: Callable[[str], None]) -> None:
        """Begin one; later, not from here, tell why it failed, or "" if it did not. OSError."""

    def close(self) -> None:
        """Leave one that runs to itself."""


class Mender:
    """`is_well` is false after a mend that failed, or while one takes longer than MEND_MAX_S."""

    def __init__(self, mend: Mend, log: Log, upon_done: Callable[[], None]) -> None:
        """`upon_done` is called after each mend: what it started is there to be adopted."""
        self._mend, self._log, self._upon_done = mend, log, upon_done
        self._loop = asyncio.get_running_loop()
        self._began_s = 0.0
        self._is_running = self._is_wanted = self._has_failed = False
        self._later: asyncio.TimerHandle | None = None
        self.count = 0

    @property
    def is_well(self) -> bool:
        is_late = self._is_running and self._loop.time() - self._began_s > MEND_MAX_S
        return not self._has_failed and not is_late

    def request(self) -> None:
        """Mend now, or again after the one that runs: it may have looked already.

        After one that failed the next comes in AGAIN_AFTER_FAILURE_S, whoever asks.
        """
        if self._is_running:
            self._is_wanted = True
        elif self._later is None:
            self._begin()

    def close(self) -> None:
        """Leave a mend that runs to itself."""
        if self._later is not None:
            self._later.cancel()
        if self._is_running:
            self._mend.close()

    def _begin(self) -> None:
        self._later = None
        self._began_s = self._loop.time()
        self._is_running, self._is_wanted = True, False
        try:
            self._mend.begin(self._upon_end)
        except OSError as error:
            self._upon_end(f"it cannot be begun: {error}")

    def _upon_end(self, why: str) -> None:
        self._is_running = False
        self.count += 1
        self._has_failed = bool(why)
        if self._has_failed:
            self._log.error(f"docklock mend failed: {why}; again in {AGAIN_AFTER_FAILURE_S:g} s")
            self._later = self._loop.call_later(AGAIN_AFTER_FAILURE_S, self._begin)
            return
        if self._is_wanted:
            self._begin()
        self._upon_done()
