"""One line of tabs with their keys. Attributes in: `here`, `note`; a click asks for another tab."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget


class Tab(NamedTuple):
    """`name` is what the screen calls it, `key` what opens it."""

    name: str
    title: str
    key: str


class TabLine(Widget):
    """Tabs above, and below them one line of `note`: how much of what there is is shown."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"tabs--here", "tabs--note"}
    DEFAULT_CSS = """
    TabLine {
        height: 2; background: $surface; color: $foreground;
        & > .tabs--here { text-style: bold reverse; color: $accent; }
        & > .tabs--note { color: $secondary; }
    }
    """

    here: reactive[str] = reactive("")
    note: reactive[str] = reactive("")

    def __init__(self, tabs: tuple[Tab, ...]) -> None:
        super().__init__()
        self._tabs = tabs

    def render_line(self, y: int) -> Strip:
        """Line 0 are the tabs, line 1 is the note."""
        base, width = self.rich_style, self.size.width
        if y:
            style = base + self.get_component_rich_style("tabs--note", partial=True)
            return Strip([Segment(f" {self.note}", style)]).adjust_cell_length(width, base)
        over = self.get_component_rich_style("tabs--here", partial=True)
        segments = []
        for tab in self._tabs:
            style = base + over if tab.name == self.here else base
            click = Style(meta={"@click": f"screen.show_tab('{tab.name}')"})
            segments.append(Segment(f" {tab.key} {tab.title} ", style + click))
        return Strip(segments).adjust_cell_length(width, base)
