"""What a guard is to run: read from the container's directory, at the first start and any later.

Not here: running it (main.py).
"""

from __future__ import annotations

from chainlite.lean import TYPE_CHECKING, NamedTuple
from docklock.bare import socket
from docklock.cgroup import driver
from docklock.evidence.boot import get_boot_id
from docklock.lifecycle import RESTARTING, Container, State, read_container, read_state
from docklock.paths import Paths
from docklock.plan import Overlay
from docklock.runtime import CONFIG, load_container_policy
from docklock.spec import Spec, parse_spec
from docklock.supervisor.leaving import Leaving
from docklock.supervisor.scope import Scope

if TYPE_CHECKING:
    from docklock.policy.load import Compiled


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

    def begin_state(self) -> State:
        """The status at the beginning of this run."""
        state, last = State(run=self.run, boot=get_boot_id().hex()), self.previous
        if last.status != RESTARTING:
            return state
        return state._replace(
            restart_count=last.restart_count, restart_delay_ms=last.restart_delay_ms
        )


def locate_cgroup(container_id: str, spec: Spec) -> driver.Cgroup:
    """The cgroup that the spec names, or else the one named by the container's id."""
    if spec.linux.cgroups_path:
        return driver.locate_path(spec.linux.cgroups_path, container_id)
    return driver.locate_for(container_id, spec.linux.resources)


def get_overlay(container: Container) -> Overlay | None:
    """The container's root: its image's layers and its own upper directory, if it has an image."""
    if not container.layers:
        return None
    own = container.bundle
    return Overlay(container.layers, f"{own}/upper", f"{own}/work")


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
    path = f"{container.bundle}/{CONFIG}"
    with open(path, "rb") as file:
        spec = parse_spec(file.read(), path)
    policy = load_container_policy(paths, container, spec)
    previous = read_state(paths, container_id)
    return Task(paths, container, spec, policy, run, is_started_at_once, channel, live_fd, previous)
