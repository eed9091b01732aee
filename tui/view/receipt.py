"""The Receipt screen: what happened, whether its proof holds, and the way up to its anchor. Pure.

Not here: the drawing of the way (proof.py). Nothing is called verified that was not checked now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.view.cells import Cell
from tui.view.event_text import write_decision, write_values
from tui.view.lines import write_fields
from tui.view.moments import format_clock, format_day
from tui.view.proof import describe_steps, draw_proof
from tui.view.text import make_harmless

if TYPE_CHECKING:
    from docklock.console.facts import Event, ReceiptFacts
    from tui.view.flowing import Line

FIELD_CHARS_MAX = 2_000
"""Of a value: a path of a megabyte says how much of it is not shown."""
WIDE = 132
"""From here on the fields stand beside the proof."""


def write_event_head(event: Event, name: str) -> tuple[Line, ...]:
    """Which receipt of which container, and what it says, in two lines."""
    where = f"receipt {event.run}:{event.event_index} of {make_harmless(name, 60)}"
    when = f"{format_day(event.time_ns)} UTC"
    return (
        (Cell(where, "accent"), Cell(f"  {when}  pid {event.pid}", "dim")),
        (
            Cell(make_harmless(event.op, 64) + " ", "accent"),
            write_decision(event),
            Cell("  " + write_values(event)),
        ),
    )


def write_trouble(where: str, name: str, trouble: str) -> tuple[Line, ...]:
    """A receipt that is not there, or not yet."""
    words = f"cannot be read: {make_harmless(trouble, 300)}" if trouble else "is being read"
    tone = "bad" if trouble else "dim"
    return ((Cell(f"receipt {where} of {make_harmless(name, 60)} ", "accent"), Cell(words, tone)),)


def write_state(facts: ReceiptFacts, checked_ns: int, trouble: str = "") -> Line:
    """Whether the proof holds, as of when; `checked_ns` 0 where nobody checked."""
    counts = describe_steps(facts.steps)
    if trouble:
        words = f"✗ could not be checked: {make_harmless(trouble, 300)}"
        return (Cell(words, "bad"),)
    if facts.is_whole is None or not checked_ns:
        words = f": {counts or 'no proof'}. v verifies it"
        return (Cell("not checked", "warn"), Cell(words, "dim"))
    at = f" (checked {format_clock(checked_ns)} UTC: {counts})"
    if facts.is_whole:
        return (Cell("✓ WHOLE", "good"), Cell(at, "dim"))
    broken = next((step for step in facts.steps if step.is_held is False), None)
    where = f" at {make_harmless(broken.kind, 20)}" if broken else ""
    why = facts.why or (broken.why if broken else "")
    return (Cell(f"✗ BROKEN{where}", "bad"), Cell(f": {make_harmless(why, 300)}"), Cell(at, "dim"))


def write_body(
    facts: ReceiptFacts, width: int, height: int, *, is_wide: bool = False
) -> tuple[Line, ...]:
    """The proof, and all fields below it unless they stand beside it."""
    proof = draw_proof(facts.steps, width, height)
    if is_wide:
        return proof
    fields = write_fields(facts.fields, width, FIELD_CHARS_MAX)
    return (*proof, (), (Cell("All fields", "accent"),), *fields)
