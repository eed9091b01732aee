"""The Containers screen: which rows there are, in which order, and what each cell says. Pure.

A row is a container, or with the tree an app that its containers stand under. Not here: what is
measured (docklock.console), what is drawn (tui.widgets.table).
"""

from __future__ import annotations

import re
from functools import lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple

from tui.view.cells import Cell, Column
from tui.view.moments import format_age
from tui.view.text import make_harmless
from tui.view.units import is_known, write_amount, write_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from docklock.console.facts import ContainerRow
    from tui.view.filters import Filter

NAME_MAX = 80
CACHED_MAX = 20_000
DIGITS_MAX = 18
_NUMBER = re.compile("[0-9]+")
TROUBLE_MAX = 200
GROUP = "app "
"""An app's row key begins with it; a container's id has no blank."""

COLUMNS = (
    Column("name", "NAME", 14, 0, 3, widest=48),
    Column("host", "HOST", 8, 5, 1, widest=16),
    Column("status", "STATE", 12),
    Column("cpu", "CPU", 6, 1, is_right=True),
    Column("memory", "MEMORY", 8, 1, is_right=True),
    Column("network", "NETWORK", 10, 4, is_right=True),
    Column("receipts_s", "REC/S", 6, 2, is_right=True),
    Column("denials", "DENIED", 6, 0, is_right=True),
    Column("health", "HEALTH", 9, 3),
    Column("anchor", "ANCHORED", 10, 1, 1, widest=30),
    Column("receipts", "RECEIPTS", 11, 7, is_right=True),
    Column("age", "SINCE", 7, 6, is_right=True),
    Column("app", "APP", 8, 8, 1, widest=24),
    Column("image", "IMAGE", 12, 9, 1, widest=40),
    Column("policy", "POLICY", 10, 9, 1, widest=24),
    Column("trouble", "TROUBLE", 7, 2, 4, widest=120),
)
ORDERS = ("name", "status", "cpu", "memory", "network", "receipts_s", "denials", "health", "anchor",
          "receipts", "age", "app", "host", "image", "policy", "trouble")  # fmt: skip
FIELDS = (
    "name", "status", "app", "image", "host", "health", "policy", "anchor", "trouble", "id", "cpu",
    "memory", "network", "receipts_s", "denials", "receipts",
)  # fmt: skip
LARGEST_FIRST = frozenset(
    ("cpu", "memory", "network", "receipts_s", "denials", "receipts", "trouble")
)
"""What a person who sorts by it wants to see the top of."""
ANCHOR_RANKS = {"": 0, "host log": 1, "server": 2, "witnesses": 3, "block": 4}
STATUS_TONES = {
    "running": "good", "paused": "warn", "restarting": "warn", "quarantined": "warn",
    "exited": "dim", "created": "dim",
}  # fmt: skip


class Arrangement(NamedTuple):
    """What the person chose: order, tree, and which apps are folded."""

    order: str = "name"
    is_reversed: bool = False
    is_tree: bool = False
    folded: frozenset[str] = frozenset()


class Line(NamedTuple):
    """A row of the table: a container, or an app with the sums of its containers."""

    key: str
    row: ContainerRow
    depth: int = 0
    members: int = 0  # of an app: its containers
    is_folded: bool = False

    @property
    def is_group(self) -> bool:
        return self.members > 0


def arrange(
    rows: Sequence[ContainerRow], arrangement: Arrangement, found: Filter
) -> tuple[Line, ...]:
    """The rows that pass the filter, in order; with the tree under their apps."""
    if found.terms:
        rows = [row for row in rows if found.is_match(FIELDS, partial(get_field, row), _join(row))]
    ordered = sort_rows(rows, arrangement.order, is_reversed=arrangement.is_reversed)
    if not arrangement.is_tree:
        return tuple(Line(row.id, row) for row in ordered)
    apps: dict[str, list[ContainerRow]] = {}
    for row in ordered:
        apps.setdefault(row.app, []).append(row)
    lines = []
    for app in sorted(apps, key=lambda name: (not name, name)):
        if len(apps[app]) == 1 and apps[app][0].name == app:
            lines.append(Line(apps[app][0].id, apps[app][0]))  # an app only by its own name
            continue
        is_folded = app in arrangement.folded
        summed = sum_rows(app, apps[app])
        lines.append(Line(f"{GROUP}{app}", summed, 0, len(apps[app]), is_folded))
        if not is_folded:
            lines += [Line(row.id, row, 1) for row in apps[app]]
    return tuple(lines)


def _join(row: ContainerRow) -> str:
    """All of a row that a word may be in."""
    texts = (row.name, row.status, row.app, row.image, row.host, row.health, row.policy,
             row.anchor.kind, row.anchor.by, row.trouble, row.id)  # fmt: skip
    return "\n".join(texts).lower()


def sort_rows(
    rows: Iterable[ContainerRow], order: str, *, is_reversed: bool = False
) -> list[ContainerRow]:
    """By a column, ties by name; numbers from the largest, words from the first letter."""
    ordered = sorted(rows, key=lambda row: _get_natural(row.name))
    if order == "name":
        return ordered[::-1] if is_reversed else ordered
    is_down = (order in LARGEST_FIRST) != is_reversed
    ordered.sort(key=_get_sorter(order), reverse=is_down)
    return ordered


@lru_cache(CACHED_MAX)
def _get_natural(name: str) -> str:
    """With its numbers filled up with zeros, so that web-2 comes before web-10."""
    return _NUMBER.sub(lambda found: found[0].zfill(DIGITS_MAX), name[:NAME_MAX])


def _get_sorter(order: str) -> Callable[[ContainerRow], tuple[float, str]]:
    def sort(row: ContainerRow) -> tuple[float, str]:
        if order == "anchor":
            return (ANCHOR_RANKS.get(row.anchor.kind, 0), row.anchor.kind)
        if order == "age":
            return (-(row.started_ns or row.created_ns), "")
        value = get_field(row, order)
        return (0.0, value) if isinstance(value, str) else (value, "")

    return sort


def get_field(row: ContainerRow, field: str) -> str | float:
    """What `/` compares: text, or a number of percent, bytes, bytes/s, receipts/s or pieces."""
    if field == "cpu":
        return row.usage.cpu_percent
    if field == "memory":
        return row.usage.memory_bytes
    if field == "network":
        return _get_network(row)
    if field == "receipts_s":
        return row.receipts_per_s
    if field == "anchor":
        return f"{row.anchor.kind} {row.anchor.by}".strip()
    value: str | float = getattr(row, field)
    return value


def _get_network(row: ContainerRow) -> float:
    rates = (row.usage.received_bytes_per_s, row.usage.sent_bytes_per_s)
    known = [rate for rate in rates if is_known(rate)]
    return sum(known) if known else -1


def sum_rows(app: str, rows: Sequence[ContainerRow]) -> ContainerRow:
    """An app as one row: what its containers use and were refused together."""
    first = rows[0]
    usage = first.usage._replace(
        cpu_percent=_sum(row.usage.cpu_percent for row in rows),
        memory_bytes=int(_sum(row.usage.memory_bytes for row in rows)),
        received_bytes_per_s=_sum(row.usage.received_bytes_per_s for row in rows),
        sent_bytes_per_s=_sum(row.usage.sent_bytes_per_s for row in rows),
    )
    running = sum(row.status == "running" for row in rows)
    unhealthy = sum(row.health == "unhealthy" for row in rows)
    troubled = sum(bool(row.trouble) for row in rows)
    least = min((row.anchor for row in rows), key=lambda a: ANCHOR_RANKS.get(a.kind, 0))
    return first._replace(
        id=f"{GROUP}{app}", name=app or "(no app)", app=app, image="", policy="", host="",
        status=f"{running}/{len(rows)} up", usage=usage, anchor=least,
        health=f"{unhealthy} bad" if unhealthy else "",
        receipts=int(_sum(row.receipts for row in rows)),
        receipts_per_s=_sum(row.receipts_per_s for row in rows),
        denials=int(_sum(row.denials for row in rows)),
        trouble=f"{troubled} with trouble" if troubled else "",
        started_ns=min((row.started_ns for row in rows if row.started_ns), default=0),
    )  # fmt: skip


def _sum(values: Iterable[float]) -> float:
    known = [value for value in values if is_known(value)]
    return sum(known) if known else -1


def get_columns(rows: Sequence[ContainerRow]) -> tuple[Column, ...]:
    """Without the columns that would be empty from top to bottom."""
    has_hosts = len({row.host for row in rows}) > 1
    has_health = any(row.health for row in rows)
    has_apps = any(row.app not in ("", row.name) for row in rows)
    has_trouble = any(row.trouble for row in rows)
    left_out = {
        key
        for key, is_wanted in (
            ("host", has_hosts), ("health", has_health), ("app", has_apps),
            ("trouble", has_trouble),
        )
        if not is_wanted
    }  # fmt: skip
    return tuple(column for column in COLUMNS if column.key not in left_out)


def make_cell(line: Line, column: str, now_ns: int) -> Cell:
    """What one cell says; what nobody knows is a dash."""
    row = line.row
    match column:
        case "name":
            return _make_name(line)
        case "status":
            return _make_status(line)
        case "cpu":
            return Cell(write_amount(row.usage.cpu_percent, "%"))
        case "memory":
            return Cell(write_amount(row.usage.memory_bytes, "B").replace("iB", ""))
        case "network":
            return Cell(write_amount(_get_network(row), "B/s").replace("iB", ""))
        case "receipts_s":
            return Cell(write_amount(row.receipts_per_s))
        case "receipts":
            return Cell(write_count(row.receipts))
        case "denials":
            return Cell(write_amount(row.denials), "bad" if row.denials > 0 else "")
        case "health":
            tone = "bad" if "bad" in row.health or row.health == "unhealthy" else ""
            return Cell(make_harmless(row.health, NAME_MAX), tone)
        case "anchor":
            return _make_anchor(row)
        case "age":
            return Cell(format_age(row.started_ns or row.created_ns, now_ns))
        case "trouble":
            return Cell(make_harmless(row.trouble, TROUBLE_MAX), "bad")
        case _:
            return Cell(make_harmless(str(getattr(row, column)), NAME_MAX), "dim")


def _make_name(line: Line) -> Cell:
    name = make_harmless(line.row.name or line.row.id[:12], NAME_MAX)
    if line.is_group:
        return Cell(f"{'+' if line.is_folded else '-'} {name} ({line.members})", "accent")
    sign = "! " if line.row.trouble else ""
    return Cell(f"{'  ' * line.depth}{sign}{name}", "bad" if line.row.trouble else "")


def _make_status(line: Line) -> Cell:
    row = line.row
    status = make_harmless(row.status, NAME_MAX)
    if row.status == "exited":
        return Cell(f"exited ({row.exit_code})", "warn" if row.exit_code else "dim")
    return Cell(status, STATUS_TONES.get(row.status, ""))


def _make_anchor(row: ContainerRow) -> Cell:
    kind = make_harmless(row.anchor.kind, NAME_MAX)
    by = make_harmless(row.anchor.by, NAME_MAX)
    if not kind:
        return Cell("nothing yet", "dim")
    return Cell(f"{kind} {by}".strip(), "good" if kind in ("block", "witnesses", "server") else "")
