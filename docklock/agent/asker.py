"""Have the host log cosigned: by a `docklock witness ask` of its own, often and after starts.

Only where there is a policy (witnesses.toml). Not here: what it does (docklock/witness/ask.py).
Invariant: whatever comes of it changes nothing for containers, nor for the watchdog: witnesses are
other machines.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from docklock.agent.config import POLICY_DEFAULT
from docklock.agent.errand import Errand
from docklock.program import find_program

if TYPE_CHECKING:
    from docklock.agent.journal import Log
    from docklock.paths import Paths

AFTER_START_S = 1.0
EXIT_FORKED = 3


class Asker:
    """`is_met` is whether the policy was met the last time; None while nobody was asked."""

    def __init__(self, paths: Paths, log: Log) -> None:
        self._paths, self._log = paths, log
        self._loop = asyncio.get_running_loop()
        self._later: asyncio.TimerHandle | None = None
        self._soon: asyncio.TimerHandle | None = None
        self._errand: Errand | None = None
        self._last = ""
        self.is_met: bool | None = None
        self.count = 0

    def follow(self, policy: str, seconds: int) -> None:
        """Ask now and every so many seconds by the policy in this file; the default if it is ""."""
        self._stop()
        path = policy or POLICY_DEFAULT
        if not policy and not os.path.exists(path):
            return
        argv = [*find_program(self._paths), "witness", "ask", "--config", path]
        self._errand = Errand(argv, self._tell, self._upon_exit)
        self._ask_often(seconds)

    def upon_started(self) -> None:
        """A container was started: ask soon, once for all that start together."""
        if self._errand is not None and self._soon is None:
            self._soon = self._loop.call_later(AFTER_START_S, self._ask)

    def close(self) -> None:
        """Ask no more; one that asks is left to itself."""
        if self._errand is not None:
            self._errand.close()
            self._errand = None
        self._stop()

    def _stop(self) -> None:
        """Ask no more; one that asks ends unheard."""
        for timer in (self._later, self._soon):
            if timer is not None:
                timer.cancel()
        self._later = self._soon = None
        if self._errand is not None:
            self._errand.abandon()
            self._errand = None

    def _ask_often(self, seconds: int) -> None:
        self._ask()
        self._later = self._loop.call_later(seconds, self._ask_often, seconds)

    def _ask(self) -> None:
        self._soon = None
        if self._errand is not None:
            self._errand.request()

    def _tell(self, line: str) -> None:
        """Each thing once, as long as it is so."""
        said = line.removeprefix("docklock: ")
        if line != said:
            if said != self._last:
                self._log.warning(said)
            self._last = said
        else:
            self._log.debug(said)

    def _upon_exit(self, code: int) -> None:
        self.count += 1
        was_met, self.is_met = self.is_met, code == 0
        if code == EXIT_FORKED:
            self._log.error("FORK: a witness has seen another history of this host's log")
        elif self.is_met != was_met:
            said = "the log is cosigned as the policy says" if self.is_met else "policy not met"
            self._log.info(said) if self.is_met else self._log.warning(said)
