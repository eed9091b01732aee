"""What a guard is to run: read from the container's directory, at the first start and any later.

And what it does on that alone: log the run's start. Not here: running it (main.py).
"""

from __future__ import annotations

from chainlite.lean import TYPE_CHECKING, NamedTuple
from docklock.bare import socket
from docklock.cgroup import driver
from docklock.evidence.boot import get_boot_id
from docklock.lifecycle import RESTARTING, Container, State, read_container, read_state
from docklock.log_settings import JOURNALD, decode_log
from docklock.paths import Paths
from docklock.plan import Overlay
from docklock.runtime import load_container_policy, read_spec
from docklock.spec import Spec
from docklock.supervisor.leaving import Leaving
from docklock.supervisor.logfile import LogFile
from docklock.supervisor.scope import Scope

if TYPE_CHECKING:
    from docklock.evidence.recorder import RunRecorder
    from docklock.policy.load import Compiled
    from docklock.supervisor.logfile import Log
    from docklock.supervisor.worker import Worker


class Task(NamedTuple):
    """All that a supervisor needs to know. `run` is this run's number, from 0."""

    paths: Paths
    container: Container
    spec: Spec
    policy: Compiled
    run: int
    is_started_at_once: bool
    channel: socket.socket  # to the creator
    live_fd: int  # the container's lock
    previous: State = State()  # as the run before left it; RESTARTING: this is no user's start
    leaving: Leaving | None = None
    scope: Scope | None = None  # whose answer this run has to read
    worker: Worker | None = None  # forked already, for this run

    def begin_state(self) -> State:
        """The status at the beginning of this run."""
        last, policy = self.previous, self.policy.digest.hex()
        state = State(run=self.run, boot=get_boot_id().hex(), policy=policy)
        if last.status != RESTARTING:
            return state
        return state._replace(
            restart_count=last.restart_count,
            restart_delay_ms=last.restart_delay_ms,
            exit_code=last.exit_code,
            finished_ns=last.finished_ns,
        )


def locate_cgroup(container_id: str, spec: Spec) -> driver.Cgroup:
    """The cgroup that the spec names, or else the one named by the container's id."""
    if spec.linux.cgroups_path:
        return driver.locate_path(spec.linux.cgroups_path, container_id, spec.linux.resources)
    return driver.locate_for(container_id, spec.linux.resources)


def get_overlay(container: Container) -> Overlay | None:
    """The container's root: its image's layers and its own upper directory, if it has an image."""
    if not container.layers:
        return None
    own = container.bundle
    return Overlay(container.layers, f"{own}/upper", f"{own}/work")


def open_log(container: Container, directory: str) -> Log | None:
    """Where its output is kept, in its directory or elsewhere; None for nowhere."""
    settings = decode_log(container.log)
    file = LogFile(f"{directory}/container.log", settings) if settings.has_file else None
    if settings.driver != JOURNALD:
        return file
    from docklock.supervisor.journald import JournalLog

    return JournalLog(container, settings, file)


def read_task(
    paths: Paths,
    container_id: str,
    run: int,
    *,
    is_started_at_once: bool,
    channel: socket.socket,
    live_fd: int,
) -> Task:
    """What the container's directory says about it."""
    container = read_container(paths, container_id)
    spec = read_spec(container)
    policy = load_container_policy(paths, container, spec)
    previous = read_state(paths, container_id)
    return Task(paths, container, spec, policy, run, is_started_at_once, channel, live_fd, previous)


def begin_recorder(task: Task) -> RunRecorder:
    """Log the run's start durably, and record from now on. StateError if that cannot be."""
    from docklock.capture.gate import get_rule_texts, has_holds
    from docklock.evidence.recorder import RunRecorder

    container, policy = task.container, task.policy
    return RunRecorder.begin(
        task.paths,
        container_id=container.id,
        run=task.run,
        app=container.name,
        image_digest=container.image_id,
        policy_digest=policy.digest,
        closed=policy.closed,
        sign_each=container.sign == "each",
        rules=get_rule_texts(policy),
        has_holds=has_holds(policy),
    )
