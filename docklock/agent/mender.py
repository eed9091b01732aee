"""Have dead runs mended and due containers started: by a `docklock mend` of its own, one at a time.

A process apart (errand.py), which also forks supervisors: they must not inherit what the agent
holds. A second one beside it does no harm (revive.py). Not here: what it does (cli/mend.py).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from docklock.agent.errand import Errand
from docklock.program import find_program

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.agent.journal import Log
    from docklock.paths import Paths

MEND_MAX_S = 120.0
AGAIN_AFTER_FAILURE_S = 5.0
ID_CHARS = 64


class Mender:
    """`is_well` is false after a mend that failed, or while one takes longer than MEND_MAX_S."""

    def __init__(self, paths: Paths, log: Log, upon_done: Callable[[], None]) -> None:
        """`upon_done` is called after each mend: what it started is there to be adopted."""
        self._log, self._upon_done = log, upon_done
        self._loop = asyncio.get_running_loop()
        self._errand = Errand([*find_program(paths), "mend"], self._tell, self._upon_exit)
        self._has_failed = False
        self._later: asyncio.TimerHandle | None = None
        self.count = 0

    @property
    def is_well(self) -> bool:
        began_s = self._errand.began_s
        is_late = began_s is not None and self._loop.time() - began_s > MEND_MAX_S
        return not self._has_failed and not is_late

    def request(self) -> None:
        """Mend now, or again after the one that runs: it may have looked already.

        After one that failed the next comes in AGAIN_AFTER_FAILURE_S, whoever asks.
        """
        if self._later is None:
            self._errand.request()

    def close(self) -> None:
        """Leave a mend that runs to itself."""
        if self._later is not None:
            self._later.cancel()
        self._errand.close()

    def _tell(self, line: str) -> None:
        if len(line) == ID_CHARS and line.isalnum():
            self._log.info("is started, as its restart policy says", line)
        else:
            self._log.warning(line.removeprefix("docklock: "))

    def _upon_exit(self, code: int) -> None:
        self.count += 1
        self._has_failed = code != 0
        if self._has_failed:
            self._log.error(f"docklock mend failed; again in {AGAIN_AFTER_FAILURE_S:g} s")
            self._later = self._loop.call_later(AGAIN_AFTER_FAILURE_S, self._again)
        else:
            self._upon_done()

    def _again(self) -> None:
        self._later = None
        self._errand.request()
