"""Lines in tones, scrolled: a proof, an explanation, a log. Only what is seen is drawn.

Not here: what the lines say (tui/view). `show` takes lines that are harmless already. It sends no
message. `is_following` keeps the last line in sight while more come, until somebody
scrolls up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.view.cells import TONES
from tui.view.lines import get_text
from tui.view.wrapping import get_width

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.style import Style

    from tui.view.flowing import Line


class LinesView(ScrollView, can_focus=True):
    """A column of lines; `sideways` of them is as far as the longest goes."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"lines--{tone}" for tone in TONES if tone}
    DEFAULT_CSS = """
    LinesView {
        height: 1fr; scrollbar-size-vertical: 1; scrollbar-size-horizontal: 1;
        background: $background; color: $foreground;
        & > .lines--good { color: $success; text-style: bold; }
        & > .lines--warn { color: $warning; text-style: bold; }
        & > .lines--bad { color: $error; text-style: bold; }
        & > .lines--dim { color: $secondary; }
        & > .lines--accent { color: $accent; text-style: bold; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "scroll_down", "Line on", show=False),
        Binding("up", "scroll_up", "Line back", show=False),
        Binding("pagedown,ctrl+f", "page_down", "Page on", show=False),
        Binding("pageup,ctrl+b", "page_up", "Page back", show=False),
        Binding("home,g", "scroll_home", "First line", show=False),
        Binding("end,G", "scroll_end", "Last line", show=False),
    ]

    def __init__(self, *, id: str | None = None, can_focus: bool = True) -> None:
        super().__init__(id=id)
        self.can_focus = can_focus
        self.lines: Sequence[Line] = ()
        self.is_following = False

    def show(self, lines: Sequence[Line]) -> None:
        """Draw these from now on; nothing is drawn again where they are the same."""
        if lines == self.lines:
            return
        self.lines = lines
        width = max((get_width(get_text(line)) for line in lines), default=0)
        self.virtual_size = Size(width, len(lines))
        self.refresh()
        if self.is_following:
            self.scroll_end(animate=False)

    def render_line(self, y: int) -> Strip:
        """One line of the screen, in Textual's line API."""
        base, width = self.rich_style, self.size.width
        index = y + round(self.scroll_y)
        if index >= len(self.lines):
            return Strip.blank(width, base)
        strip = Strip([Segment(c.text, self._get_tone(c.tone, base)) for c in self.lines[index]])
        left = round(self.scroll_x)
        return strip.crop(left, left + width).adjust_cell_length(width, base)

    def _get_tone(self, tone: str, base: Style) -> Style:
        if not tone:
            return base
        return base + self.get_component_rich_style(f"lines--{tone}", partial=True)
