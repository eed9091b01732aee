"""The health checks of one run: a `docklock exec` now and then, and what its exit means.

The check is a process apart, gated and on record as every exec is: it knocks at this guard's own
door. Not here: the verdict (docklock.health). Invariants: one check at a time; one that takes too
long is killed, and its program in the container with it (exec's own promise).
"""

from __future__ import annotations

import os
import time

from chainlite.lean import TYPE_CHECKING
from docklock.bare import signal
from docklock.health import (
    HEALTH_FILE,
    OUTPUT_BYTES_MAX,
    TIMED_OUT,
    Health,
    Result,
    decode_check,
    judge,
)
from docklock.lifecycle import write_json
from docklock.program import find_program
from docklock.supervisor.terminal import wait_exit_code

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.health import Check
    from docklock.lifecycle import Container
    from docklock.paths import Paths
    from docklock.supervisor.loop import Loop
    from docklock.supervisor.task import Task

NS_PER_S = 1_000_000_000


def begin_probing(
    loop: Loop, task: Task, record: Callable[..., None], is_frozen: Callable[[], bool]
) -> Prober | None:
    """The health checks that a container asks for, if any; `record` writes a receipt of the run."""
    check = decode_check(task.container.health)
    if not check.is_wanted:
        return None
    return Prober(
        loop,
        task.paths,
        task.container,
        check,
        lambda status: record("runtime.health", labels=(("status", status),)),
        is_frozen,
    )


class Prober:
    """Owns the check that runs, if one does."""

    def __init__(
        self,
        loop: Loop,
        paths: Paths,
        container: Container,
        check: Check,
        upon_change: Callable[[str], None],
        is_frozen: Callable[[], bool],
    ) -> None:
        """The first check comes after one interval. `upon_change` is told each new status.

        None comes while the container is frozen, as with Docker.
        """
        self._loop, self._upon_change, self._is_frozen = loop, upon_change, is_frozen
        self._check = check.with_defaults()
        self._path = f"{paths.container(container.id)}/{HEALTH_FILE}"
        self._argv = [*find_program(paths), "exec", container.id, *check.get_words()]
        self._health = Health()
        self._started_ns = time.time_ns()
        self._began_ns = 0
        self._is_late = False
        self._pidfd = self._pipe = -1
        self._output = b""
        self._write()
        loop.call_later(self._check.interval_ns / NS_PER_S, self._upon_time)

    def close(self) -> None:
        """End the check that runs; the container is ending."""
        if self._pidfd >= 0:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self._reap()
        self._loop.cancel(self._upon_time)

    def _upon_time(self) -> None:
        if self._pidfd < 0 and self._is_frozen():
            self._loop.call_later(self._check.interval_ns / NS_PER_S, self._upon_time)
        elif self._pidfd < 0:
            self._begin()
        else:
            self._is_late = True
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _begin(self) -> None:
        self._pipe, write_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._pipe, False)
        actions = [(os.POSIX_SPAWN_DUP2, write_fd, number) for number in (1, 2)]
        self._output, self._is_late, self._began_ns = b"", False, time.time_ns()
        try:
            pid = os.posix_spawn(self._argv[0], self._argv, os.environ, file_actions=actions)
        except OSError as error:  # no more processes, or docklock is being replaced
            os.close(self._pipe)
            self._conclude(TIMED_OUT, f"the check could not be run: {error}")
            return
        finally:
            os.close(write_fd)
        self._pidfd = os.pidfd_open(pid)
        self._loop.watch(self._pidfd, self._upon_exit)
        self._loop.watch(self._pipe, self._read)
        self._loop.call_later(self._check.timeout_ns / NS_PER_S, self._upon_time)

    def _read(self, _mask: int) -> None:
        """Keep the beginning of what it says; read the rest, so that it can go on."""
        try:
            data = os.read(self._pipe, OUTPUT_BYTES_MAX)
        except BlockingIOError:
            return
        self._output = (self._output + data)[:OUTPUT_BYTES_MAX]
        if not data:
            self._loop.unwatch(self._pipe)

    def _upon_exit(self, _mask: int) -> None:
        self._read(0)
        code = self._reap()
        text = self._output.decode(errors="replace")
        if self._is_late:
            seconds = self._check.timeout_ns / NS_PER_S
            code, text = TIMED_OUT, f"Health check exceeded timeout ({seconds:g}s): {text}"
        self._conclude(code, text)

    def _conclude(self, code: int, text: str) -> None:
        result = Result(self._began_ns, time.time_ns(), code, text)
        before = self._health
        self._health = judge(self._check, before, result, started_ns=self._started_ns)
        self._write()
        if self._health.status != before.status:
            self._upon_change(self._health.status)
        self._loop.call_later(self._check.interval_ns / NS_PER_S, self._upon_time)

    def _reap(self) -> int:
        code = wait_exit_code(self._pidfd)
        for fd in (self._pidfd, self._pipe):
            self._loop.unwatch(fd)
            os.close(fd)
        self._pidfd = self._pipe = -1
        return code

    def _write(self) -> None:
        try:
            write_json(self._path, self._health._asdict())
        except OSError:
            pass  # a full disk: the next result is written anew, and receipts have each change
