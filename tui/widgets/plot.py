"""A curve over time with its title, scale and times, drawn a line at a time.

Not here: what the lines hold (tui.view.plot). Attributes in: `title`, `curve`, `marks`. It sends
no message and reads nothing. Colour means nothing in it: title, scale and curve differ by place.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from tui.view.plot import Curve, Plot, choose_marks, draw_plot

if TYPE_CHECKING:
    from textual.geometry import Size

LINES_BESIDES = 2
"""The title above and the times below."""


class PlotView(Widget):
    """Title with the newest and the highest value, the curve, the times.

    It is one line (the title alone) where there is no room for more.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {"plot--title", "plot--scale", "plot--curve"}
    DEFAULT_CSS = """
    PlotView { height: 8; min-height: 1; }
    PlotView > .plot--title { text-style: bold; }
    PlotView > .plot--scale { color: $text-muted; }
    PlotView > .plot--curve { color: $primary; }
    """

    title: reactive[str] = reactive("")
    curve: reactive[Curve] = reactive(Curve())
    marks: reactive[str] = reactive("")

    def __init__(self, title: str = "", *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._drawn: tuple[Curve, Size, str, Plot] | None = None
        self.set_reactive(PlotView.title, title)
        self.set_reactive(PlotView.marks, choose_marks(os.environ))

    def render_line(self, y: int) -> Strip:
        """The title, a line of the curve, or the times."""
        plot, width = self._draw(), self.size.width
        if y == 0:
            text = f"{self.title}  now {plot.last}  highest {plot.highest}"
            return self._make_strip([("plot--title", text)], width)
        if y <= len(plot.lines):
            line = plot.lines[y - 1]
            return self._make_strip(
                [("plot--scale", line.scale), ("plot--curve", line.marks)], width
            )
        foot = plot.foot if y == len(plot.lines) + 1 else ""
        return self._make_strip([("plot--scale", foot)], width)

    def _draw(self) -> Plot:
        """Drawn once for a curve and a size, however many of its lines are asked for."""
        key = (self.curve, self.size, self.marks)
        if self._drawn is None or self._drawn[:3] != key:
            height = self.size.height - LINES_BESIDES
            self._drawn = (*key, draw_plot(self.curve, self.size.width, height, self.marks))
        return self._drawn[3]

    def _make_strip(self, parts: list[tuple[str, str]], width: int) -> Strip:
        ground = self.rich_style
        segments = [
            Segment(text, ground + self.get_component_rich_style(name, partial=True))
            for name, text in parts
        ]
        return Strip(segments).adjust_cell_length(width, ground)
