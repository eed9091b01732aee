"""One container: what is known of it now, what it used lately, and whether it is still there. Pure.

Not here: its receipts (events.py), the tables' rows (container_tables.py). Invariants: what was
seen once is kept when the container dies or is removed, and the head says since when it is what was
seen, not what is; a list of containers that could not be read removes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from docklock.console.facts import UNKNOWN, ContainerRow, Details
from tui.view.cells import Cell
from tui.view.history import History
from tui.view.moments import format_age, format_clock
from tui.view.text import make_harmless, make_line
from tui.view.units import write_amount, write_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docklock.console.facts import Anchor, Overview, Verdict
    from tui.view.flowing import Line

NS = 1_000_000_000
PLOTS = (
    ("cpu", "CPU", "%"),
    ("memory", "Memory", "B"),
    ("receipts", "Receipts", "/s"),
    ("denials", "Denials", "/s"),
)
"""What is plotted over time: the history's name, the title, the unit."""
TONES = {"running": "good", "exited": "dim", "paused": "warn", "quarantined": "bad"}
ANCHOR_WORDS = {
    "": "anchored: nowhere yet",
    "host log": "anchored: only this host's log",
    "witnesses": "anchored: cosigned by",
    "block": "anchored: block",
    "server": "anchored: acknowledged by",
}


class ContainerModel:
    """What was seen of one container."""

    def __init__(self, container: str) -> None:
        self.container = container
        self.row: ContainerRow | None = None
        self.details: Details | None = None
        self.at_ns = 0
        self.gone_ns = 0
        self.trouble = ""
        self.histories = {name: History() for name, _, _ in PLOTS}
        self._counted: tuple[int, int, int] | None = None  # at_ns, run, denials

    @property
    def name(self) -> str:
        """Harmless; its id where its name is not known."""
        return make_harmless((self.row.name if self.row else "") or self.container[:12], 60)

    def take_overview(self, overview: Overview) -> None:
        """Its row of a new list, and a point of each plot where it was measured."""
        self.at_ns, self.trouble = overview.at_ns, overview.trouble
        row = next((row for row in overview.containers if row.id == self.container), None)
        if row is None:
            if not overview.trouble and not self.gone_ns:
                self.gone_ns = overview.at_ns
            return
        self.gone_ns = 0
        if self.row is None or row.measured_ns != self.row.measured_ns:
            self._add_points(row, row.measured_ns or overview.at_ns)
        self.row = row

    def take_details(self, details: Details) -> None:
        """Keep what a container had that is no longer there to be asked."""
        if details.trouble and self.details is not None and not details.settings:
            self.details = self.details._replace(trouble=details.trouble)
            return
        self.details = details

    def _add_points(self, row: ContainerRow, at_ns: int) -> None:
        is_running = row.status in ("running", "paused", "quarantined")
        usage = row.usage
        self.histories["cpu"].add(at_ns, usage.cpu_percent if is_running else UNKNOWN)
        self.histories["memory"].add(at_ns, usage.memory_bytes if is_running else UNKNOWN)
        self.histories["receipts"].add(at_ns, row.receipts_per_s)
        self.histories["denials"].add(at_ns, self._compute_denials(row, at_ns))

    def _compute_denials(self, row: ContainerRow, at_ns: int) -> float:
        before, self._counted = self._counted, (at_ns, row.run, row.denials)
        if row.denials < 0 or before is None or before[1] != row.run or at_ns <= before[0]:
            return UNKNOWN
        return max(0, row.denials - before[2]) * NS / (at_ns - before[0])


def write_head(model: ContainerModel, verdicts: Sequence[Verdict], now_ns: int) -> tuple[Line, ...]:
    """Three lines: what it is and its state; its command and use; its evidence."""
    row = model.row
    if row is None:
        words = "is not there" if model.gone_ns else "is being looked at"
        return ((Cell(f"{model.name} {words}", "warn"),), (), ())
    image = make_harmless(row.image, 60)
    first: Line = (
        Cell(f"{model.name}  ", "accent"),
        *_write_state(model, row, now_ns),
        Cell(f"  policy {make_harmless(row.policy.rpartition('/')[2], 40)}"),
        Cell(f"  image {image}  id {make_harmless(row.id[:12], 12)}", "dim"),
    )
    command = make_line(model.details.command, 200) if model.details else ""
    second: Line = (Cell(_write_use(row)), Cell(f"  {command}", "dim"))
    return first, second, _write_evidence(row, verdicts, now_ns)


def _write_state(model: ContainerModel, row: ContainerRow, now_ns: int) -> Line:
    status = make_harmless(row.status, 20)
    cells = [Cell(status, TONES.get(row.status, "warn"))]
    if row.status == "exited":
        code = f" with {row.exit_code}"
        cells.append(Cell(f"{code}, {format_age(row.finished_ns, now_ns)} ago", "dim"))
    elif row.started_ns:
        cells.append(Cell(f" for {format_age(row.started_ns, now_ns)}", "dim"))
    if row.health:
        tone = "bad" if row.health == "unhealthy" else "dim"
        cells.append(Cell(f" {make_harmless(row.health, 20)}", tone))
    if model.gone_ns:
        at = format_clock(model.gone_ns)
        cells = [Cell(f"REMOVED since {at} UTC: below is what was seen", "bad")]
    return tuple(cells)


def _write_use(row: ContainerRow) -> str:
    usage = row.usage
    memory = write_amount(usage.memory_bytes, "B")
    if usage.memory_limit_bytes > 0:
        memory += f" of {write_amount(usage.memory_limit_bytes, 'B')}"
    network = make_harmless(row.network, 60) or "none"
    return f"CPU {write_amount(usage.cpu_percent, '%')}  memory {memory}  network {network}"


def _write_evidence(row: ContainerRow, verdicts: Sequence[Verdict], now_ns: int) -> Line:
    denied = f"  {write_count(row.denials)} of {write_count(row.receipts)} receipts denied  "
    cells = [
        *write_verdict(row.id, verdicts),
        Cell(denied, "warn" if row.denials > 0 else ""),
        write_anchor(row.anchor, now_ns),
    ]
    if row.trouble:
        cells.append(Cell(f"  {make_harmless(row.trouble, 200)}", "bad"))
    return tuple(cells)


def write_verdict(container: str, verdicts: Sequence[Verdict]) -> Line:
    """Whether its evidence holds: broken (where, since when), whole when last checked."""
    own = [one for one in verdicts if one.container in (container, "")]
    broken = next((one for one in own if not one.is_whole), None)
    if broken is not None:
        where = make_harmless(f"{broken.where}: {broken.why}", 200)
        return (Cell(f"✗ BROKEN since {format_clock(broken.since_ns)} UTC at {where}", "bad"),)
    whole = [one for one in own if one.container == container and one.checked_ns]
    if whole:
        at = format_clock(max(one.checked_ns for one in whole))
        return (Cell("✓ whole", "good"), Cell(f" at {at} UTC", "dim"))
    return (Cell("not verified yet", "dim"),)


def write_anchor(anchor: Anchor, now_ns: int) -> Cell:
    """The furthest that its evidence is held, by whom, since when."""
    words = ANCHOR_WORDS.get(anchor.kind, f"anchored: {make_harmless(anchor.kind, 20)}")
    by = f" {make_harmless(anchor.by, 40)}" if anchor.by else ""
    ago = f", {format_age(anchor.at_ns, now_ns)} ago" if anchor.at_ns else ""
    tone = {"": "warn", "host log": "", "witnesses": "good", "block": "good", "server": "good"}
    return Cell(words + by + ago, tone.get(anchor.kind, ""))
