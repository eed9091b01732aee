"""SIGTERM to a guard: the machine goes down, or somebody stops its scope.

The container is then asked to end as `docklock stop` asks, and killed LEAVE_MAX_S later: its end is
seen and signed. It is not its user's stop: what the restart policy says is done by the next mend,
after a boot as a rule. Not here: the container's end (main.py), the waiting (restarting.py).
"""

from __future__ import annotations

import os

from docklock.bare import signal

LEAVE_MAX_S = 10  # as Docker's daemon gives


class Leaving:
    """`fd` is readable from the signal on, for ever."""

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGTERM, self._upon_signal)

    def _upon_signal(self, *_: object) -> None:
        try:
            os.write(self._write_fd, b"\0")
        except BlockingIOError:
            pass  # it has been said often enough
