"""The times that --since, --until and the filter `until` take, in all of Docker's forms. Pure.

A time without a zone is of this host's. Not here: durations alone (docklock.health), how times are
shown. Source: docker.com, reference of `docker logs`; moby, api/types/time/timestamp.go.
"""

from __future__ import annotations

from datetime import datetime

from chainlite.errors import SpecError
from docklock.health import parse_duration_ns

NANOSECONDS = 1_000_000_000
DAY_NS = 86_400 * NANOSECONDS
DAYS_MAX = 99_999
SECONDS_DIGITS_MAX = 12
_DATE_CHARS = len("2006-01-02")


def parse_moment(option: str, word: str, now_ns: int) -> int:
    """Unix ns of 1h30m or 1d ago (-10m: to come), of Unix seconds, of an RFC 3339 time or date."""
    if word[-1:] in ("s", "m", "h", "d"):
        ahead = word.removeprefix("-")
        ago_ns = _parse_ago(option, ahead)
        return now_ns - ago_ns if ahead == word else now_ns + ago_ns
    whole, dot, part = word.partition(".")
    if (whole + part).isdigit() and word.isascii() and len(whole) <= SECONDS_DIGITS_MAX:
        return int(whole or "0") * NANOSECONDS + _parse_fraction(part)
    head, dot, rest = word.replace(" ", "T", 1).partition(".")
    part = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    zone = rest[len(part) :]
    if head[_DATE_CHARS:].startswith(("Z", "+", "-")):  # a date with a zone
        head, zone = head[:_DATE_CHARS] + "T00", head[_DATE_CHARS:]
    try:
        if dot and not part:
            raise ValueError(word)
        moment = datetime.fromisoformat(head + zone).astimezone()
    except (ValueError, OverflowError):
        why = "want 10m, a Unix time or an RFC 3339 time"
        raise SpecError(f"{option} {word}: {why}") from None
    return int(moment.timestamp()) * NANOSECONDS + _parse_fraction(part)


def _parse_ago(option: str, word: str) -> int:
    days = word.removesuffix("d")
    if days != word and days.isascii() and days.isdigit() and int(days[:9]) <= DAYS_MAX:
        return int(days) * DAY_NS
    return parse_duration_ns(option, word)


def _parse_fraction(digits: str) -> int:
    return int(digits[:9].ljust(9, "0"))
