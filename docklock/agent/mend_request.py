"""`docklock mend` by a unit of systemd's own, so that no container is a descendant of the agent.

Then the agent's unit may be locked up: what it sets ends with the agent, which asks by a file and
needs no right at systemd. The mend's lines are in the journal under its own unit's name. Where
nobody answers, the mend is late, and the watchdog is not fed: it is never made here instead, where
containers would inherit what this unit sets. Not here: when it is due (mender.py), the files
(docklock/wanted.py).
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

from docklock import wanted
from docklock.kernel.inotify import read_names, watch_directory

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.paths import Paths


class MendRequest:
    """mender.Mend. It watches the run directory while a mend is wanted, and no longer."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._loop = asyncio.get_running_loop()
        self._text = ""
        self._watch_fd = -1
        self._upon_end: Callable[[str], None]

    def begin(self, upon_end: Callable[[str], None]) -> None:
        """Ask for it. OSError: the run directory cannot be written."""
        self._upon_end = upon_end
        self._text = f"{os.getpid()}-{time.monotonic_ns()}"
        self._watch_fd = watch_directory(self._paths.run)
        try:
            wanted.ask(self._paths, self._text)
        except OSError:
            os.close(self._watch_fd)
            raise
        self._loop.add_reader(self._watch_fd, self._look)

    def close(self) -> None:
        """Watch no more."""
        self._loop.remove_reader(self._watch_fd)
        os.close(self._watch_fd)

    def _look(self) -> None:
        read_names(self._watch_fd)
        text, is_whole = wanted.read_done(self._paths)
        if text == self._text:
            self.close()
            self._upon_end("" if is_whole else "its journal says why")
