"""tui.view.plot: widths, scale, gaps, peaks, and no glyph above ASCII where there may be none."""

from __future__ import annotations

import math
import random

import pytest

from tests.conftest import get_seed
from tui.view.history import HISTORY_POINTS_MAX, History, Point
from tui.view.plot import (
    ASCII,
    BLOCK,
    BRAILLE,
    NOTHING,
    Curve,
    choose_marks,
    compute_top,
    draw_plot,
)

S = 1_000_000_000


def make_curve(values: list[float], unit: str = "") -> Curve:
    """One value a second."""
    points = tuple(Point(i * S, v) for i, v in enumerate(values))
    return Curve(points, 0, (len(values) - 1) * S, unit)


def get_marks(curve: Curve, width: int, height: int, marks: str) -> list[str]:
    """The curve's lines without the scale."""
    return [line.marks for line in draw_plot(curve, width, height, marks).lines]


def get_bars(values: list[float], height: int = 1) -> list[str]:
    """One column for each value: so narrow that there is no scale."""
    assert len(values) < 10
    return get_marks(make_curve(values), len(values), height, BLOCK)


@pytest.mark.parametrize("marks", [BRAILLE, BLOCK, ASCII])
def test_every_line_is_as_wide_as_asked_whatever_the_points_are(marks: str) -> None:
    rng = random.Random(get_seed())
    strange = [-1.0, math.nan, math.inf, -math.inf, 0.0, 1e300, 5e-324, 1e18]
    for _ in range(300):
        values = [
            rng.choice(strange) if rng.random() < 0.3 else rng.random() * 10 ** rng.randint(-6, 12)
            for _ in range(rng.randint(0, 40))
        ]
        points = tuple(Point(rng.randint(-5, 50) * S, v) for v in values)
        since = rng.randint(-10, 50) * S
        unit = rng.choice(["", "B", "B/s", "/s", "ms", "s", "%", "blocks"])
        curve = Curve(tuple(sorted(points)), since, since + rng.randint(0, 60) * S, unit)
        width, height = rng.randint(0, 60), rng.randint(0, 9)
        plot = draw_plot(curve, width, height, marks)
        assert len(plot.lines) == height
        assert {len(line.scale) + len(line.marks) for line in plot.lines} <= {width}
        assert len(plot.foot) == width


def test_the_scale_ends_at_a_round_number_not_below_the_highest_point() -> None:
    rng = random.Random(get_seed())
    for _ in range(500):
        highest = rng.random() * 10 ** rng.randint(-9, 15)
        top = compute_top(highest, "/s")
        assert highest <= top <= highest * 2.5000001
        assert highest <= compute_top(highest, "s") <= highest * 3.0000001
        assert highest <= compute_top(highest, "ms")
        assert float(f"{top:e}".split("e")[0]) in (1.0, 2.0, 5.0)
        assert math.log2(compute_top(highest, "B")).is_integer()
    assert (compute_top(320, "s"), compute_top(61_000, "ms")) == (600, 120_000)
    assert compute_top(0, "ms") == compute_top(-1, "ms") == compute_top(math.nan, "B") == 1


def test_the_scale_and_the_foot_say_units_and_the_time_shown() -> None:
    curve = make_curve([0.0, 1_500_000.0] * 30 + [3000.0], "B/s")
    plot = draw_plot(curve, 40, 5, BRAILLE)
    assert [line.scale.strip() for line in plot.lines] == ["2 MiB/s", "", "1 MiB/s", "", "0 B/s"]
    assert plot.foot.split() == ["1", "min", "ago", "now"]
    assert (plot.last, plot.highest) == ("2.9 KiB/s", "1.4 MiB/s")


def test_what_nobody_measured_is_a_gap_and_a_measured_zero_is_not() -> None:
    assert get_bars([5, 0, -1, 0, math.nan, 2.5]) == ["█▁ ▁ ▄"]


def test_a_long_silence_is_a_gap_though_nobody_said_so() -> None:
    points = tuple(Point(at * S, 1.0) for at in (0, 1, 2, 3, 12, 13))
    [line] = get_marks(Curve(points, 0, 13 * S), 14, 1, BRAILLE)
    assert line[:4].strip() and line[-2:].strip() and not line[4:9].strip()


def test_points_as_near_as_the_curve_says_are_joined_however_they_are_spaced() -> None:
    points = tuple(Point(at * S, 1.0) for at in (0, 1, 2, 3, 12, 13))
    [line] = get_marks(Curve(points, 0, 13 * S, gap_ns=9 * S), 14, 1, BRAILLE)
    assert line.strip() == line and " " not in line


def test_points_further_apart_than_columns_are_joined() -> None:
    for marks in (BRAILLE, BLOCK, ASCII):
        lines = get_marks(make_curve([1.0, 3.0, 2.0, 8.0]), 40, 4, marks)
        assert all(any(column != " " for column in cells) for cells in zip(*lines, strict=True))


def test_a_steep_line_has_no_holes() -> None:
    curve = make_curve([0.0, 100.0, 0.0, 100.0])
    lines = get_marks(curve, 7, 6, BRAILLE)  # no scale: 14 columns of 24 dots
    dots = ((0x01 | 0x08), (0x02 | 0x10), (0x04 | 0x20), (0x40 | 0x80))
    rows = [any(ord(mark) & dot for mark in line if mark != " ") for line in lines for dot in dots]
    assert len(rows) == 24
    assert all(rows)


def test_a_peak_narrower_than_a_column_is_drawn() -> None:
    values = [1.0] * 1000
    values[497] = 100.0
    for marks in (BRAILLE, BLOCK, ASCII):
        top, *_ = get_marks(make_curve(values), 40, 5, marks)
        assert len(top.strip()) == 1, marks


def test_nothing_measured_is_said_in_words() -> None:
    for curve in (Curve(), make_curve([-1.0, math.nan])):
        plot = draw_plot(curve, 40, 5)
        assert any(NOTHING in line.marks for line in plot.lines)
        assert (plot.last, plot.highest) == ("-", "-")


def test_a_narrow_plot_leaves_out_the_scale_and_keeps_the_curve() -> None:
    lines = draw_plot(make_curve([1.0, 2.0, 3.0], "B/s"), 10, 3, BRAILLE).lines
    assert {line.scale for line in lines} == {""}
    assert any(line.marks.strip() for line in lines)


def test_a_terminal_without_utf_8_gets_ascii_alone() -> None:
    plot = draw_plot(make_curve([1.0, 5.0, 9.0, 0.0] * 9, "ms"), 50, 6, ASCII)
    assert "".join(line.scale + line.marks for line in plot.lines).isascii()
    assert plot.foot.isascii()


@pytest.mark.parametrize(
    ("environ", "marks"),
    [
        ({}, BRAILLE),
        ({"LANG": "C.UTF-8", "TERM": "xterm-256color"}, BRAILLE),
        ({"LANG": "de_AT.utf8"}, BRAILLE),
        ({"LANG": "de_AT.UTF-8", "LC_ALL": "C"}, ASCII),
        ({"LANG": "en_US.ISO-8859-1"}, ASCII),
        ({"LANG": "C.UTF-8", "TERM": "linux"}, ASCII),
    ],
)
def test_the_locale_and_the_terminal_choose_the_marks(environ: dict[str, str], marks: str) -> None:
    assert choose_marks(environ) == marks


def test_history_keeps_the_newest_and_times_rise() -> None:
    history = History()
    for at in range(HISTORY_POINTS_MAX + 50):
        history.add(at, at)
    points = history.get_points()
    assert len(points) == HISTORY_POINTS_MAX
    assert points[-1] == Point(HISTORY_POINTS_MAX + 49, HISTORY_POINTS_MAX + 49)
    history.add(HISTORY_POINTS_MAX + 49, 7)
    assert history.get_points()[-1].value == 7
    assert len(history.get_points()) == HISTORY_POINTS_MAX
    history.add(3, 1)
    assert history.get_points() == (Point(3, 1),)
