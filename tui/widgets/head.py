"""The short words at the top of a screen, on as many lines as its width needs.

Not here: the words (a screen's view model), how they are put on lines (tui.view.flowing).
Attribute in: `cells`.
"""

from __future__ import annotations

from rich.segment import Segment
from textual.geometry import Size
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from tui.view.cells import Cell
from tui.view.flowing import Line, flow

LINES_MAX = 4


class Head(Widget):
    """The most important words first: the last ones are left out where there is no room."""

    COMPONENT_CLASSES = {  # noqa: RUF012 -- Textual declares it so
        f"head--{part}" for part in ("good", "warn", "bad", "dim", "accent")
    }
    DEFAULT_CSS = """
    Head {
        height: auto; max-height: 4; padding: 0 1; background: $background;
        & > .head--good { color: $success; }
        & > .head--warn { color: $warning; text-style: bold; }
        & > .head--bad { color: $error; text-style: bold; }
        & > .head--dim { color: $secondary; }
        & > .head--accent { color: $accent; text-style: bold; }
    }
    """

    cells: reactive[tuple[Cell, ...]] = reactive((), layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002
        """As many lines as the words need at this width."""
        return max(1, len(flow(self.cells, width, LINES_MAX)))

    def render_line(self, y: int) -> Strip:
        """One line of words."""
        width, ground = self.size.width, self.rich_style
        lines: tuple[Line, ...] = flow(self.cells, width, LINES_MAX)
        segments = []
        for cell in lines[y] if y < len(lines) else ():
            style = ground
            if cell.tone:
                style += self.get_component_rich_style(f"head--{cell.tone}", partial=True)
            segments.append(Segment(cell.text, style))
        return Strip(segments).adjust_cell_length(width, ground)
