"""A receipt as one line of a list. Pure.

Not here: which are shown (events.py). `connect` stands for `syscall.connect`; the Receipt screen
has the whole name. What was refused says so by a word and a sign before it, not by colour alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from docklock.console.facts import Event
from tui.view.cells import Cell, Column
from tui.view.moments import format_clock
from tui.view.text import make_harmless
from tui.view.units import write_count

if TYPE_CHECKING:
    from tui.view.events import Item

EVENT_COLUMNS = (
    Column("index", "RECEIPT", 8, 2, is_right=True),
    Column("time", "TIME (UTC)", 12, 1),
    Column("pid", "PID", 7, 1, is_right=True),
    Column("op", "OP", 12, grow=1, widest=24),
    Column("decision", "DECISION", 15),
    Column("values", "VALUES", 20, grow=6),
)
PREFIX = "syscall."
TONES = {"allowed": "", "denied": "warn", "killed": "bad", "aborted": "bad"}
SIGNS = {"allowed": " ", "denied": "✗", "killed": "✗"}
VALUES_SHOWN = 8
VALUE_CHARS_MAX = 200


def write_item(item: Item) -> dict[str, Cell]:
    """A cell for each of EVENT_COLUMNS; a gap says how many it stands for."""
    if not isinstance(item, Event):
        words = f"{write_count(item.number)} receipts passed over: enter reads the last of them"
        return {"index": Cell("…", "dim"), "op": Cell("…", "dim"), "values": Cell(words, "dim")}
    return {
        "index": Cell(f"{item.run}:{item.event_index}", "dim"),
        "time": Cell(format_clock(item.time_ns, is_exact=True), "dim"),
        "pid": Cell(str(item.pid)),
        "op": Cell(shorten_op(item.op), "accent"),
        "decision": write_decision(item),
        "values": Cell(write_values(item)),
    }


def shorten_op(op: str) -> str:
    """Harmless, and without the prefix that nearly all have."""
    return make_harmless(op.removeprefix(PREFIX), 64)


def write_decision(event: Event) -> Cell:
    """As `✗ denied EPERM`."""
    sign = SIGNS.get(event.decision, "!")
    words = f"{sign} {event.decision} {event.errno}".rstrip()
    return Cell(make_harmless(words, 40), TONES.get(event.decision, "bad"))


def write_values(event: Event) -> str:
    """As `path=/etc sockaddr=10.0.0.1:80`; labels after the values."""
    pairs = (*event.values, *event.labels)
    words = [f"{make_harmless(n, 40)}={make_harmless(t, VALUE_CHARS_MAX)}" for n, t in pairs]
    more = len(words) - VALUES_SHOWN
    return " ".join(words[:VALUES_SHOWN]) + (f" and {more} more" if more > 0 else "")
