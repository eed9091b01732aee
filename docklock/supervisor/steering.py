"""What is done to a running container besides start and signal, and what its kernel tells of it.

Loaded when it is first needed: no start pays for it. All of it is on record: a receipt of the run,
and a leaf of the host log where no front end has written that.
"""

from __future__ import annotations

import os

from chainlite.errors import StateError
from chainlite.lean import TYPE_CHECKING
from docklock.cgroup import driver
from docklock.errors import KernelError
from docklock.lifecycle import check_pause, check_quarantine
from docklock.supervisor.denials import Denials
from docklock.supervisor.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from docklock.evidence.recorder import RunRecorder
    from docklock.kernel.links import Cut, Restored
    from docklock.lifecycle import State
    from docklock.supervisor.loop import Loop
    from docklock.supervisor.task import Task

LIMITS = {"oom": (), "limit": (("limit", "pids"),)}  # what a report's labels begin with


def get_labels(*, is_own: bool, is_quarantined: bool) -> tuple[tuple[str, str], ...]:
    """Of a quarantine, or its end, for the record: `open` is a network that others are in."""
    network = ("cut" if is_quarantined else "up") if is_own else "open"
    return (("state", "quarantined" if is_quarantined else "released"), ("network", network))


class Steering:
    """Of one run, from its recorder's begin to its end. `record` writes a receipt of the run.

    `name` is the container's now.
    """

    def __init__(
        self,
        loop: Loop,
        task: Task,
        cgroup: driver.Cgroup,
        recorder: RunRecorder,
        record: Callable[..., None],
        get_state: Callable[[], State],
        set_state: Callable[[State], None],
    ) -> None:
        self._paths, self._container, self._spec = task.paths, task.container, task.spec
        self._cgroup = cgroup
        self.name = task.container.name
        self._recorder, self._record = recorder, record
        self._get_state, self._set_state = get_state, set_state
        self._watch = Watch(loop, cgroup, self._tell)
        self._denials = Denials(record)
        self._cut: Cut | None = None

    def begin_watch(self) -> None:
        """Tell at once what the kernel does to the container."""
        self._watch.begin()

    def set_paused(self, *, is_paused: bool) -> None:
        """Freeze every process, or thaw them, on record first. StateError, KernelError.

        The loop waits until they are frozen: at most cgroup.driver.FREEZE_MAX_S.
        """
        check_pause(self._get_state(), self._container.id, freeze=is_paused)
        self._record("runtime.pause", labels=(("state", "frozen" if is_paused else "thawed"),))
        if is_paused:
            self._cgroup.freeze()
        else:
            self._cgroup.thaw()
        self._set_state(self._get_state()._replace(is_paused=is_paused))

    def set_quarantined(self, *, is_quarantined: bool) -> None:
        """Freeze every process and cut the network, or undo both, on record first.

        StateError, KernelError: then all is as it was. Links that were down stay down; a network
        that is not the run's own stays as it is. No restart policy starts what is quarantined.
        """
        from docklock.kernel.links import cut_links, restore_links
        from docklock.supervisor.usage import has_own_network

        state, is_own = self._get_state(), has_own_network(self._spec)
        check_quarantine(state, self._container.id, release=not is_quarantined)
        self._record(
            "runtime.quarantine", labels=get_labels(is_own=is_own, is_quarantined=is_quarantined)
        )
        pidfd = os.pidfd_open(state.pid)  # our child: nobody else has that number
        try:
            if not is_quarantined:
                self._release(pidfd, restore_links)
            else:
                self._cgroup.freeze()
                self._cut = cut_links(pidfd) if is_own else None
        except KernelError:
            if is_quarantined and not state.is_paused:
                self._cgroup.thaw()
            raise
        finally:
            os.close(pidfd)
        if not is_quarantined and not state.is_paused:
            self._cgroup.thaw()
        self._set_state(
            state._replace(is_quarantined=is_quarantined, is_stopped_by_user=is_quarantined)
        )

    def _release(self, pidfd: int, restore: Callable[[int, Cut], Restored]) -> None:
        if self._cut is None:
            return
        lost = restore(pidfd, self._cut).lost
        self._cut = None
        if lost:
            text = f"{lost} routes or addresses could not be put back"
            self._record("runtime.warning", labels=(("warning", text),))

    def end_frozen(self) -> None:
        """Have what is frozen die of the signal that it was sent; or all of it, if quarantined."""
        if self._get_state().is_quarantined:
            self._cgroup.kill()  # none of them takes a step more
        else:
            self._cgroup.thaw()

    def thaw_for(self, number: int) -> None:
        """A paused container was sent a signal: one that is to end it does so, as with Docker.

        A quarantined one dies of SIGKILL alone.
        """
        from docklock.signals import parse_signal

        if self._get_state().is_quarantined:
            if number == driver.SIGKILL:
                self.end_frozen()
            return
        if number in (driver.SIGKILL, parse_signal(self._container.stop_signal)):
            self._recorder.log_operation("pause", (("state", "thawed"),))
            self.set_paused(is_paused=False)

    def update(self, asked: dict[str, Any]) -> None:
        """Change limits, on record first, for later runs too; restart policy and policy for those;
        the name.

        ValueError if malformed.

        SpecError, StateError, KernelError: then they are as they were.
        """
        from docklock.cgroup.update import update
        from docklock.update import (
            change_limits,
            check_record,
            parse_change,
            write_config,
            write_record,
        )

        change, container = parse_change(asked), self._container
        check_record(self._paths, container, change)
        spec = change_limits(self._spec, change.limits)
        self._record("runtime.update", labels=change.get_labels())
        old, new = self._spec.linux.resources, spec.linux.resources
        is_own = bool(change.limits) and container.bundle == self._paths.container(container.id)
        update(self._cgroup, old, new)
        try:
            if is_own:
                write_config(container, spec)
            write_record(self._paths, container, change)
        except StateError:
            update(self._cgroup, new, old)
            if is_own:
                write_config(container, self._spec)
            raise
        self._spec = spec
        self.name = change.name or self.name
        self._watch.pace()

    def deny(self, verb: str, why: str) -> None:
        """A request was refused."""
        self._denials.add(verb, why)

    def close(self) -> None:
        """The run ends, its cgroup is still there: write what is not written yet."""
        self._watch.close()
        self._denials.close()

    def _tell(self, kind: str, count: int) -> None:
        labels = (*LIMITS[kind], ("count", str(count)))
        self._record(f"runtime.{kind}", labels=labels)
        self._recorder.log_operation(kind, labels)
