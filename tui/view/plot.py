"""A curve over time as lines of text: braille dots, blocks, or plain ASCII. Pure.

Not here: colours and the widget (tui.widgets.plot), the points' keeping (tui.view.history).
Invariants: every line is as wide as asked, whatever the points are; the scale begins at 0 and ends
at a round number not below the highest point; what nobody measured is left empty, what measured 0
is not; a peak that is narrower than a column is drawn.
Source: Unicode 15, Braille Patterns (U+2800: dot n is bit n-1; dots 1 2 3 7 are the left column).
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

from tui.view.units import is_known, write_amount, write_span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tui.view.history import Point

BRAILLE, BLOCK, ASCII = "braille", "block", "ascii"
NOTHING = "nothing measured"
CURVE_CELLS_MIN = 8
"""Narrower, and the scale is left out to make room for the curve."""
GAP_SPACINGS = 2.5
"""Points further apart than so many of their usual spacings have a gap between them."""
TERMS_WITHOUT_BRAILLE = frozenset(("linux", "dumb", "vt100", "vt102", "vt220"))

_TIME_UNITS = {"s": 1.0, "ms": 1000.0}
_TIME_TOPS = tuple(
    step * size
    for size, steps in (
        (1, (1, 2, 5, 10, 20, 30)),
        (60, (1, 2, 5, 10, 20, 30)),
        (3600, (1, 2, 6, 12)),
        (86400, (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)),
    )
    for step in steps
)  # above a second people count by sixty

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # [column][row from above]
_BLOCKS = " ▁▂▃▄▅▆▇█"
_ASCII = " _=#"


class Curve(NamedTuple):
    """What is to be drawn: points of a time, the oldest first."""

    points: tuple[Point, ...] = ()
    since_ns: int = 0
    until_ns: int = 0
    unit: str = ""
    gap_ns: int = 0  # points no further apart are joined, whatever GAP_SPACINGS says


class PlotLine(NamedTuple):
    """One line: the scale's words at its left, and the curve."""

    scale: str
    marks: str


class Plot(NamedTuple):
    """The lines from above, the line of times below them, and the two numbers worth a word."""

    lines: tuple[PlotLine, ...]
    foot: str
    last: str
    highest: str


class _Column(NamedTuple):
    """What one column of dots has to show; `is_joined` to the column at its left."""

    low: float
    high: float
    is_joined: bool


def choose_marks(environ: Mapping[str, str]) -> str:
    """ASCII where the locale is not UTF-8 or the terminal is known to have no such glyphs.

    An empty locale counts as UTF-8: what comes over ssh often has none.
    """
    locale = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or "UTF-8"
    if "utf8" not in locale.lower().replace("-", ""):
        return ASCII
    return ASCII if environ.get("TERM") in TERMS_WITHOUT_BRAILLE else BRAILLE


def compute_top(highest: float, unit: str) -> float:
    """The round number that the scale ends at: 1, 2 or 5 times ten's power; bytes: a power of 2.

    Above a second: seconds, minutes, hours or days of a clock.
    """
    if not is_known(highest) or highest <= 0:
        return 1.0
    if unit[:1] == "B":
        return float(2 ** max(0, math.ceil(math.log2(highest))))
    if unit in _TIME_UNITS and highest > _TIME_UNITS[unit]:
        size = _TIME_UNITS[unit]
        return next((top * size for top in _TIME_TOPS if top * size >= highest), highest)
    power = 10.0 ** math.floor(math.log10(highest))
    return next(top for step in (1, 2, 5, 10, 20) if (top := step * power) >= highest)


def draw_plot(curve: Curve, width: int, height: int, marks: str = BRAILLE) -> Plot:
    """`width` and `height` are of the curve with its scale, without the foot."""
    width, height = max(0, width), max(0, height)
    shown = [p for p in curve.points if curve.since_ns <= p.at_ns <= curve.until_ns]
    known = [p.value for p in shown if is_known(p.value)]
    top = compute_top(max(known, default=0.0), curve.unit)
    scale = _write_scale(top, height, curve.unit)
    margin = max(map(len, scale), default=0) + 1
    if width - margin < CURVE_CELLS_MIN:
        scale, margin = [""] * height, 0
    cells = width - margin
    if known:
        columns = _compute_columns(shown, curve, cells * (2 if marks == BRAILLE else 1))
        if marks == BRAILLE:
            drawn = _draw_dots(columns, top, height)
        else:
            drawn = _draw_bars(columns, top, height, _BLOCKS if marks == BLOCK else _ASCII)
    else:
        drawn = _write_nothing(cells, height)
    lines = (
        PlotLine(s.rjust(margin - 1) + " " * bool(margin), d)
        for s, d in zip(scale, drawn, strict=True)
    )
    latest = shown[-1].value if shown else -1.0
    return Plot(
        lines=tuple(lines),
        foot=_write_foot(curve, margin, width),
        last=write_amount(latest, curve.unit),
        highest=write_amount(max(known, default=-1.0), curve.unit),
    )


def _write_scale(top: float, height: int, unit: str) -> list[str]:
    scale = [""] * height
    if height:
        scale[-1] = write_amount(0, unit)
        scale[0] = write_amount(top, unit)
    if height >= 5 and height % 2:
        scale[height // 2] = write_amount(top / 2, unit)
    return scale


def _write_foot(curve: Curve, margin: int, width: int) -> str:
    ago = f"{write_span(max(0, curve.until_ns - curve.since_ns) / 1e9)} ago"
    room = width - margin
    if room < len(ago) + len("now") + 1:
        return " " * width
    return " " * margin + ago + "now".rjust(room - len(ago))


def _write_nothing(cells: int, height: int) -> list[str]:
    empty = [" " * cells] * height
    if height and cells >= len(NOTHING):
        empty[height // 2] = NOTHING.center(cells)
    return empty


def _split(points: Sequence[Point], gap_ns: int) -> list[list[Point]]:
    """The stretches that were measured without a gap."""
    stretches: list[list[Point]] = [[]]
    for point in points:
        before = stretches[-1]
        if not is_known(point.value) or (before and point.at_ns - before[-1].at_ns > gap_ns):
            stretches.append([])
        if is_known(point.value):
            stretches[-1].append(point)
    return [stretch for stretch in stretches if stretch]


def _compute_gap(points: Sequence[Point]) -> int:
    spacings = sorted(b.at_ns - a.at_ns for a, b in itertools.pairwise(points))
    return int(GAP_SPACINGS * spacings[len(spacings) // 2]) if spacings else 0


def _compute_columns(points: Sequence[Point], curve: Curve, count: int) -> list[_Column | None]:
    columns: list[_Column | None] = [None] * count
    last, span = count - 1, max(1, curve.until_ns - curve.since_ns)
    for stretch in _split(points, max(curve.gap_ns, _compute_gap(points))) if count else ():
        at, value = 0, -1.0
        for index, point in enumerate(stretch):
            to = (point.at_ns - curve.since_ns) * last // span
            start = at if index else to
            for column in range(start, to + 1):
                part = (column - start) / (to - start) if to > start else 1.0
                between = value + (point.value - value) * part if index else point.value
                _widen(columns, column, between, is_joined=index > 0 and column > start)
            at, value = to, point.value
    return columns


def _widen(columns: list[_Column | None], at: int, value: float, *, is_joined: bool) -> None:
    old = columns[at]
    columns[at] = (
        _Column(value, value, is_joined)
        if old is None
        else _Column(min(old.low, value), max(old.high, value), old.is_joined or is_joined)
    )


def _draw_dots(columns: list[_Column | None], top: float, height: int) -> list[str]:
    dots, cells = height * 4, [[0] * (len(columns) // 2) for _ in range(height)]
    before = (0, 0)
    for x, column in enumerate(columns if dots else ()):
        if column is None:
            continue
        own = (round(column.low / top * (dots - 1)), round(column.high / top * (dots - 1)))
        low, high = own
        if column.is_joined:  # so that a steep line has no holes
            low, high = min(low, before[1] + 1), max(high, before[0] - 1)
        before = own
        for y in range(low, high + 1):
            row, dot = divmod(dots - 1 - y, 4)
            cells[row][x // 2] |= _DOTS[x % 2][dot]
    return ["".join(chr(0x2800 + bits) if bits else " " for bits in row) for row in cells]


def _draw_bars(columns: list[_Column | None], top: float, height: int, parts: str) -> list[str]:
    most = len(parts) - 1
    levels = [0 if c is None else max(1, round(c.high / top * height * most)) for c in columns]
    return [
        "".join(parts[min(most, max(0, level - most * above))] for level in levels)
        for above in range(height - 1, -1, -1)
    ]
