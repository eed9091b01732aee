"""Moments of Unix ns as people read them: an age, a time of day, a date. Pure.

Not here: lengths of time (tui.view.units). All clocks are UTC, as receipts are; 0 is never.
"""

from __future__ import annotations

from tui.view.units import NOBODY_KNOWS

NS = 1_000_000_000
DAY_S = 86_400

_AGES = ((DAY_S * 365, "y"), (DAY_S, "d"), (3600, "h"), (60, "min"), (1, "s"))


def format_age(then_ns: int, now_ns: int) -> str:
    """How long ago that was, whole units: 3 s, 12 min, 5 h, 3 d. What is to come is 0 s."""
    if then_ns <= 0:
        return NOBODY_KNOWS
    seconds = max(0, now_ns - then_ns) // NS
    for size, unit in _AGES:
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return "0 s"


def format_clock(at_ns: int, *, is_exact: bool = False) -> str:
    """The time of day: 02:14:07; `is_exact` with milliseconds."""
    if at_ns <= 0:
        return NOBODY_KNOWS
    seconds = at_ns // NS % DAY_S
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{clock}.{at_ns // 1_000_000 % 1000:03}" if is_exact else clock


def format_day(at_ns: int) -> str:
    """Date and time: 2026-11-29 02:14:07."""
    if at_ns <= 0:
        return NOBODY_KNOWS
    year, month, day = _get_date(at_ns // NS // DAY_S)
    return f"{year:04}-{month:02}-{day:02} {format_clock(at_ns)}"


def _get_date(days: int) -> tuple[int, int, int]:
    """The civil date of a day since 1970 (Howard Hinnant, chrono-Compatible Low-Level Date
    Algorithms, civil_from_days): years of 365 days begin in March, so that leap days come last.
    """
    shifted = days + 719_468
    era, of_era = divmod(shifted, 146_097)
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    day = of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    return year + era * 400 + (1 if month <= 2 else 0), month, day
