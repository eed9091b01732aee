"""Lines of text in pieces, each with a tone (cells.TONES). Pure.

Not here: what a tone looks like (theme.py) and drawing (widgets/). Every text is harmless before it
is in a line; words say what a tone says, so that a screen without colours says the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.view.cells import Cell
from tui.view.text import make_harmless
from tui.view.wrapping import get_width
from tui.view.wrapping import wrap as fold

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tui.view.flowing import Line

PARAGRAPH_CHARS_MAX = 4_000
NAME_CHARS_MAX = 24


def get_text(line: Line) -> str:
    """The line without its tones."""
    return "".join(cell.text for cell in line)


def fit(text: str, width: int) -> str:
    """A harmless text cut or filled up to exactly `width` columns; `…` where it was cut."""
    taken = get_width(text)
    if taken <= width:
        return text + " " * (width - taken)
    kept, taken = [], 0
    for letter in text:
        if taken + get_width(letter) > width - 1:
            break
        kept.append(letter)
        taken += get_width(letter)
    return "".join(kept) + "…" * (width > 0) + " " * (width - 1 - taken)


def wrap(text: str, width: int, tone: str = "", limit: int = PARAGRAPH_CHARS_MAX) -> list[Line]:
    """A paragraph of at most `limit` letters in lines of `width`."""
    return [(Cell(line, tone),) for line in fold(make_harmless(text, limit), width)]


def write_fields(
    fields: Iterable[tuple[str, str]], width: int, limit: int = PARAGRAPH_CHARS_MAX
) -> list[Line]:
    """Names at the left, values beside them, as many lines as a value takes."""
    named = [(make_harmless(name, NAME_CHARS_MAX), text) for name, text in fields]
    left = max((get_width(name) for name, _ in named), default=0) + 2
    lines: list[Line] = []
    for name, text in named:
        for number, line in enumerate(wrap(text, max(8, width - left), limit=limit)):
            lines.append((Cell(fit("" if number else name, left), "dim"), *line))
    return lines
