"""The way of a receipt up to what anchors it, drawn: boxes, one above the other. Pure.

Not here: the facts (docklock.console.facts.ProofStep) and whether they hold (Evidence). The receipt
is above and what anchors it below; each box is one step, between them stand the hashes that the
step's own is joined with. Where there is no room for that the boxes share their borders and the
hashes are shortened: seven steps are then 15 lines. A step's state is a word in its border, HELD,
BROKEN or not checked, so that the drawing reads the same without colours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.view.cells import Cell
from tui.view.lines import NAME_CHARS_MAX, fit, wrap
from tui.view.text import make_harmless
from tui.view.wrapping import get_width

if TYPE_CHECKING:
    from docklock.console.facts import ProofStep
    from tui.view.flowing import Line

WIDTH_MIN, WIDTH_MAX = 40, 110
STEPS_MAX = 32
PATH_DRAWN_MAX = 8
"""Hashes of one step that are drawn; the count of the others is said."""
PATH_SHORT_MAX = 3
PATH_CHARS_MAX = 128
FIELDS_MAX = 12
WHY_LINES_MAX = 4
HASH_CHARS_SHORT = 10
WORDS = {True: ("HELD", "good"), False: ("BROKEN", "bad"), None: ("not checked", "warn")}
SIGNS = {True: "✓", False: "✗", None: "·"}


def draw_proof(steps: tuple[ProofStep, ...], width: int, height: int) -> tuple[Line, ...]:
    """The drawing, `width` characters wide at most; the roomy one if `height` lines hold it."""
    width = max(WIDTH_MIN, min(width, WIDTH_MAX))
    if not steps:
        return ((Cell("no proof: this source has none for this receipt", "warn"),),)
    shown = steps[:STEPS_MAX]
    roomy = _draw_roomy(shown, width)
    return roomy if len(roomy) <= height else _draw_dense(shown, width)


def describe_steps(steps: tuple[ProofStep, ...]) -> str:
    """As "4 held, 1 broken, 2 not checked"."""
    counts = [
        (sum(step.is_held is state for step in steps), word.lower())
        for state, (word, _) in WORDS.items()
    ]
    return ", ".join(f"{count} {word}" for count, word in counts if count)


def _draw_roomy(steps: tuple[ProofStep, ...], width: int) -> tuple[Line, ...]:
    lines: list[Line] = []
    for number, step in enumerate(steps):
        middle = "┴" if number else "─"
        lines.append(_draw_border("╭", middle, "╮", step, width))
        named = [(make_harmless(name, NAME_CHARS_MAX), text) for name, text in step.fields]
        left = max((get_width(name) for name, _ in named[:FIELDS_MAX]), default=0) + 1
        for name, text in named[:FIELDS_MAX]:
            lines.append(_draw_inside([Cell(fit(name, left), "dim"), Cell(text)], width))
        lines += _draw_why(step, width)
        if number == len(steps) - 1:
            lines.append((Cell("╰" + "─" * (width - 2) + "╯"),))
            break
        lines.append((Cell("╰" + _put(width - 2, "┬") + "╯"),))
        lines += _draw_trunk(steps[number + 1].path, width)
    return tuple(lines)


def _draw_trunk(path: tuple[str, ...], width: int) -> list[Line]:
    """The hashes that come in from the side, on their way from one box to the next."""
    left = (width - 2) // 2 + 1
    lines: list[Line] = []
    for hash_ in path[:PATH_DRAWN_MAX]:
        text = make_harmless(hash_, PATH_CHARS_MAX)
        short = text if get_width(text) <= left - 6 else fit(text, left - 6)
        lines.append((Cell(" " * (left - 4 - get_width(short)) + short, "dim"), Cell(" ───┤")))
    if len(path) > PATH_DRAWN_MAX:
        more = f"and {len(path) - PATH_DRAWN_MAX} hashes more"
        lines.append((Cell(more.rjust(left - 4), "dim"), Cell(" ───┤")))
    return lines or [(Cell(" " * left + "│"),)]


def _draw_dense(steps: tuple[ProofStep, ...], width: int) -> tuple[Line, ...]:
    lines: list[Line] = []
    for number, step in enumerate(steps):
        ends = "├┤" if number else "┌┐"
        lines.append(_draw_border(ends[0], "─", ends[1], step, width))
        inside = [Cell(_shorten_path(step.path), "dim")] if step.path else []
        for name, text in step.fields[:FIELDS_MAX]:
            words = f"{'  ' if inside else ''}{make_harmless(name, NAME_CHARS_MAX)} "
            inside += [Cell(words, "dim"), Cell(_shorten(text))]
        if inside or not step.why:
            lines.append(_draw_inside(inside or [Cell("")], width))
        lines += _draw_why(step, width)
    lines.append((Cell("└" + "─" * (width - 2) + "┘"),))
    return tuple(lines)


def _draw_border(left: str, middle: str, right: str, step: ProofStep, width: int) -> Line:
    """A box's upper edge, with its title at the left and its state at the right."""
    word, tone = WORDS[step.is_held]
    state = f" {SIGNS[step.is_held]} {word} "
    title = make_harmless(f"{step.kind}: {step.title}" if step.title else step.kind, width)
    room = width - len(state) - 8
    title = f" {title if get_width(title) <= room else fit(title, room)} "
    edge = ["─"] * (width - 4 - get_width(title) - len(state))
    at = (width - 2) // 2 - 1 - get_width(title)
    if 0 <= at < len(edge):
        edge[at] = middle
    ends = Cell(left + "─"), Cell("─" + right)
    return ends[0], Cell(title, "accent"), Cell("".join(edge)), Cell(state, tone), ends[1]


def _draw_inside(cells: list[Cell], width: int) -> Line:
    """One line of a box; what is too long is cut, and says so."""
    room = width - 4
    made: list[Cell] = []
    for cell in cells:
        text = make_harmless(cell.text, max(1, room * 2))
        text = text if get_width(text) <= room else fit(text, max(0, room))
        made.append(cell._replace(text=text))
        room -= get_width(text)
    return Cell("│ "), *made, Cell(" " * room + " │")


def _draw_why(step: ProofStep, width: int) -> list[Line]:
    """Why a step is broken, in as many lines as it takes; of another one its first."""
    if not step.why:
        return []
    tone, most = ("bad", WHY_LINES_MAX) if step.is_held is False else ("dim", 1)
    lines = wrap(step.why, width - 4, limit=(width - 4) * most)
    return [_draw_inside([Cell(line[0].text, tone)], width) for line in lines[:most]]


def _put(width: int, mark: str) -> str:
    at = width // 2
    return "─" * at + mark + "─" * (width - at - 1)


def _shorten(text: str) -> str:
    """A hash by its first characters; any other text as it is."""
    is_hash = len(text) >= 32 and all(char in "0123456789abcdef" for char in text)
    return text[:HASH_CHARS_SHORT] + "…" if is_hash else text


def _shorten_path(path: tuple[str, ...]) -> str:
    shown = " ".join(f"+{_shorten(hash_)}" for hash_ in path[:PATH_SHORT_MAX])
    more = len(path) - PATH_SHORT_MAX
    return shown + (f" +{more} more" if more > 0 else "")
