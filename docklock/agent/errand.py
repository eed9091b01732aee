"""A docklock command as a process of the agent's, one at a time: its lines, and how it ended.

A process apart, since it waits and loads what an agent at rest needs not. It goes on if the agent
is killed. Not here: when, and what follows (mender.py, asker.py).
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

READ_BYTES = 65_536


class Errand:
    """`began_s` is the loop's time at which the one that runs began; None if none does."""

    def __init__(
        self,
        argv: list[str],
        upon_line: Callable[[str], None],
        upon_exit: Callable[[int], None],
    ) -> None:
        """`upon_exit` is given the exit code, after the last line."""
        self._argv = argv
        self._upon_line: Callable[[str], object] = upon_line
        self._upon_exit: Callable[[int], object] = upon_exit
        self._loop = asyncio.get_running_loop()
        self._pid = 0
        self._pidfd = self._pipe = -1
        self._unread = b""
        self._is_wanted = False
        self.began_s: float | None = None

    def request(self) -> None:
        """Run it now, or again after the one that runs, if that ends well: it may have looked."""
        if self._pid:
            self._is_wanted = True
        else:
            self._spawn()

    def abandon(self) -> None:
        """Hear no more of one that runs; it is waited for when it ends."""
        self._upon_line = lambda _: None
        self._upon_exit = lambda _: None
        self._is_wanted = False

    def close(self) -> None:
        """Leave one that runs to itself."""
        if self._pid:
            self._forget()

    def _spawn(self) -> None:
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
        self.began_s = self._loop.time()
        self._is_wanted = False
        self._loop.add_reader(self._pidfd, self._upon_end)
        self._loop.add_reader(self._pipe, self._read)

    def _read(self) -> None:
        """Its lines. What it forked may hold the pipe a moment longer."""
        try:
            data = os.read(self._pipe, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._pipe)
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._upon_line(line.decode(errors="replace"))

    def _upon_end(self) -> None:
        result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        self._read()
        self._forget()
        code = 1 if result is None else result.si_status
        if self._is_wanted and code == 0:
            self._spawn()
        self._upon_exit(code)

    def _forget(self) -> None:
        for fd in (self._pidfd, self._pipe):
            self._loop.remove_reader(fd)
            os.close(fd)
        self._pid, self._unread, self.began_s = 0, b"", None
