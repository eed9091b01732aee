"""tui.widgets.plot: what is in the attributes is on the screen, at any size."""

from __future__ import annotations

import asyncio

from textual.app import App, ComposeResult

from tui.view.history import Point
from tui.view.plot import ASCII, BRAILLE, NOTHING, Curve
from tui.widgets.plot import PlotView

S = 1_000_000_000
CURVE = Curve(tuple(Point(i * S, i % 7) for i in range(60)), 0, 59 * S, "ms")
HOSTILE = "[red]finality[/red"


class Shown(App[None]):
    def compose(self) -> ComposeResult:
        yield PlotView(HOSTILE, id="plot")


def read_lines(plot: PlotView) -> list[str]:
    return [plot.render_line(y).text for y in range(plot.size.height)]


def test_it_shows_its_attributes_at_any_size() -> None:
    async def look() -> None:
        app = Shown()
        async with app.run_test(size=(80, 24)) as pilot:
            plot = app.query_one(PlotView)
            plot.marks = BRAILLE
            await pilot.pause()
            assert any(NOTHING in line for line in read_lines(plot))
            plot.curve = CURVE
            await pilot.pause()
            lines = read_lines(plot)
            assert lines[0].startswith("[red]fin"), "a title is not markup"
            assert "now 3 ms  highest 6 ms" in lines[0]
            assert lines[1].startswith("10 ms") and lines[-1].rstrip().endswith("now")
            assert any("\u2800" < mark <= "\u28ff" for line in lines for mark in line)
            plot.marks = ASCII
            await pilot.pause()
            assert "".join(read_lines(plot)[1:]).isascii()
            for width, height in ((300, 80), (1, 1), (9, 2), (20, 4)):
                await pilot.resize_terminal(width, height)
                plot.styles.height = height
                await pilot.pause()
                assert {len(line) for line in read_lines(plot)} <= {plot.size.width}

    asyncio.run(look())
