"""The first line: the screens with their keys, which one this is, and what it is about."""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from tui.places import TABS


class TitleBar(Widget):
    """`here` is a place's name or empty, `about` harmless words: a container's name."""

    DEFAULT_CSS = """
    TitleBar {
        height: 1; background: $panel; color: $foreground;
        & > .title--here { text-style: bold reverse; color: $accent; }
    }
    """
    COMPONENT_CLASSES = {"title--here"}  # noqa: RUF012 -- Textual declares it so

    here: reactive[str] = reactive("")
    about: reactive[str] = reactive("")

    def render_line(self, y: int) -> Strip:  # noqa: ARG002 -- it has one line
        """The tabs; on the right what the screen is about."""
        base = self.rich_style
        over = self.get_component_rich_style("title--here", partial=True)
        segments = []
        for tab in TABS:
            style = base + over if tab.name == self.here else base
            click = Style(meta={"@click": f"app.go('{tab.name}')"})
            segments.append(Segment(f" {tab.key} {tab.title} ", style + click))
        strip = Strip(segments)
        room = self.size.width - strip.cell_length
        if self.about and room > 0:
            about = f" {self.about} "
            about = about if len(about) <= room else f"{about[: room - 1]}…"
            strip = strip.adjust_cell_length(self.size.width - len(about), base)
            strip = Strip([*strip, Segment(about, base + Style(bold=True))])
        return strip.adjust_cell_length(self.size.width, base)
