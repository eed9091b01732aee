"""`docklock mend` as a child of the agent: where no systemd is asked for it.

Its lines become the agent's log. Not here: when it is due (mender.py).
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

from docklock.program import find_program

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.agent.journal import Log
    from docklock.paths import Paths

READ_BYTES = 65_536
ID_CHARS = 64


class MendProcess:
    """mender.Mend; a child that runs goes on without us."""

    def __init__(self, paths: Paths, log: Log) -> None:
        self._argv = [*find_program(paths), "mend"]
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._pidfd = self._pipe = -1
        self._unread = b""
        self._upon_end: Callable[[str], None]

    def begin(self, upon_end: Callable[[str], None]) -> None:
        """Begin it. OSError: there can be no more processes."""
        self._upon_end = upon_end
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(write_fd, True)
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        stdio = enumerate((null, write_fd, write_fd))
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in stdio]
        try:
            pid = os.posix_spawn(
                self._argv[0],
                self._argv,
                os.environ,
                file_actions=actions,
                setsigdef=(signal.SIGPIPE, signal.SIGHUP, signal.SIGTERM, signal.SIGINT),
            )
        except OSError:
            os.close(read_fd)
            raise
        finally:
            os.close(write_fd)
            os.close(null)
        self._pipe, self._pidfd = read_fd, os.pidfd_open(pid)
        self._loop.add_reader(self._pidfd, self._upon_exit)
        self._loop.add_reader(self._pipe, self._read)

    def close(self) -> None:
        """Look at it no more."""
        for fd in (self._pidfd, self._pipe):
            self._loop.remove_reader(fd)
            os.close(fd)
        self._unread = b""

    def _read(self) -> None:
        """Its lines become ours. A supervisor that it forked may hold the pipe a moment longer."""
        try:
            data = os.read(self._pipe, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._pipe)
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._tell(line.decode(errors="replace"))

    def _tell(self, line: str) -> None:
        if len(line) == ID_CHARS and line.isalnum():
            self._log.info("is started, as its restart policy says", line)
        else:
            self._log.warning(line.removeprefix("docklock: "))

    def _upon_exit(self) -> None:
        result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        self._read()
        self.close()
        status = result.si_status if result is not None else 0
        self._upon_end(f"exit status {status}" if status else "")
