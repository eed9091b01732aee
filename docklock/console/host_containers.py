"""The containers of this host: what runs, what it uses and records, how far that is held.

Not here: records (host_records), measurements (host_meters), who holds what (host_anchors), the
rest of one container (host_details), the newest lines of its log (host_output).
Invariants: a look costs no more than BUSY_SHARE of the time since the last one, and what is on the
screen; those are measured first, the others in turn; nothing is measured twice within APART_NS
(tests/console/test_host_containers.py).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from docklock.cli.health import read_health
from docklock.console.facts import UNKNOWN, Anchor, ContainerRow, Details, Overview
from docklock.console.host_agent import AgentLook
from docklock.console.host_anchors import Anchors
from docklock.console.host_details import HostDetails
from docklock.console.host_meters import Reading, measure
from docklock.console.host_output import read_newest_lines
from docklock.console.host_records import Record, Records
from docklock.lifecycle import CREATED, RUNNING, STOPPED

if TYPE_CHECKING:
    from docklock.console.facts import LogLine
    from docklock.paths import Paths

APART_NS = 900_000_000
PLACED_APART_NS = 4_000_000_000
FRESH_NS = 3_000_000_000
"""A measurement counts as one of this round for so long."""
BUSY_SHARE = 0.015
LOOK_MIN_NS, LOOK_MAX_NS = 3_000_000, 30_000_000
FIRST_LOOK_NS = 200_000_000
"""For the first look: somebody waits for the first screen, which has some 40 rows."""
UNREAD_LOOK_NS = 500_000_000
"""For the next ones until each container was looked at once: some 5,000."""
HASTY_MIN = 500
"""While more than so many wait to be read, it is not looked up who holds what is at rest."""
FOCUS_MAX = 128
"""More rows than a screen has are looked at in turn."""
APP_LABELS = ("app", "com.docker.compose.project")


class Shown(NamedTuple):
    """A row, and what it was made of."""

    row: ContainerRow
    version: int
    reading: Reading | None = None
    leaf: int | None = None  # where its newest evidence is in the host's log
    placed_ns: int = 0  # when that was looked up
    looked_ns: int = 0


class HostContainers:
    """The part of a source. One thread at a time, not always the same."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._records = Records(paths)
        self._anchors = Anchors(paths)
        self._agent = AgentLook(paths)
        self._details = HostDetails(paths)
        self._shown: dict[str, Shown] = {}
        self._looked_ns = 0

    def read_overview(self, focus: tuple[str, ...] = ()) -> Overview:
        """All containers; those of `focus` are looked at first."""
        now_ns, began_ns = time.time_ns(), time.monotonic_ns()
        self._anchors.refresh()
        self._records.refresh()
        unread = self._records.count_unread()
        share_ns = int(BUSY_SHARE * (began_ns - self._looked_ns))
        until_ns = began_ns + min(LOOK_MAX_NS, max(LOOK_MIN_NS, share_ns))
        unread_ns = began_ns + (UNREAD_LOOK_NS if self._looked_ns else FIRST_LOOK_NS)
        self._looked_ns = began_ns
        for record in self._records.iterate(focus[:FOCUS_MAX], until_ns, unread_ns):
            self._show(record, is_hasty=unread > HASTY_MIN and record.id not in focus)
        known, unread = self._records.known, self._records.count_unread()
        names = self._records.read_names() if unread else {}
        self._shown = {
            one: self._shown.get(one)
            or Shown(ContainerRow(one, names.get(one, one[:12]), self._anchors.host), 0)
            for one in known
        }
        running = [one for one, record in known.items() if record.state.status == RUNNING]
        fresh_ns = began_ns - FRESH_NS
        return Overview(
            at_ns=now_ns,
            host=self._anchors.host,
            agent=self._agent.read(),
            containers=tuple([shown.row for shown in self._shown.values()]),
            running=len(running),
            measured=sum(
                reading is not None and reading.at_ns >= fresh_ns
                for reading in [self._shown[one].reading for one in running]
            ),
            trouble=self._describe_trouble(len(known), unread),
        )

    def read_details(self, container: str) -> Details:
        """All else about one. StateError if there is none."""
        record = self._records.find(container)
        self._show(record)
        assert record.container is not None
        row, command = self._shown[container].row, record.container.command
        return Details(row, command, *self._details.read(record))

    def read_log(self, container: str, limit: int) -> tuple[LogLine, ...]:
        """Its newest lines, oldest first."""
        return read_newest_lines(f"{self._paths.container(container)}/container.log", limit)

    def _describe_trouble(self, count: int, unread: int) -> str:
        if unread:
            return f"{count - unread:,} of {count:,} containers are read"
        return self._anchors.trouble

    def _show(self, record: Record, *, is_hasty: bool = False) -> None:
        """Make its row anew, if there is anything new; without its anchor where there is haste."""
        before, now_ns = self._shown.get(record.id), time.monotonic_ns()
        if before is None or before.version != record.version:
            is_same_run = before is not None and before.row.run == record.state.run
            reading = before.reading if before is not None and is_same_run else None
            row = make_row(record, self._anchors.host)
            before = Shown(row, record.version, reading)
        elif now_ns - before.looked_ns < APART_NS:
            return
        shown = before._replace(looked_ns=0 if is_hasty else now_ns)
        if record.state.status == RUNNING:
            shown = self._measure(record, shown)
        elif shown.leaf is None and record.state.run >= 0 and not is_hasty:
            shown = self._settle(record, shown)
        anchor = self._anchors.find(shown.leaf)
        if anchor.kind != shown.row.anchor.kind or record.state.status == RUNNING:
            shown = shown._replace(row=shown.row._replace(anchor=anchor))
        self._shown[record.id] = shown

    def _measure(self, record: Record, shown: Shown) -> Shown:
        reading = measure(self._paths, record, shown.reading)
        if shown.leaf is None or reading.at_ns - shown.placed_ns >= PLACED_APART_NS:
            place = self._anchors.find_place(record.id, record.state.run)
            leaf = place.leaf if place is not None else None
            shown = shown._replace(leaf=leaf, placed_ns=reading.at_ns)
        row = shown.row._replace(
            usage=reading.usage,
            receipts=reading.receipts,
            receipts_per_s=reading.receipts_per_s,
            denials=reading.refused,
            health=get_health(record),
            measured_ns=time.time_ns(),
        )
        return shown._replace(row=row, reading=reading)

    def _settle(self, record: Record, shown: Shown) -> Shown:
        """A run that has ended: nothing of it changes but who holds it."""
        place = self._anchors.find_place(record.id, record.state.run)
        if place is None:
            return shown
        row = shown.row
        if row.receipts == UNKNOWN:  # its guard could not say, so what was mended does
            row = row._replace(receipts=place.event_count)
        return shown._replace(row=row, leaf=place.leaf)


def make_row(record: Record, host: str) -> ContainerRow:
    """What a record says."""
    container, state = record.container, record.state
    assert container is not None
    return ContainerRow(
        id=record.id,
        name=container.name,
        host=host,
        image=container.image,
        app=get_app(dict(container.labels), container.name),
        status=get_status(record),
        exit_code=state.exit_code,
        run=state.run,
        created_ns=container.created_ns,
        started_ns=state.started_ns,
        finished_ns=state.finished_ns,
        policy=container.policy,
        network=container.network,
        receipts=state.receipts,
        denials=state.refused,
        anchor=Anchor(),
        trouble=record.trouble or state.error,
    )


def get_status(record: Record) -> str:
    """As people read it."""
    state = record.state
    if state.status == STOPPED:
        return "exited"
    return state.shown


def get_health(record: Record) -> str:
    """What its guard has found last; empty without a check."""
    if record.container is None or not record.container.health or record.state.status == CREATED:
        return ""
    try:
        health = read_health(record.container)
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown"
    return health.status if health is not None else ""


def get_app(labels: dict[str, str], name: str) -> str:
    """What it is shown under: a label that says so, else the name that the notary bills by."""
    return next((labels[key] for key in APP_LABELS if labels.get(key)), name)
