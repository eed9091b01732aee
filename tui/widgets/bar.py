"""The last two lines: what is known of the source, or what an action came to; and the keys."""

from __future__ import annotations

from typing import NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget


class KeyWord(NamedTuple):
    """A key as it is written, as Textual names it, and what it does."""

    key: str
    name: str
    does: str


class Bar(Widget):
    """`status` and `said` are harmless; `said` stands until the next key that says something."""

    DEFAULT_CSS = """
    Bar {
        height: 2; background: $panel; color: $foreground;
        & > .bar--key { text-style: bold; color: $accent; }
        & > .bar--bad { text-style: bold; color: $error; }
        & > .bar--good { text-style: bold; }
    }
    """
    COMPONENT_CLASSES = {"bar--key", "bar--bad", "bar--good"}  # noqa: RUF012 -- as Textual has it

    status: reactive[str] = reactive("")
    said: reactive[str] = reactive("")
    is_said_bad: reactive[bool] = reactive(False)
    keys: reactive[tuple[KeyWord, ...]] = reactive(())

    def render_line(self, y: int) -> Strip:
        """Line 0 is status or what was said, line 1 the keys that have room, ? always."""
        segments = self._draw_status() if y == 0 else self._draw_keys()
        return Strip(segments).adjust_cell_length(self.size.width, self.rich_style)

    def _draw_status(self) -> list[Segment]:
        base = self.rich_style
        if not self.said:
            return [Segment(f" {self.status}", base)]
        part = "bad" if self.is_said_bad else "good"
        style = base + self.get_component_rich_style(f"bar--{part}", partial=True)
        sign = "! " if self.is_said_bad else ""
        return [Segment(f" {sign}{self.said}", style)]

    def _draw_keys(self) -> list[Segment]:
        base = self.rich_style
        key_style = base + self.get_component_rich_style("bar--key", partial=True)
        room = self.size.width - 1
        segments = [Segment(" ", base)]
        for word in self.keys:
            needed = cell_len(word.key) + cell_len(word.does) + 3
            if needed > room:
                continue
            room -= needed
            click = Style(meta={"@click": f"app.simulate_key('{word.name}')"})
            segments.append(Segment(word.key, key_style + click))
            segments.append(Segment(f" {word.does}", base + click))
            segments.append(Segment("  ", base))
        return segments
