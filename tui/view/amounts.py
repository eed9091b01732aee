"""Numbers as people read them: bytes, rates, ages, percent. Pure.

Nothing is invented: what nobody knows (docklock.console.facts.UNKNOWN) is a dash.
"""

from __future__ import annotations

NOTHING = "-"
NS = 1_000_000_000

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_AGES = ((86_400 * 365, "y"), (86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def format_bytes(size: float) -> str:
    """As Docker writes sizes: 1.2 GiB."""
    if size < 0:
        return NOTHING
    for unit in _UNITS:
        if size < 1000 or unit == _UNITS[-1]:
            break
        size /= 1024
    return f"{size:.0f} {unit}" if size >= 100 or unit == "B" else f"{size:.1f} {unit}"


def format_byte_rate(rate: float) -> str:
    return NOTHING if rate < 0 else f"{format_bytes(rate)}/s"


def format_percent(share: float) -> str:
    """One digit after the point below 10: 3.4 %, 78 %."""
    if share < 0:
        return NOTHING
    return f"{share:.1f} %" if share < 9.95 else f"{share:.0f} %"


def format_count(count: int) -> str:
    """All digits: 12,345."""
    return NOTHING if count < 0 else f"{count:,}"


def format_short(count: float) -> str:
    """Three digits and a letter: 12.3k."""
    if count < 0:
        return NOTHING
    if count < 1000:
        return f"{count:.0f}"
    for letter in ("k", "M", "G", "T"):
        count /= 1000
        if count < 1000 or letter == "T":
            break
    return f"{count:.1f}{letter}" if count < 100 else f"{count:.0f}{letter}"


def format_rate(rate: float) -> str:
    """Of things a second: 0.4, 7, 12.3k."""
    if rate < 0:
        return NOTHING
    return f"{rate:.1f}" if 0 < rate < 9.95 else format_short(rate)


def format_seconds(seconds: float) -> str:
    """The greatest unit that fits: 3 s, 12 min, 5 h, 3 d."""
    if seconds < 0:
        return NOTHING
    for size, unit in _AGES:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return "0 s"


def format_age(then_ns: int, now_ns: int) -> str:
    """How long ago `then_ns` was; 0 is never."""
    return NOTHING if then_ns <= 0 else format_seconds(max(0, now_ns - then_ns) / NS)


def format_ms(ms: float) -> str:
    if ms < 0:
        return NOTHING
    return f"{ms:.1f} ms" if ms < 10 else f"{ms:.0f} ms"


def format_clock(at_ns: int, *, is_exact: bool = False) -> str:
    """The UTC time of day; `is_exact` with milliseconds."""
    if at_ns <= 0:
        return NOTHING
    seconds = at_ns // NS % 86_400
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{clock}.{at_ns // 1_000_000 % 1000:03}" if is_exact else clock


def format_day(at_ns: int) -> str:
    """Date and time, UTC: 2026-11-29 02:14:07."""
    if at_ns <= 0:
        return NOTHING
    year, month, day = _get_date(at_ns // NS // 86_400)
    return f"{year:04}-{month:02}-{day:02} {format_clock(at_ns)}"


def _get_date(days: int) -> tuple[int, int, int]:
    """The civil date of a day since 1970 (Howard Hinnant, chrono-compatible date algorithms)."""
    shifted = days + 719_468
    era, of_era = divmod(shifted, 146_097)
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    day = of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    return year + era * 400 + (1 if month <= 2 else 0), month, day
