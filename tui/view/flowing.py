"""Short words of a screen's head, put on as few lines as its width needs. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.view.cells import Cell
from tui.view.wrapping import get_width

if TYPE_CHECKING:
    from collections.abc import Iterable

BETWEEN = Cell(" · ", "dim")
Line = tuple[Cell, ...]


def flow(cells: Iterable[Cell], width: int, lines_max: int) -> tuple[Line, ...]:
    """Empty cells are left out; what has no room in `lines_max` lines is left out from the end."""
    lines: list[list[Cell]] = [[]]
    used = 0
    for cell in cells:
        if not cell.text:
            continue
        needed = get_width(cell.text) + (len(BETWEEN.text) if lines[-1] else 0)
        if lines[-1] and used + needed > width:
            if len(lines) == lines_max:
                break
            lines.append([])
            used, needed = 0, get_width(cell.text)
        lines[-1] += [BETWEEN, cell] if lines[-1] else [cell]
        used += needed
    return tuple(map(tuple, lines))
