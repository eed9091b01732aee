"""The guard: one process per container that owns its init, listeners, evidence and exit.

It is forked single-threaded from whoever creates the container and survives them. With the worker
that it forks (worker.py) it is the supervisor. Its death kills the container (PR_SET_PDEATHSIG, and
the worker), and the next docklock command signs the gap (repair.py). The worker's death is mended.

Order at the start, and why:
1. cgroup, then init is cloned: its mounts go on while we do 2;
2. the recorder begins: the start leaf is durable before the container's first instruction;
3. `created` is announced; on `start` the filter is installed and the program runs;
4. meanwhile the worker is forked, and then the recorder's thread begins.

Not here: what the verbs mean to a user (runtime.py), answers to the gate (worker.py).
"""

from __future__ import annotations

import gc
import os
import time

from chainlite.errors import DocklockError, StateError
from chainlite.lean import TYPE_CHECKING
from chainlite.receipt import ALLOWED, OBSERVED, RUNTIME
from docklock import enter
from docklock.bare import signal
from docklock.cgroup import driver
from docklock.evidence.full_disk import wait_for_room
from docklock.kernel.seccomp import get_listener_flags
from docklock.lifecycle import (
    CREATED,
    RUNNING,
    STOPPED,
    State,
    release_live,
    socket_path,
    write_state,
)
from docklock.plan import build_plan
from docklock.runtime import discard_files, remove_files
from docklock.supervisor.control import Control
from docklock.supervisor.gates import Gates
from docklock.supervisor.loop import Loop
from docklock.supervisor.stdio import DRAIN_LIMIT_S, Ends, Input, Output, make_ends
from docklock.supervisor.task import Task, begin_recorder, get_overlay, locate_cgroup, open_log
from docklock.supervisor.terminal import Terminal, connect_stdio, require, wait_exit_code
from docklock.supervisor.usage import Meter, make_meter
from docklock.supervisor.wire import STDERR, send_message

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from docklock.evidence.recorder import RunRecorder
    from docklock.supervisor.probing import Prober
    from docklock.supervisor.steering import Steering

EXIT_RUNTIME_ERROR = 125
WATCH_AFTER_S = 0.05  # what a short container does not pay for, and no start waits for


class Supervisor:
    """The state of one run. Invariant: whatever it made, `finish` removes."""

    def __init__(self, task: Task, control: Control | None = None) -> None:
        """`control` is the run's before, if this process had one."""
        self._task = task
        self._paths = task.paths
        self._container = task.container
        self._loop = Loop()
        self.output = Output(self._loop, None)
        self._gates: Gates | None = None
        self._input: Input | Terminal | None = None
        self._terminal: Terminal | None = None
        self._init: enter.Init | None = None
        self._cgroup: driver.Cgroup | None = None
        self._meter: Meter | None = None
        self._prober: Prober | None = None
        self._recorder: RunRecorder | None = None
        self.control = control
        self._steering: Steering | None = None
        self._policy = task.policy
        self._start_error = b""
        self._start_failure: DocklockError | None = None
        self._is_announced = False
        self._exit_code: int | None = None
        self._state = task.begin_state()
        self._is_leaving = False
        if task.leaving is not None:
            self._loop.watch(task.leaving.fd, self._upon_leaving)
        if task.scope is not None:
            task.scope.watch(self._loop)

    # -- verbs that clients may ask for (control.Requests) --

    def start(self) -> None:
        """Let the created container run its program."""
        if self._state.status != CREATED or self._init is None:
            raise StateError(f"container is {self._state.status}, not created")
        assert self._recorder is not None and self._gates is not None
        self._record("runtime.start")
        init, self._init = self._init, None  # enter.start has reaped it if it raises
        try:
            listener = enter.start(init)
        except DocklockError as error:
            self._start_failure = error  # whoever asked is told; the run ends with it too
            raise
        self._init = init
        self._gates.begin(listener, init.pidfd)
        self._recorder.begin_commits()  # now that there is no more to fork
        if self._meter is not None:
            self._meter.begin(self._loop, self._record_usage)
        if self._container.health:
            from docklock.supervisor.probing import begin_probing

            is_frozen = lambda: self._state.is_frozen  # noqa: E731
            self._prober = begin_probing(self._loop, self._task, self._record, is_frozen)
        self._loop.watch(self._init.error_fd, self._upon_exec)
        self._set_state(
            self._state._replace(status=RUNNING, pid=self._init.pid, started_ns=time.time_ns())
        )

    def signal(self, number: int, *, is_to_end: bool) -> None:
        """Send a signal to init; the attempt is on record first, and that it is to stay ended.

        `is_to_end`: it is meant so, whichever signal it is.
        """
        from docklock.supervisor.restarting import is_stop

        if is_to_end or is_stop(number, self._container):
            self._set_state(self._state._replace(is_stopped_by_user=True))
        if self._init is None or self._exit_code is not None:
            raise StateError("container is not running")
        self._send(number)
        if self._state.is_frozen:
            self.steer().thaw_for(number)

    def add_listener(self, listener: int, argv: list[str]) -> None:
        """Serve the listener of an exec'd process."""
        if self._state.status != RUNNING:
            os.close(listener)
            raise StateError(f"container is {self._state.status}, not running")
        vector = b"".join(word.encode("utf-8", "surrogateescape") + b"\0" for word in argv)
        self._record("runtime.exec", values=(("argv", vector),))
        assert self._gates is not None
        self._gates.add(listener)

    def flush(self, upon_done: Callable[[], None]) -> None:
        """Call `upon_done` once every receipt written so far is durable and signed."""
        assert self._recorder is not None
        self._recorder.add_flush(upon_done)

    def write_input(self, data: bytes) -> None:
        if self._input is not None:
            self._input.write(data)

    def resize(self, rows: int, columns: int) -> None:
        require(self._terminal).resize(rows, columns)

    def deny(self, verb: str, why: str) -> None:
        """A request was refused: on record."""
        self.steer().deny(verb, why)

    def count(self) -> dict[str, Any]:
        """What this run has met of its policy."""
        assert self._recorder is not None
        return {"run": self._task.run, "counts": self._recorder.counts.describe()}

    def update(self, asked: dict[str, Any]) -> None:
        self.steer().update(asked)

    def steer(self) -> Steering:
        """All that is done to a running container besides; not loaded before it is asked for."""
        if self._steering is None:
            from docklock.supervisor.steering import Steering

            assert self._cgroup is not None and self._recorder is not None
            self._steering = Steering(
                self._loop,
                self._task,
                self._cgroup,
                self._recorder,
                self._record,
                lambda: self._state,
                self._set_state,
            )
        return self._steering

    # -- the life of a run --

    def create(self) -> None:
        """Make everything up to the waiting init. Raises; `finish` then undoes."""
        container, spec = self._container, self._task.spec
        limits = spec.linux.resources
        place = locate_cgroup(container.id, spec)
        plan = build_plan(
            spec, container.bundle, overlay=get_overlay(container), cgroup_dirs=place.dirs
        )
        driver.create(place, limits)
        self._cgroup = place
        ends = Ends((0, 1, 2))
        if container.detached_stdio:
            ends = make_ends(stdin_open=container.stdin_open, tty=container.tty)
        self._init = enter.spawn(
            plan,
            cgroup=place,
            stdio=ends.theirs,
            program=self._policy.program,
            seccomp_flags=get_listener_flags(),
        )
        for fd in set(ends.theirs):
            if fd > STDERR:
                os.close(fd)
        self._begin_evidence()
        init, self._init = self._init, None  # await_ready has reaped it if it raises
        warnings = enter.await_ready(init)
        self._init = init
        self._meter = make_meter(place, spec, init.pid, get_overlay(container))
        for warning in warnings:
            self._record("runtime.warning", labels=(("warning", warning),))
        self.output = Output(self._loop, open_log(container, self._directory))
        self._input, self._terminal = connect_stdio(
            self._loop, self.output, ends, container, self._init.pidfd
        )
        if self.control is None:
            self.control = Control(self._loop, self, socket_path(self._paths, container.id))
            self.control.add_client(self._task.channel, attach=True)
        else:
            self.control.move(self._loop, self)
        if self._input is not None:
            self._input.set_upon_full(self.output.tell_full)
        self._loop.watch(self._init.pidfd, self._upon_exit)
        self._set_state(self._state._replace(pid=self._init.pid, cgroup=place.dirs))
        self.control.announce({"event": "created", "pid": self._init.pid})

    def serve(self) -> None:
        """Run until init has exited and its output is delivered."""
        if self._task.is_started_at_once:
            self.start()
        gc.freeze()
        gc.enable()  # main turned it off for the start
        self._loop.run_until(time.monotonic() + WATCH_AFTER_S, self._is_serving)
        if self._is_serving():
            self.steer().begin_watch()
        self._loop.run_while(self._is_serving)
        if self._start_failure is not None:
            raise self._start_failure
        self.output.read_rest()
        deadline = time.monotonic() + DRAIN_LIMIT_S
        while not self.output.is_done and time.monotonic() < deadline:
            self._loop.run_once(0.05)

    def finish(self, error: str = "", error_exit_code: int = EXIT_RUNTIME_ERROR) -> State:
        """Kill what is left, sign the end, remove everything, tell who waits.

        The status it leaves; RESTARTING: lock and control are kept for the next run.
        If a step raises, this process ends and the next docklock command does the rest (repair).
        """
        exit_code = error_exit_code if error else self._exit_code or 0
        container_id = self._container.id
        name = self._container.name if self._steering is None else self._steering.name
        event = {"event": "exit", "exit_code": exit_code, "message": error}
        if self._prober is not None:
            self._prober.close()
        if self._recorder is not None and self._recorder.failure is None:
            self._record_usage()
            self._record_losses()
            self._recorder.request_commit(now=True)  # its thread commits while we kill and remove
        counted = self._kill_rest()
        is_oom = counted.oom_kills > 0
        if self._gates is not None:
            self._gates.kill_worker()
        elif self._task.worker is not None:  # nothing has come of the run that it waits for
            self._task.worker.end()
        is_removed = self._container.auto_remove
        ended = self._describe_end(exit_code, error, is_oom=is_oom)
        is_last = ended.status == STOPPED
        if is_removed:
            discard_files(self._paths, container_id, name)
        if self._recorder is not None:
            if self._steering is not None or any(counted):
                self.steer().close()
            announce = (lambda: self._announce(event)) if is_removed else None
            self._recorder.close(
                exit_code,
                oom=is_oom,
                is_removed=is_removed,
                is_leaving=is_last,
                upon_durable=announce,
            )
        if self._meter is not None:
            self._meter.close()
        if self._cgroup is not None:
            self._cgroup.delete()
        if is_removed:
            remove_files(self._paths, container_id, name)
        else:
            ended = self._add_totals(ended)
            wait_for_room(lambda: self._set_state(ended))
        if self.control is not None:
            self.output.close()
            if is_last:
                self.control.stop_listening()
        if self._gates is not None:
            self._gates.reap_worker()
        if is_last:
            release_live(self._paths, container_id)
        self._announce(event)
        if not is_last:
            self._let_go()
        return ended

    def _describe_end(self, exit_code: int, error: str, *, is_oom: bool) -> State:
        ended = self._state.end(exit_code, error)._replace(oom_killed=is_oom)
        if self._container.auto_remove:
            return ended
        if self._is_leaving:
            return ended._replace(is_cut=True)  # the next mend asks the policy
        from docklock.supervisor.restarting import judge

        return judge(self._paths, self._container.id, ended)

    def _add_totals(self, ended: State) -> State:
        recorder = self._recorder
        if recorder is None:
            return ended
        return ended._replace(
            receipts=recorder.event_count, refused=recorder.counts.count_refused()
        )

    def _let_go(self) -> None:
        """Close what else the process's end would: the next run is in this process."""
        if self._gates is not None:
            self._gates.close()
        if self._input is not None:
            self._input.close()
        if self._init is not None:
            os.close(self._init.pidfd)
        self._loop.close()

    def _is_serving(self) -> bool:
        return self._exit_code is None and self._start_failure is None

    def _announce(self, event: dict[str, Any]) -> None:
        """Tell everyone who waits, once."""
        if self._is_announced:
            return
        self._is_announced = True
        if self.control is not None:
            self.control.announce(event)
            return
        try:
            send_message(self._task.channel, event)
        except OSError:
            pass  # the front end was killed; the end is on record

    def _warn(self, text: str) -> None:
        if self.control is not None:
            self.control.announce({"event": "warning", "message": text})

    def _kill_rest(self) -> driver.Events:
        """No process of the container is left after this; what the kernel had done to it."""
        if self._init is not None and self._exit_code is None:
            signal.pidfd_send_signal(self._init.pidfd, signal.SIGKILL)
            if self._state.is_frozen:
                self.steer().end_frozen()  # it would never die
            os.waitid(os.P_PIDFD, self._init.pidfd, os.WEXITED)
        if self._cgroup is None:
            return driver.Events(0, 0)
        counted = self._cgroup.count_events()
        self._cgroup.kill()
        return counted

    # -- parts --

    @property
    def is_on_record(self) -> bool:
        """Whether the run's start leaf is written, so that its end will be, too."""
        return self._recorder is not None

    @property
    def _directory(self) -> str:
        return self._paths.container(self._container.id)

    def _begin_evidence(self) -> None:
        recorder = begin_recorder(self._task)
        assert self._cgroup is not None
        gates = Gates(self._loop, self._task, self._cgroup, recorder, self._record)
        self._gates, recorder.release = gates, gates.release
        recorder.upon_stall = self._warn
        self._recorder = recorder
        self._loop.watch(recorder.wakeup_fd, lambda _mask: recorder.upon_commit())

    def _send(self, number: int) -> None:
        assert self._init is not None
        self._record("runtime.signal", labels=(("signal", str(number)),))
        signal.pidfd_send_signal(self._init.pidfd, number)

    def _upon_exec(self, _mask: int) -> None:
        """The program runs (the pipe closed), or the child says why it does not."""
        init = self._init
        assert init is not None and self.control is not None
        self._start_error = os.read(init.error_fd, enter.MESSAGE_MAX_BYTES)
        self._loop.unwatch(init.error_fd)
        init.close()
        if not self._start_error:
            self.control.announce({"event": "started"})

    def _upon_exit(self, _mask: int) -> None:
        init = self._init
        assert init is not None
        if self._loop.is_watched(init.error_fd):
            self._upon_exec(0)
        self._loop.unwatch(init.pidfd)
        self._exit_code = wait_exit_code(init.pidfd)
        error = enter.parse_child_error(self._start_error)
        if error is not None:
            raise error

    def _upon_leaving(self, _mask: int) -> None:
        """SIGTERM: end the container as its user would, which its user does not."""
        assert self._task.leaving is not None
        self._loop.unwatch(self._task.leaving.fd)
        self._is_leaving = True
        if self._state.status != RUNNING or self._init is None or self._exit_code is not None:
            raise StateError("its supervisor was asked to end before it was started")
        from docklock.supervisor.leaving import LEAVE_MAX_S
        from docklock.supervisor.restarting import get_stop_number

        self._send(get_stop_number(self._container))
        if self._state.is_frozen:
            self.steer().thaw_for(signal.SIGKILL)
        self._loop.call_later(LEAVE_MAX_S, self._upon_deadline)

    def _upon_deadline(self) -> None:
        if self._exit_code is None:
            self._send(signal.SIGKILL)

    def _record(
        self,
        op: str,
        *,
        values: tuple[tuple[str, bytes], ...] = (),
        labels: tuple[tuple[str, str], ...] = (),
        decision: int = ALLOWED,
    ) -> None:
        assert self._recorder is not None
        self._recorder.append(
            op, decision=decision, plane=RUNTIME, seen=OBSERVED, values=values, labels=labels
        )

    def _record_usage(self) -> None:
        """What the run has used so far."""
        if self._recorder is not None and self._meter is not None:
            self._recorder.take_attempts()  # what was asked before it is counted before it
            self._recorder.append(
                "runtime.usage",
                decision=ALLOWED,
                plane=RUNTIME,
                seen=OBSERVED,
                usage=self._meter.read(),
            )

    def _record_losses(self) -> None:
        if self.output.lost_lines:
            text = f"{self.output.lost_lines} lines of output are not in its log"
            self._record("runtime.warning", labels=(("warning", text),))

    def _set_state(self, state: State) -> None:
        self._state = state
        write_state(self._paths, self._container.id, state)
