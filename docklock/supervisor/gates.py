"""The guard's side of the gate: the listeners of one run, and the worker that serves them.

The guard holds every listener, so that the worker's death is an event: what it had received is
answered EINTR, and another goes on. Not here: the worker's own process (worker.py), the answers'
meaning (docklock.capture), the rest of a run (main.py).
"""

from __future__ import annotations

import os
import select
import time

from chainlite.errors import StateError
from chainlite.lean import TYPE_CHECKING
from docklock.capture.gate import Gate, is_recorded, set_sync_wake_up
from docklock.capture.holds import interrupt_in_flight, release
from docklock.evidence.attempts import LISTENERS_MAX
from docklock.kernel.numbers import get_number
from docklock.supervisor.worker import Worker, fork_worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.cgroup.driver import Cgroup
    from docklock.evidence.ledger import Held
    from docklock.evidence.recorder import RunRecorder
    from docklock.supervisor.loop import Loop
    from docklock.supervisor.task import Task

WORKER_DEATHS_MAX = 5  # in WORKER_DEATHS_S: then the container is killed
WORKER_DEATHS_S = 10.0


class Gates:
    """Owns the listeners and the worker. `record` writes a receipt of the run."""

    def __init__(
        self,
        loop: Loop,
        task: Task,
        cgroup: Cgroup,
        recorder: RunRecorder,
        record: Callable[..., None],
    ) -> None:
        self._loop, self._task, self._cgroup = loop, task, cgroup
        self._policy = task.policy
        self._recorder, self._record = recorder, record
        self._live_fd = task.live_fd
        self._log_path = f"{task.paths.container(task.container.id)}/supervisor.log"
        self._listeners: dict[int, int] = {}  # number in the journal -> descriptor
        self._worker: Worker | None = None
        self._deaths: list[float] = []

    def begin(self, listener: int | None, init_pidfd: int) -> None:
        """Serve init's listener (None: its policy sends nothing here) by a worker from now on."""
        if listener is not None:
            number = self.add(listener)
            if is_recorded(self._policy, get_number("execve")):
                self._answer_start(number, init_pidfd)
        self._begin_worker(self._task.worker or fork_worker(self._policy))

    def add(self, listener: int) -> int:
        """Serve one more; its number. StateError, and it is closed, if there are too many."""
        free = (number for number in range(LISTENERS_MAX) if number not in self._listeners)
        number = next(free, None)
        if number is None:
            os.close(listener)
            raise StateError(f"{LISTENERS_MAX} programs run under the container's gate already")
        set_sync_wake_up(listener)
        self._listeners[number] = listener
        self._loop.watch(listener, lambda _mask: self._upon_closed(number), 0)
        if self._worker is not None:
            self._worker.add_listener(number, listener)
        return number

    def release(self, held: Held) -> bool:
        """In the recorder's thread: a held call's receipt is durable."""
        listener = self._listeners.get(held.listener)
        return listener is not None and release(listener, held)

    def kill_worker(self) -> None:
        """No task is left that it could serve."""
        if self._worker is not None:
            self._worker.kill()

    def reap_worker(self) -> None:
        """Wait until it has ended: it holds the container's lock as well."""
        if self._worker is not None:
            self._worker.reap()

    def close(self) -> None:
        """Close what else the process's end would."""
        for listener in self._listeners.values():
            os.close(listener)

    def _answer_start(self, number: int, init_pidfd: int) -> None:
        """Record init's execve here: no worker needs to be there before the program is.

        What is read is still our own child's memory, not the container's.
        """
        listener = self._listeners[number]
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        poll.register(init_pidfd, select.POLLIN)
        if any(fd == listener and mask & select.POLLIN for fd, mask in poll.poll()):
            ring = self._recorder.open_ring()
            Gate(listener, number, self._policy, *ring).serve_one()
            self._recorder.take_attempts()

    def _begin_worker(self, worker: Worker) -> None:
        """Tell a new one what it is for and where to write, and give it every listener there is."""
        self._worker = worker
        worker.begin(self._task, self._cgroup, self._log_path)
        self._loop.watch(worker.pidfd, self._upon_death)
        worker.open_ring(*self._recorder.get_ring(), self._live_fd)
        for number, listener in self._listeners.items():
            worker.add_listener(number, listener)

    def _upon_death(self, _mask: int) -> None:
        """Interrupt what it had received, and go on with another; StateError if it dies often."""
        assert self._worker is not None
        self._loop.unwatch(self._worker.pidfd)
        self._worker.reap()
        self._worker = None
        self._recorder.take_attempts()
        for number, listener in self._listeners.items():
            interrupt_in_flight(self._recorder, number, listener, self._policy)
        self._record("runtime.worker", labels=(("worker", "died"),))
        if self._policy.kills_on_worker_death:
            raise StateError("the container's worker died, and its policy has it killed then")
        now = time.monotonic()
        self._deaths = [at for at in self._deaths if now - at < WORKER_DEATHS_S] + [now]
        if len(self._deaths) > WORKER_DEATHS_MAX:
            raise StateError(
                f"the container's worker died {len(self._deaths)} times in "
                f"{WORKER_DEATHS_S:g} s: the container was killed"
            )
        self._begin_worker(fork_worker(self._policy))

    def _upon_closed(self, number: int) -> None:
        """No task of that filter is left."""
        listener = self._listeners.pop(number)
        self._loop.unwatch(listener)
        os.close(listener)
        if self._worker is not None:
            self._worker.drop_listener(number)
