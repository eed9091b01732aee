"""Lines of text in pieces, each with a tone (cells.TONES). Pure.

Not here: what a tone looks like (theme.py) and drawing (widgets/). Every text is harmless before it
is in a line; words say what a tone says, so that a screen without colours says the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from unicodedata import category, east_asian_width

from tui.view.cells import Cell
from tui.view.text import make_harmless

if TYPE_CHECKING:
    from collections.abc import Iterable

Line = tuple[Cell, ...]
PARAGRAPH_CHARS_MAX = 4_000
NAME_CHARS_MAX = 24


def get_text(line: Line) -> str:
    """The line without its tones."""
    return "".join(cell.text for cell in line)


def measure(text: str) -> int:
    """The columns that a text takes: two for a wide letter, none for a mark on one."""
    if text.isascii():
        return len(text)
    return sum(_measure(letter) for letter in text)


def fit(text: str, width: int) -> str:
    """A harmless text cut or filled up to exactly `width` columns; `…` where it was cut."""
    taken = measure(text)
    if taken <= width:
        return text + " " * (width - taken)
    kept, taken = [], 0
    for letter in text:
        if taken + _measure(letter) > width - 1:
            break
        kept.append(letter)
        taken += _measure(letter)
    return "".join(kept) + "…" * (width > 0) + " " * (width - 1 - taken)


def _measure(letter: str) -> int:
    if category(letter) in ("Mn", "Me"):
        return 0
    return 2 if east_asian_width(letter) in "WF" else 1


def wrap(text: str, width: int, tone: str = "", limit: int = PARAGRAPH_CHARS_MAX) -> list[Line]:
    """Text in lines of `width`, broken at blanks where there are any."""
    lines: list[Line] = []
    line = ""
    for word in make_harmless(text, limit).split(" "):
        if line and measure(line) + 1 + measure(word) > width:
            lines.append((Cell(line, tone),))
            line = ""
        line = f"{line} {word}" if line else word
        while measure(line) > width:
            at = next(n for n in range(len(line), 0, -1) if n == 1 or measure(line[:n]) <= width)
            lines.append((Cell(line[:at], tone),))
            line = line[at:]
    return [*lines, (Cell(line, tone),)]


def write_fields(
    fields: Iterable[tuple[str, str]], width: int, limit: int = PARAGRAPH_CHARS_MAX
) -> list[Line]:
    """Names at the left, values beside them, as many lines as a value takes."""
    named = [(make_harmless(name, NAME_CHARS_MAX), text) for name, text in fields]
    left = max((measure(name) for name, _ in named), default=0) + 2
    lines: list[Line] = []
    for name, text in named:
        for number, line in enumerate(wrap(text, max(8, width - left), limit=limit)):
            lines.append((Cell(fit("" if number else name, left), "dim"), *line))
    return lines
