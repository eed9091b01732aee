"""Columns and cells of a table, and which columns a width has room for. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

GAP = 1
"""Blanks between two columns."""
COLUMNS_MAX = 64

TONES = ("", "good", "warn", "bad", "dim", "accent")
"""What a cell's colour says beside its words; never alone."""


class Cell(NamedTuple):
    """Harmless text, and one of TONES."""

    text: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """`priority` 0 is never dropped, a higher one goes first; `grow` is its share of spare room."""

    key: str
    title: str
    width: int
    priority: int = 0
    grow: int = 0
    is_right: bool = False
    widest: int = 1000


def fit_columns(columns: tuple[Column, ...], width: int) -> tuple[tuple[Column, int], ...]:
    """The columns that `width` has room for, in order, with the width that each gets."""
    kept = list(columns[:COLUMNS_MAX])
    while len(kept) > 1 and sum(c.width for c in kept) + GAP * (len(kept) - 1) > width:
        last = max(kept, key=lambda c: (c.priority, columns.index(c)))
        if last.priority == 0:
            break
        kept.remove(last)
    widths = {column.key: column.width for column in kept}
    spare = width - sum(widths.values()) - GAP * (len(kept) - 1)
    if spare > 0:
        _share(kept, widths, spare)
    return tuple((column, widths[column.key]) for column in kept)


def _share(kept: list[Column], widths: dict[str, int], spare: int) -> None:
    """Give spare room to the columns that grow, none beyond its widest."""
    while spare > 0:
        growing = [c for c in kept if c.grow and widths[c.key] < c.widest]
        total = sum(column.grow for column in growing)
        if not total:
            return
        given = 0
        for column in growing:
            more = max(1, spare * column.grow // total)
            more = min(more, column.widest - widths[column.key], spare - given)
            widths[column.key] += more
            given += more
        spare -= given
