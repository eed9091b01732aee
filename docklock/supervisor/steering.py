"""What is done to a running container besides start and signal, and what its kernel tells of it.

Loaded when it is first needed: no start pays for it. All of it is on record: a receipt of the run,
and a leaf of the host log where no front end has written that.
"""

from __future__ import annotations

from chainlite.lean import TYPE_CHECKING
from docklock.supervisor.denials import Denials
from docklock.supervisor.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.cgroup.driver import Cgroup
    from docklock.evidence.recorder import RunRecorder
    from docklock.supervisor.loop import Loop

LIMITS = {"oom": (), "limit": (("limit", "pids"),)}  # what a report's labels begin with


class Steering:
    """Of one run, from its recorder's begin to its end. `record` writes a receipt of the run."""

    def __init__(
        self, loop: Loop, cgroup: Cgroup, recorder: RunRecorder, record: Callable[..., None]
    ) -> None:
        self._recorder, self._record = recorder, record
        self._watch = Watch(loop, cgroup, self._tell)
        self._denials = Denials(record)

    def begin_watch(self) -> None:
        """Tell at once what the kernel does to the container."""
        self._watch.begin()

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
