"""The words of `docker images`: sizes, ages and the table.

Not here: reading the store. Source: docker/go-units, size.go and duration.go;
docker/cli, formatter.
"""

from __future__ import annotations

from collections.abc import Sequence

MINUTE, HOUR, DAY, WEEK, MONTH, YEAR = 60, 3600, 86400, 604800, 2592000, 31536000
COLUMN_CHARS_MIN = 10
COLUMN_GAP = 3


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


def show_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Docker's columns: as wide as the widest cell and three more, ten at least."""
    table = [head, *rows]
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
