"""`docklock mend` as a child of the agent: where no systemd is asked for it.

Its lines become the agent's log. Not here: when it is due (mender.py), the process (errand.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from docklock.agent.errand import Errand
from docklock.program import find_program

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.agent.journal import Log
    from docklock.paths import Paths

ID_CHARS = 64


class MendProcess:
    """mender.Mend; a child that runs goes on without us."""

    def __init__(self, paths: Paths, log: Log) -> None:
        self._log = log
        self._errand = Errand([*find_program(paths), "mend"], self._tell, self._upon_exit)
        self._upon_end: Callable[[str], None]

    def begin(self, upon_end: Callable[[str], None]) -> None:
        """Begin it. OSError: there can be no more processes."""
        self._upon_end = upon_end
        self._errand.request()

    def close(self) -> None:
        """Look at it no more."""
        self._errand.close()

    def _tell(self, line: str) -> None:
        if len(line) == ID_CHARS and line.isalnum():
            self._log.info("is started, as its restart policy says", line)
        else:
            self._log.warning(line.removeprefix("docklock: "))

    def _upon_exit(self, code: int) -> None:
        self._upon_end(f"exit status {code}" if code else "")
