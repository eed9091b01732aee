"""Amounts in few characters, with their unit: 4.2 ms, 1.5 MiB, 31k/s, 3 min. Pure.

Not here: whole numbers that a person compares digit by digit (write_count is as near as it gets).
Invariants: a number that nobody knows (facts.UNKNOWN, NaN, infinity) is written NOBODY_KNOWS and
never 0; no answer is longer than AMOUNT_CHARS_MAX.
"""

from __future__ import annotations

import math

NOBODY_KNOWS = "-"
AMOUNT_CHARS_MAX = 12

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_COUNTS = ("", "k", "M", "G", "T", "P")
_SPANS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "us"))
MOST = 1e18  # above it only the sign: no measured thing is as large


def is_known(value: float) -> bool:
    """Whether somebody measured it."""
    return math.isfinite(value) and value >= 0


def write_amount(value: float, unit: str = "") -> str:
    """`unit` is "" (a count), B, s, ms, % or anything else that follows a count, and may end in /s.

    ms and s choose their own size: 90,000 ms are 1.5 min.
    """
    if not is_known(value):
        return NOBODY_KNOWS
    if value >= MOST:
        return f">1e18 {unit}".rstrip()
    if unit in ("s", "ms"):
        return write_span(value / 1000 if unit == "ms" else value)
    if unit == "%":
        return f"{_write_digits(value)}%"
    if unit in ("B", "B/s"):
        number, size = _scale(value, _BYTES, 1024)
        return f"{number} {size}{unit[1:]}"
    number, size = _scale(value, _COUNTS, 1000)
    return f"{number}{size}{'' if unit[:1] in ('', '/') else ' '}{unit}"


def write_span(seconds: float) -> str:
    """A length of time: 250 us, 4.2 ms, 12 s, 3.5 min, 2 h, 9 d."""
    if not is_known(seconds):
        return NOBODY_KNOWS
    if seconds == 0:
        return "0 s"
    for size, name in _SPANS:
        if seconds >= size:
            return f"{_write_digits(min(seconds / size, MOST))} {name}"
    return "<1 us"


def write_count(count: int) -> str:
    """All digits: 4,031; above a billion as write_amount has it."""
    if count < 0:
        return NOBODY_KNOWS
    return f"{count:,}" if count < 1_000_000_000 else write_amount(count)


def _scale(value: float, sizes: tuple[str, ...], step: int) -> tuple[str, str]:
    at = 0
    while value >= step - 0.5 and at < len(sizes) - 1:
        value, at = value / step, at + 1
    return _write_digits(value), sizes[at]


def _write_digits(value: float) -> str:
    """Two digits of what is small, all before the point of what is not."""
    if value >= 1e6:
        return f"{value:.0e}".replace("e+0", "e").replace("e+", "e")
    if value >= 9.95 or value == int(value):
        return f"{value:.0f}"
    return (f"{value:.1f}" if value >= 0.095 else f"{value:.2f}").removesuffix(".0")
