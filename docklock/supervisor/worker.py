"""The worker: the process that answers the gate, forked from the guard (main.py).

It alone reads what the container wrote, and it holds no key. Its death is an event: the guard
answers what it had received EINTR and forks the next one. The guard's death is the container's: the
worker sees its channel end, kills the container's cgroup, and goes; until then it answers and
records as before.

Invariants: the worker outlives the guard only to kill
(tests/e2e/test_worker.py::test_the_guards_death_kills_a_container_that_hides_from_its_parent);
it holds the journal and the container's lock, so nobody mends a run that it still kills; it holds
no other descriptor of the guard's.
"""

from __future__ import annotations

import gc
import mmap
import os
import time
from _thread import get_ident, start_new_thread

from chainlite.errors import StateError
from chainlite.lean import TYPE_CHECKING
from docklock.bare import signal, socket
from docklock.capture.gate import Gate
from docklock.cgroup.driver import Cgroup
from docklock.evidence.attempts import AttemptWriter, Place
from docklock.evidence.journal import JOURNAL_BYTES
from docklock.kernel.title import set_title
from docklock.paths import Paths
from docklock.policy.load import load_policy
from docklock.supervisor.apart import detach, keep_only
from docklock.supervisor.wire import make_pair, receive, send_message

if TYPE_CHECKING:
    from typing import Any

    from docklock.policy.decision import Compiled
    from docklock.supervisor.task import Task

STOP_MAX_S = 5.0
STOP_STEP_S = 0.001
EXIT_FAILED = 70
EXIT_ORPHANED = 71


class Worker:
    """The guard's end of its worker."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self._channel = channel

    def begin(self, task: Task, cgroup: Cgroup, log_path: str) -> None:
        """What it is for: the policy, what to kill once we are gone, where to say why it failed."""
        paths, container = task.paths, task.container
        message: dict[str, object] = {
            "verb": "begin",
            "state": paths.state,
            "run_dir": paths.run,
            "policy": container.policy,
            "capabilities": list(task.spec.process.capabilities.bounding),
            "digest": task.policy.digest.hex(),
            "cgroup": [cgroup.name, cgroup.dirs],
            "log": log_path,
            "title": f"docklock worker {container.id[:12]}",
        }
        self._send(message)

    def open_ring(self, place: Place, journal_fd: int, wake_fd: int, live_fd: int) -> None:
        """Where it writes attempts, how it wakes the guard, and the lock that both hold."""
        self._send({"verb": "ring", "place": list(place)}, (journal_fd, wake_fd, live_fd))

    def add_listener(self, number: int, listener: int) -> None:
        """Have it serve `listener`; if it has died, the next one is told."""
        self._send({"verb": "listener", "number": number}, (listener,))

    def drop_listener(self, number: int) -> None:
        """The filter of listener `number` has no task left."""
        self._send({"verb": "closed", "number": number})

    def kill(self) -> None:
        """End it: no task is left that it could serve, and what it answered is in the journal."""
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def end(self) -> None:
        """Kill it and wait until it is gone."""
        self.kill()
        self.reap()

    def reap(self) -> None:
        """Wait until it has ended."""
        os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        os.close(self.pidfd)
        self._channel.close()

    def _send(self, message: dict[str, object], fds: tuple[int, ...] = ()) -> None:
        try:
            send_message(self._channel, message, fds)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it is dead, and the guard's loop is about to see that


def fork_worker(policy: Compiled | None = None) -> Worker:
    """A new worker, which waits for `begin`; it reads the policy itself if it is not given."""
    ours, theirs = make_pair()
    pid = os.fork()
    if pid == 0:
        code = EXIT_FAILED
        process = _Process(theirs, policy)
        try:
            detach(keep_stdio=False)
            keep_only((0, 1, 2, theirs.fileno()))
            code = process.run()
        except BaseException:  # noqa: BLE001 - the guard goes on with another; this says why
            if process.log_path:
                write_traceback(process.log_path)
        finally:
            os._exit(code)
    theirs.close()
    return Worker(pid, ours)


def write_traceback(path: str) -> None:
    """Append the exception being handled to a file."""
    import traceback

    with open(path, "a") as file:
        traceback.print_exc(file=file)


class _Thread:
    """One gate's thread, as the channel's thread knows it."""

    def __init__(self) -> None:
        self.ident = 0
        self.is_done = False


class _Process:
    """The worker's own process: a thread for each listener, this one for the channel."""

    def __init__(self, channel: socket.socket, policy: Compiled | None) -> None:
        self._channel = channel
        self._policy = policy
        self._cgroup: Cgroup | None = None
        self.log_path = ""
        self._threads: dict[int, _Thread] = {}
        self._map: mmap.mmap
        self._writer: AttemptWriter

    def run(self) -> int:
        """Serve until the guard kills us, or is gone: then kill the container."""
        gc.freeze()
        gc.enable()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a scope's stop is the guard's to answer
        signal.signal(signal.SIGUSR1, lambda *_: None)  # ends a RECV that would wait for ever
        while True:
            packet = receive(self._channel)
            if packet.kind < 0:
                if self._cgroup is not None and self._cgroup.exists():
                    self._cgroup.kill()
                return EXIT_ORPHANED
            message = packet.get_message()
            if message["verb"] == "begin":
                self._begin(message)
            elif message["verb"] == "ring":
                journal_fd, wake_fd, _ = packet.descriptors  # and the lock, which we only hold
                self._map = mmap.mmap(journal_fd, JOURNAL_BYTES)
                place = Place(*message["place"])
                self._writer = AttemptWriter(self._map, journal_fd, wake_fd, place)
                # Now, while the container is made: each is a wait for the file system else.
                self._writer.touch()
            elif message["verb"] == "listener":
                self._add(packet.descriptors[0], message["number"])
            else:
                self._drop(message["number"])

    def _begin(self, message: dict[str, Any]) -> None:
        name, dirs = message["cgroup"]
        self._cgroup = Cgroup(name, tuple([(kind, path) for kind, path in dirs]))
        self.log_path = message["log"]
        set_title(message["title"])
        if self._policy is None:
            self._policy = load_policy(
                message["policy"],
                Paths(message["state"], message["run_dir"]),
                capabilities=message["capabilities"],
            )
        if self._policy.digest.hex() != message["digest"]:
            raise StateError("the policy has been changed meanwhile; the guard's is another")

    def _add(self, listener: int, number: int) -> None:
        assert self._policy is not None
        gate = Gate(listener, number, self._policy, self._map, self._writer)
        thread = self._threads[number] = _Thread()
        start_new_thread(self._serve, (gate, thread))

    def _serve(self, gate: Gate, thread: _Thread) -> None:
        thread.ident = get_ident()
        try:
            gate.serve()
            os.close(gate.listener)
        except BaseException:  # noqa: BLE001 - a thread's end must be the worker's
            write_traceback(self.log_path)
            os._exit(EXIT_FAILED)
        thread.is_done = True

    def _drop(self, number: int) -> None:
        thread = self._threads.pop(number)
        deadline = time.monotonic() + STOP_MAX_S
        while not thread.is_done and time.monotonic() < deadline:
            if thread.ident:
                signal.pthread_kill(thread.ident, signal.SIGUSR1)
            time.sleep(STOP_STEP_S)
