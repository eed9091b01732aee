"""Have dead runs mended and due containers started: by a `docklock mend` of its own, one at a time.

A process apart, since mending waits, loads what an agent at rest needs not, and forks supervisors,
which must not inherit what the agent holds. It goes on if the agent is killed, and a second one
beside it does no harm (revive.py). Not here: what it does (cli/mend.py).
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

MEND_MAX_S = 120.0
AGAIN_AFTER_FAILURE_S = 5.0
READ_BYTES = 65_536
ID_CHARS = 64


class Mender:
    """`is_well` is false after a mend that failed, or while one takes longer than MEND_MAX_S."""

    def __init__(self, paths: Paths, log: Log, upon_done: Callable[[], None]) -> None:
        """`upon_done` is called after each mend: what it started is there to be adopted."""
        self._argv = [*find_program(paths), "mend"]
        self._log, self._upon_done = log, upon_done
        self._loop = asyncio.get_running_loop()
        self._pid = 0
        self._pidfd = self._pipe = -1
        self._unread = b""
        self._began_s = 0.0
        self._is_wanted = False
        self._has_failed = False
        self._later: asyncio.TimerHandle | None = None
        self.count = 0

    @property
    def is_well(self) -> bool:
        is_late = self._pid != 0 and self._loop.time() - self._began_s > MEND_MAX_S
        return not self._has_failed and not is_late

    def request(self) -> None:
        """Mend now, or again after the one that runs: it may have looked already.

        After one that failed the next comes in AGAIN_AFTER_FAILURE_S, whoever asks.
        """
        if self._pid:
            self._is_wanted = True
        elif self._later is None:
            self._spawn()

    def close(self) -> None:
        """Leave a mend that runs to itself."""
        if self._later is not None:
            self._later.cancel()
        if self._pid:
            self._forget()

    def _spawn(self) -> None:
        self._later = None
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(write_fd, True)
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        stdio = enumerate((null, write_fd, write_fd))
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in stdio]
        try:
            self._pid = os.posix_spawn(
                self._argv[0],
                self._argv,
                os.environ,
                file_actions=actions,
                setsigdef=(signal.SIGPIPE, signal.SIGHUP, signal.SIGTERM, signal.SIGINT),
            )
        finally:
            os.close(write_fd)
            os.close(null)
        self._pipe, self._pidfd = read_fd, os.pidfd_open(self._pid)
        self._began_s = self._loop.time()
        self._is_wanted = False
        self._loop.add_reader(self._pidfd, self._upon_exit)
        self._loop.add_reader(self._pipe, self._read)

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
        self._forget()
        self.count += 1
        self._has_failed = result is None or result.si_status != 0
        if self._has_failed:
            self._log.error(f"docklock mend failed; again in {AGAIN_AFTER_FAILURE_S:g} s")
            self._later = self._loop.call_later(AGAIN_AFTER_FAILURE_S, self._spawn)
            return
        if self._is_wanted:
            self._spawn()
        self._upon_done()

    def _forget(self) -> None:
        for fd in (self._pidfd, self._pipe):
            self._loop.remove_reader(fd)
            os.close(fd)
        self._pid, self._unread = 0, b""
