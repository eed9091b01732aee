"""The lists of one container: processes, files, network, policy, settings, output. Pure.

Not here: its head and its plots (container.py), its receipts (events.py). Each list says how much
of it was cut off where it was read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tui.view.cells import Cell, Column
from tui.view.lines import wrap, write_fields
from tui.view.moments import format_age, format_clock
from tui.view.text import make_harmless
from tui.view.units import write_amount, write_count, write_span
from tui.view.wrapping import get_width

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docklock.console.facts import Details, LogLine, RuleHits
    from tui.view.flowing import Line


class Row(NamedTuple):
    """A line of a list: what it is called for good, and a cell for each column."""

    key: str
    cells: dict[str, Cell]


TEXT_CHARS_MAX = 400
LOG_LINES_MAX = 2_000
LOG_CHARS_MAX = 2_000
CHANGES = {"A": "A added", "C": "C changed", "D": "D removed"}

PROCESS_COLUMNS = (
    Column("pid", "PID", 7, is_right=True),
    Column("parent", "PARENT", 7, 2, is_right=True),
    Column("user", "USER", 8, 1),
    Column("age", "AGE", 6, 1, is_right=True),
    Column("cpu", "CPU TIME", 9, is_right=True),
    Column("memory", "MEMORY", 9, is_right=True),
    Column("command", "COMMAND", 20, grow=1),
)
FILE_COLUMNS = (
    Column("kind", "CHANGE", 9),
    Column("size", "SIZE", 9, 1, is_right=True),
    Column("path", "PATH", 20, grow=1),
)
NETWORK_COLUMNS = (
    Column("what", "WHAT", 12),
    Column("local", "LOCAL", 21, grow=1, widest=50),
    Column("remote", "REMOTE", 21, grow=1, widest=50),
    Column("state", "STATE", 22),
)
RULE_COLUMNS = (
    Column("hits", "HITS", 8, is_right=True),
    Column("action", "ACTION", 14),
    Column("line", "LINE", 5, 1, is_right=True),
    Column("rule", "RULE", 20, grow=1),
)


def list_processes(details: Details, now_ns: int) -> list[Row]:
    """In the order they were read."""
    return [
        Row(
            str(one.pid),
            {
                "pid": Cell(str(one.pid), "accent"),
                "parent": Cell(str(one.parent), "dim"),
                "user": Cell(make_harmless(one.user, 32)),
                "age": Cell(format_age(one.started_ns, now_ns)),
                "cpu": Cell(write_span(one.cpu_s)),
                "memory": Cell(write_amount(one.memory_bytes, "B")),
                "command": Cell(make_harmless(one.command, TEXT_CHARS_MAX)),
            },
        )
        for one in details.processes
    ]


def list_files(details: Details) -> list[Row]:
    """What the container changed."""
    return [
        Row(
            f"{number}",
            {
                "kind": Cell(CHANGES.get(one.kind) or make_harmless(one.kind, 9), "accent"),
                "size": Cell(write_amount(one.size_bytes, "B")),
                "path": Cell(make_harmless(one.path, TEXT_CHARS_MAX)),
            },
        )
        for number, one in enumerate(details.files)
    ]


def list_network(details: Details) -> list[Row]:
    """Interfaces with what went through them, then the sockets."""
    rows = []
    for name, received, sent in details.interfaces:
        words = f"in {write_amount(received, 'B')} out {write_amount(sent, 'B')}"
        rows.append(("interface", make_harmless(name, 40), "", words))
    for one in details.connections:
        peers = make_harmless(one.local, 64), make_harmless(one.remote, 64)
        rows.append((make_harmless(one.protocol, 12), *peers, make_harmless(one.state, 24)))
    keys = ("what", "local", "remote", "state")
    return [
        Row(f"{number}", {key: Cell(text) for key, text in zip(keys, row, strict=True)})
        for number, row in enumerate(rows)
    ]


def list_rules(details: Details) -> list[Row]:
    """The policy, from its first rule; one that refused something stands out."""
    return [
        Row(
            f"{number}",
            {
                "hits": Cell(write_count(one.hits), "warn" if _is_refusing(one) else ""),
                "action": Cell(make_harmless(one.action, 30), "accent"),
                "line": Cell(str(one.line) if one.line else "", "dim"),
                "rule": Cell(make_harmless(one.text, TEXT_CHARS_MAX)),
            },
        )
        for number, one in enumerate(details.rules)
    ]


def _is_refusing(rule: RuleHits) -> bool:
    return rule.hits > 0 and rule.action.startswith(("deny", "kill", "closed"))


def write_settings(details: Details, width: int) -> tuple[Line, ...]:
    """The command and all settings, names beside values."""
    command = " ".join(make_harmless(word, TEXT_CHARS_MAX) for word in details.command[:100])
    return tuple(write_fields([("command", command), *details.settings], width))


def write_log(lines: Sequence[LogLine], words: str, width: int = 0) -> tuple[Line, ...]:
    """Time, which stream, text; wrapped to `width` if there is one. stderr has a letter."""
    wanted = words.lower().split()
    drawn: list[Line] = []
    for line in lines[-LOG_LINES_MAX:]:
        text = make_harmless(line.text, LOG_CHARS_MAX)
        if not all(word in text.lower() for word in wanted):
            continue
        clock = format_clock(line.time_ns)
        letter = Cell(" e ", "warn") if line.stream == "stderr" else Cell("   ")
        left = get_width(clock) + 3
        parts = wrap(text, max(20, width - left)) if width else [(Cell(text),)]
        drawn.append((Cell(clock, "dim"), letter, *parts[0]))
        drawn += [(Cell(" " * left), *part) for part in parts[1:]]
    return tuple(drawn)


def describe_more(details: Details, what: str, shown: int, count: int) -> str:
    """As "12 of 4,031 shown": with what a filter hides and what was cut off where it was read."""
    more = sum(number for name, number in details.more if name == what)
    return f"{write_count(shown)} of {write_count(count + more)} shown"


def match_rows(rows: Sequence[Row], words: str) -> list[Row]:
    """Those that have each word in some cell."""
    wanted = words.lower().split()
    return [
        row
        for row in rows
        if all(any(word in cell.text.lower() for cell in row.cells.values()) for word in wanted)
    ]
