"""Run a container again for as long as its restart policy says so, in the same guard.

Between two runs the guard keeps the container's lock and its control socket: nobody else can start
it, and no client meets a closed door. Not here: the decision (docklock.restart), one run (main.py),
starting what lost its guard (docklock.revive).
"""

from __future__ import annotations

import gc
import os
import time

from chainlite.errors import DocklockError, StateError
from chainlite.lean import TYPE_CHECKING
from docklock.bare import signal
from docklock.lifecycle import (
    RESTARTING,
    STOPPED,
    Container,
    State,
    read_container,
    release_live,
    socket_path,
    write_state,
)
from docklock.restart import Ended, decide, is_ending_signal, parse_policy
from docklock.supervisor.control import Control
from docklock.supervisor.loop import Loop
from docklock.supervisor.stdio import Output
from docklock.supervisor.task import read_task

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from docklock.paths import Paths
    from docklock.supervisor.steering import Steering
    from docklock.supervisor.task import Task

NS_PER_MS = 1_000_000


def judge(paths: Paths, container_id: str, ended: State) -> State:
    """The status after a run: `ended`, or RESTARTING if the policy wants another.

    The policy is read now: it may have been changed while the container ran. A run whose program
    never began is not repeated, as with Docker.
    """
    policy = parse_policy(read_container(paths, container_id).restart)
    decision = decide(policy, describe_end(ended))
    if not decision.is_restarted or not ended.started_ns:
        return ended
    return plan_restart(ended, decision.delay_ms)


def plan_restart(ended: State, delay_ms: int) -> State:
    """The status of a container that is to run again."""
    return ended._replace(
        status=RESTARTING,
        restart_count=ended.restart_count + 1,
        restart_delay_ms=delay_ms,
        is_cut=False,
    )


def describe_end(state: State) -> Ended:
    """A run that is over, as the policy sees it."""
    return Ended(
        exit_code=state.exit_code,
        ran_ms=max(0, state.finished_ns - state.started_ns) // NS_PER_MS,
        attempts=state.restart_count,
        delay_ms=state.restart_delay_ms,
        is_stopped_by_user=state.is_stopped_by_user,
    )


def is_stop(number: int, container: Container) -> bool:
    """Whether this signal, from a user, means that the container shall stay ended."""
    return is_ending_signal(number, get_stop_number(container))


def get_stop_number(container: Container) -> int:
    """The signal that asks this container to end."""
    word = container.stop_signal
    name = f"SIG{word.upper().removeprefix('SIG')}"
    return int(word) if word.isdigit() else int(getattr(signal, name, signal.SIGTERM))


class Backoff:
    """What clients may ask for while no run is there (control.Requests)."""

    def __init__(self, loop: Loop, paths: Paths, container: Container) -> None:
        self.output = Output(loop, None)
        self.is_ended = self.is_leaving = False
        self._paths, self._container = paths, container

    def start(self) -> None:
        raise StateError("container is restarting: it starts by itself")

    def signal(self, number: int, *, is_to_end: bool) -> None:
        """A signal that asks to end ends the waiting; there is nobody for others."""
        if not is_to_end and not is_stop(number, self._container):
            raise StateError("container is restarting: it has no process to signal")
        self.is_ended = True

    def leave(self, _mask: int) -> None:
        """SIGTERM to the guard (leaving.py): the waiting ends, the policy stands."""
        self.is_ended = self.is_leaving = True

    def add_listener(self, listener: int, argv: list[str]) -> None:
        os.close(listener)
        raise StateError(f"container is restarting: {argv[0] if argv else 'exec'} cannot run in it")

    def flush(self, upon_done: Callable[[], None]) -> None:
        """All of the last run is durable."""
        upon_done()

    def write_input(self, data: bytes) -> None:
        """Typed for a program that has ended."""

    def steer(self) -> Steering:
        raise StateError("container is restarting: it can be changed when it runs")

    def update(self, asked: dict[str, Any]) -> None:
        """For the run that comes, which comes whatever the policy says now (Docker's does, too)."""
        from docklock.update import change_at_rest, parse_change

        change_at_rest(self._paths, self._container, parse_change(asked))

    def deny(self, verb: str, why: str) -> None:
        """No run is there to record it."""

    def count(self) -> dict[str, Any]:
        raise StateError("container is restarting: no run is there to count for")

    def resize(self, rows: int, columns: int) -> None:
        """The next run begins with the size that its container was made with."""


def keep_running(
    task: Task,
    control: Control | None,
    run_once: Callable[[Task, Control], tuple[State, Control | None]],
) -> None:
    """Wait, run, and again, until a run is the last or the user ends the waiting.

    `task.previous` says how long to wait. `control` is the last run's, or None at the beginning.
    """
    while True:
        loop = Loop()
        backoff = Backoff(loop, task.paths, task.container)
        if control is None:
            control = Control(loop, backoff, socket_path(task.paths, task.container.id))
            task.channel.close()
        else:
            control.move(loop, backoff)
        if task.leaving is not None:
            loop.watch(task.leaving.fd, backoff.leave)
        if not _wait(task, loop, backoff):
            _end(task, control, is_leaving=backoff.is_leaving)
            return
        try:
            task = _read_again(task)
        except (DocklockError, OSError) as error:
            _end(task, control, str(error))
            return
        ended, _ = run_once(task, control)
        loop.close()
        if ended.status != RESTARTING:
            return
        task = task._replace(run=task.run + 1, previous=ended)


def _wait(task: Task, loop: Loop, backoff: Backoff) -> bool:
    """Serve clients until the delay is over; False if one of them ended it."""
    gc.collect()  # or what the last run left would be frozen with the next (main.py)
    deadline = time.monotonic() + task.previous.restart_delay_ms / 1000
    while not backoff.is_ended and (rest := deadline - time.monotonic()) > 0:
        loop.run_once(rest)
    return not backoff.is_ended


def _read_again(task: Task) -> Task:
    """The same container as its directory says now: it may have been updated."""
    return read_task(
        task.paths,
        task.container.id,
        task.run,
        is_started_at_once=True,
        channel=task.channel,
        live_fd=task.live_fd,
    )._replace(leaving=task.leaving)


def _end(task: Task, control: Control, error: str = "", *, is_leaving: bool = False) -> None:
    """No run follows: say so on disk and to everyone who waits."""
    state = task.previous._replace(
        status=STOPPED,
        is_stopped_by_user=not error and not is_leaving,
        is_cut=is_leaving,
        error=error or task.previous.error,
    )
    write_state(task.paths, task.container.id, state)
    control.stop_listening()
    release_live(task.paths, task.container.id)
    control.announce({"event": "exit", "exit_code": state.exit_code, "message": error})
