"""The lists of one container: processes, files, network, policy, settings, output. Pure.

Not here: its head and its plots (container.py), its receipts (events.py). Each list says how much
of it was cut off where it was read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.view.amounts import format_age, format_bytes, format_clock, format_count, format_seconds
from tui.view.cells import Cell, Column
from tui.view.lines import write_fields
from tui.view.text import make_harmless

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docklock.console.facts import Details, FileChange, LogLine, Process, RuleHits
    from tui.view.lines import Line

Cells = dict[str, Cell]
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


def write_process(process: Process, now_ns: int) -> Cells:
    """A cell for each of PROCESS_COLUMNS."""
    return {
        "pid": Cell(str(process.pid), "accent"),
        "parent": Cell(str(process.parent), "dim"),
        "user": Cell(make_harmless(process.user, 32)),
        "age": Cell(format_age(process.started_ns, now_ns)),
        "cpu": Cell(format_seconds(process.cpu_s)),
        "memory": Cell(format_bytes(process.memory_bytes)),
        "command": Cell(make_harmless(process.command, TEXT_CHARS_MAX)),
    }


def write_file(change: FileChange) -> Cells:
    """A cell for each of FILE_COLUMNS."""
    return {
        "kind": Cell(CHANGES.get(change.kind, make_harmless(change.kind, 9)), "accent"),
        "size": Cell(format_bytes(change.size_bytes)),
        "path": Cell(make_harmless(change.path, TEXT_CHARS_MAX)),
    }


def write_network(details: Details) -> list[Cells]:
    """Interfaces with what went through them, then the sockets."""
    rows = [
        {
            "what": Cell("interface", "dim"),
            "local": Cell(make_harmless(name, 40), "accent"),
            "remote": Cell(""),
            "state": Cell(f"in {format_bytes(received)} out {format_bytes(sent)}"),
        }
        for name, received, sent in details.interfaces
    ]
    return rows + [
        {
            "what": Cell(make_harmless(one.protocol, 12)),
            "local": Cell(make_harmless(one.local, 64)),
            "remote": Cell(make_harmless(one.remote, 64)),
            "state": Cell(make_harmless(one.state, 24)),
        }
        for one in details.connections
    ]


def write_rule(rule: RuleHits) -> Cells:
    """A cell for each of RULE_COLUMNS; one that refused something says so."""
    is_refusing = rule.action.startswith(("deny", "kill", "closed")) and rule.hits > 0
    return {
        "hits": Cell(format_count(rule.hits), "warn" if is_refusing else ""),
        "action": Cell(make_harmless(rule.action, 30), "accent"),
        "line": Cell(str(rule.line) if rule.line else "", "dim"),
        "rule": Cell(make_harmless(rule.text, TEXT_CHARS_MAX)),
    }


def write_settings(details: Details, width: int) -> tuple[Line, ...]:
    """The command and all settings, names beside values."""
    command = " ".join(make_harmless(word, TEXT_CHARS_MAX) for word in details.command[:100])
    return tuple(write_fields([("command", command), *details.settings], width))


def write_log_line(line: LogLine) -> Line:
    """Time, which stream, text. stderr says so by its letter."""
    letter = Cell("e ", "warn") if line.stream == "stderr" else Cell("  ")
    text = make_harmless(line.text, LOG_CHARS_MAX)
    return Cell(f"{format_clock(line.time_ns)} ", "dim"), letter, Cell(text)


def describe_more(details: Details, what: str, shown: int, count: int) -> str:
    """As "12 of 4,031 shown": with what a filter hides and what was cut off where it was read."""
    more = sum(number for name, number in details.more if name == what)
    return f"{format_count(shown)} of {format_count(count + more)} shown"


def match_rows(rows: Sequence[Cells], words: str) -> list[Cells]:
    """Those that have each word in some cell."""
    wanted = words.lower().split()
    return [
        row
        for row in rows
        if all(any(word in cell.text.lower() for cell in row.values()) for word in wanted)
    ]
