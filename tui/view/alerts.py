"""What somebody should look at, as a screen shows it. Pure.

Three say so: the source's alerts, its verdicts, and the app of its own readers. Not here: how any
of them is found. Invariants: critical first, of one level the newest first; a level that is not
known here counts as critical; a level is a word and a sign; no more than ALERTS_MAX are listed, and
a row says how many are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from docklock.console.facts import Alert
from tui.view.cells import Cell, Column
from tui.view.describing import Description, describe, make_pair
from tui.view.moments import format_age, format_day
from tui.view.text import make_harmless

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from docklock.console.facts import Verdict

ALERTS_MAX = 5000
NAME_MAX = 80
WHY_MAX = 300
LEVELS = ("critical", "warning", "info")
LEVEL_CELLS = {
    "critical": Cell("✗ critical", "bad"),
    "warning": Cell("! warning", "warn"),
    "info": Cell("i info", "accent"),
}
FIELDS = ("level", "kind", "subject", "why", "advice")
COLUMNS = (
    Column("level", "LEVEL", 10),
    Column("kind", "KIND", 10, grow=1, widest=14),
    Column("subject", "SUBJECT", 16, grow=1, widest=32),
    Column("since", "SINCE", 8, is_right=True),
    Column("why", "WHY", 30, grow=3),
    Column("advice", "ADVICE", 40, priority=1, grow=3),
)
ALL_WELL = "nothing: no alert, and no check of evidence has failed"
APP_ADVICE = (
    "What is shown of it is old. If it does not go away: docklock info, and docklock top again."
)
BROKEN_ADVICE = (
    "Somebody or something changed evidence. Keep the state directory as it is, write what is "
    "whole (1, then w), and compare with a server's or a witness's copy: docklock verify names "
    "the place."
)


def list_alerts(
    alerts: Iterable[Alert],
    verdicts: Iterable[Verdict] = (),
    troubles: Iterable[tuple[str, str, int]] = (),
    names: Mapping[str, str] | None = None,
) -> list[Alert]:
    """All, the worst first. `troubles` are the app's own: a reader's name, words, since_ns;
    `names` are the containers' by id.

    A verdict that an alert of the source tells as well (same container and words) is told once.
    """
    listed, names = list(alerts), names or {}
    told = {(one.container, one.why) for one in listed}
    for verdict in verdicts:
        why = f"{verdict.where}: {verdict.why}" if verdict.where else verdict.why
        if not verdict.is_whole and not told & {
            (verdict.container, why), (verdict.container, verdict.why),
        }:  # fmt: skip
            listed.append(
                Alert(
                    kind="not whole", level="critical",
                    subject=names.get(verdict.container, verdict.container) or "evidence",
                    why=why, since_ns=verdict.since_ns, container=verdict.container,
                    advice=BROKEN_ADVICE,
                )
            )  # fmt: skip
    listed += (
        Alert("display", "warning", name, why, since_ns, advice=APP_ADVICE)
        for name, why, since_ns in troubles
    )
    listed.sort(key=lambda one: (_get_rank(one), -one.since_ns, one.subject, one.kind, one.why))
    more = len(listed) - ALERTS_MAX
    if more > 0:
        why = f"{more:,} alerts more are not listed"
        note = Alert("display", "warning", "alerts", why, 0, advice="docklock info")
        listed = [note, *listed[:ALERTS_MAX]]
    return listed


def get_id(alert: Alert) -> str:
    """What stays the same while an alert stays: its words may count up."""
    return f"{alert.kind} {alert.subject} {alert.container} {alert.since_ns}"


def make_head(alerts: list[Alert], *, shown: int) -> tuple[Cell, ...]:
    """How many of each level, and how many of them pass the filter."""
    if not alerts:
        return (Cell(f"+ {ALL_WELL}", "good"),)
    counts = [sum(_get_rank(one) == rank for one in alerts) for rank in range(len(LEVELS))]
    cells = [
        Cell(f"{count:,} {LEVEL_CELLS[level].text}", LEVEL_CELLS[level].tone)
        for level, count in zip(LEVELS, counts, strict=True)
        if count
    ]
    if shown < len(alerts):
        cells.append(Cell(f"{shown:,} of {len(alerts):,} shown"))
    return tuple(cells)


def get_cell(alert: Alert, column: str, now_ns: int) -> Cell:
    """One cell of an alert's row."""
    if column == "level":
        return LEVEL_CELLS[LEVELS[_get_rank(alert)]]
    if column == "since":
        return Cell(format_age(alert.since_ns, now_ns), "dim")
    return Cell(make_harmless(str(get_field(alert, column)), WHY_MAX),
                "dim" if column == "advice" else "")  # fmt: skip


def get_field(alert: Alert, field: str) -> str:
    """What a filter looks at."""
    return {
        "level": alert.level, "kind": alert.kind, "subject": alert.subject, "why": alert.why,
    }.get(field, alert.advice)  # fmt: skip


def describe_alert(alert: Alert, now_ns: int) -> Description:
    """One alert in full, with what to do."""
    level = LEVEL_CELLS[LEVELS[_get_rank(alert)]]
    since = f"{format_day(alert.since_ns)} UTC, {format_age(alert.since_ns, now_ns)} ago"
    return describe(
        f"{alert.kind}: {alert.subject}",
        (
            make_pair("level", level.text, level.tone),
            make_pair("kind", alert.kind),
            make_pair("subject", alert.subject),
            make_pair("since", since if alert.since_ns > 0 else "not known"),
            make_pair("why", alert.why),
            make_pair("what to do", alert.advice or "No advice came with it."),
        ),
    )


def _get_rank(alert: Alert) -> int:
    return LEVELS.index(alert.level) if alert.level in LEVELS else 0
