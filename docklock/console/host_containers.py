"""The containers of this host: what runs, and what it uses.

Not here: their records (host_records), the newest lines of their logs (host_output). An agent is
not needed; whether one runs is shown.
Invariant: a look ends when its time is up, however many containers there are; those that are on
the screen come first, and the others in turn.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from docklock.agent.lock import find_agent
from docklock.console.facts import ContainerRow, Details, Overview
from docklock.console.host_output import read_newest_lines
from docklock.console.host_records import Record, Records
from docklock.lifecycle import RUNNING, STOPPED

if TYPE_CHECKING:
    from docklock.console.facts import LogLine
    from docklock.paths import Paths

FIRST_LOOK_NS = 300_000_000
"""For the first look, and others until each container was looked at once."""
LOOK_NS = 10_000_000
APP_LABELS = ("app", "com.docker.compose.project")


class HostContainers:
    """The part of a source. One thread at a time, not always the same."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._records = Records(paths)
        self._is_first = True

    def read_overview(self, focus: tuple[str, ...] = ()) -> Overview:
        """All containers; those of `focus` are looked at first."""
        now_ns = time.time_ns()
        records = self._records
        budget_ns = FIRST_LOOK_NS if self._is_first else LOOK_NS
        records.look(focus, time.monotonic_ns() + budget_ns)
        known = list(records.known.values())
        unread = sum(record.container is None for record in known)
        self._is_first = bool(unread)
        rows = tuple(make_row(record, now_ns) for record in known)
        running = sum(record.state.status == RUNNING for record in known)
        return Overview(
            at_ns=now_ns,
            agent="up" if find_agent(self._paths) else "none",
            containers=rows,
            running=running,
            trouble=f"{len(known) - unread:,} of {len(known):,} containers read" if unread else "",
        )

    def read_details(self, container: str) -> Details:
        """All else about one. StateError if there is none."""
        record = self._records.find(container)
        assert record.container is not None
        return Details(make_row(record, time.time_ns()), command=record.container.command)

    def read_log(self, container: str, limit: int) -> tuple[LogLine, ...]:
        """Its newest lines, oldest first."""
        return read_newest_lines(f"{self._paths.container(container)}/container.log", limit)


def make_row(record: Record, now_ns: int) -> ContainerRow:
    """What a record says."""
    container, state = record.container, record.state
    if container is None:
        return ContainerRow(record.id, record.id[:12])
    return ContainerRow(
        id=record.id,
        name=container.name,
        image=container.image,
        app=get_app(dict(container.labels), container.name),
        status="exited" if state.status == STOPPED else state.shown,
        exit_code=state.exit_code,
        run=state.run,
        created_ns=container.created_ns,
        started_ns=state.started_ns,
        finished_ns=state.finished_ns,
        policy=container.policy,
        network=container.network,
        trouble=record.trouble or state.error,
        measured_ns=now_ns,
    )


def get_app(labels: dict[str, str], name: str) -> str:
    """What it is shown under: a label that says so, else the name that the notary bills by."""
    return next((labels[key] for key in APP_LABELS if labels.get(key)), name)
