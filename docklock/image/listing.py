"""The words of `docker images`: sizes, ages and the table.

A table that is wider than the terminal has its widest cells cut, ids never. Not here: reading the
store, the terminal's width (docklock.screen). Source: docker/go-units, size.go and duration.go;
docker/cli, formatter.
"""

from __future__ import annotations

from collections.abc import Sequence

from docklock.screen import get_columns

MINUTE, HOUR, DAY, WEEK, MONTH, YEAR = 60, 3600, 86400, 604800, 2592000, 31536000
COLUMN_CHARS_MIN = 10
COLUMN_GAP = 3
COLUMN_CHARS_CUT_MIN = 8  # no column is cut below that, or below its head
CUT = "…"


def show_size(size_bytes: int) -> str:
    """Decimal units and three digits: 4.42MB."""
    size, units = float(size_bytes), ["B", "kB", "MB", "GB", "TB", "PB", "EB"]
    while round(size) >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:.3g}{units[0]}"


def show_age(seconds: int) -> str:
    """How long ago: `2 weeks ago`."""
    return f"{show_duration(seconds)} ago"


def show_duration(seconds: int) -> str:
    """Docker's rough words for a time: `2 weeks`."""
    if seconds < 1:
        return "Less than a second"
    if MINUTE <= seconds < 2 * MINUTE:
        return "About a minute"
    if HOUR <= seconds < 2 * HOUR:
        return "About an hour"
    for limit, unit, word in (
        (MINUTE, 1, "second"),
        (HOUR, MINUTE, "minute"),
        (2 * DAY, HOUR, "hour"),
        (2 * WEEK, DAY, "day"),
        (2 * MONTH, WEEK, "week"),
        (2 * YEAR, MONTH, "month"),
    ):
        if seconds < limit:
            count = seconds // unit
            return f"{count} {word}{'' if count == 1 else 's'}"
    return f"{seconds // YEAR} years"


def show_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, is_whole: bool = False
) -> str:
    """Docker's columns: as wide as the widest cell and three more, ten at least.

    On a terminal they fit, unless `is_whole`.
    """
    table = [head, *rows] if is_whole else fit([head, *rows], get_columns())
    widths = [
        max(COLUMN_CHARS_MIN, COLUMN_GAP + max(len(row[column]) for row in table))
        for column in range(len(head) - 1)
    ]
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        + row[-1]
        + "\n"
        for row in table
    )


def fit(table: list[Sequence[str]], columns: int) -> list[Sequence[str]]:
    """The table with its widest cells cut to `columns`; 0 for no limit. The first row is the head.

    What a user copies is cut last (names) or not at all (ids): then the row is longer than that.
    """
    head = table[0]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    if not columns or _add_up(widths) <= columns:
        return table
    widths = [min(width, columns) for width in widths]
    free = [n for n, word in enumerate(head) if "ID" not in word and "NAME" not in word]
    names = [n for n, word in enumerate(head) if "NAME" in word]
    least = [max(COLUMN_CHARS_CUT_MIN, len(word)) for word in head]
    for chosen in (free, names):
        _shrink(widths, chosen, least, columns)
    return [
        [
            cell if len(cell) <= width else f"{cell[: width - 1]}{CUT}"
            for cell, width in zip(row, widths, strict=True)
        ]
        for row in table
    ]


def _shrink(widths: list[int], chosen: list[int], least: list[int], columns: int) -> None:
    """Make the widest of the chosen columns narrower, one character at a time, until all fit."""
    while _add_up(widths) > columns:
        wide = [column for column in chosen if widths[column] > least[column]]
        if not wide:
            return
        widths[max(wide, key=widths.__getitem__)] -= 1


def _add_up(widths: list[int]) -> int:
    """How long a row is."""
    return sum(max(COLUMN_CHARS_MIN, COLUMN_GAP + width) for width in widths[:-1]) + widths[-1]


def show_created(created: str) -> tuple[str, str]:
    """An RFC 3339 time as Docker prints it, and how long ago that was; N/A when there is none."""
    from datetime import UTC, datetime

    head, dot, rest = created.partition(".")
    zone = rest.lstrip("0123456789") if dot else ""
    try:
        then = datetime.fromisoformat(head + zone).astimezone(UTC)
    except ValueError:
        return "N/A", "N/A"
    age = datetime.now(UTC) - then
    return then.strftime("%Y-%m-%d %H:%M:%S +0000 UTC"), show_age(int(age.total_seconds()))
