"""What is wrong, on every screen, first of all that verification failed: where and since when."""

from __future__ import annotations

from typing import NamedTuple

from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

LINES_MAX = 4
SIGNS = {"bad": "✗ ", "warn": "! "}


class BannerLine(NamedTuple):
    """`tone` is bad for evidence that is not whole, warn for all other trouble."""

    words: str
    tone: str


class Banner(Widget):
    """Hidden while nothing is wrong."""

    DEFAULT_CSS = """
    Banner {
        height: auto; max-height: 4; display: none; background: $background;
        & > .banner--bad { background: $error; color: $background; text-style: bold; }
        & > .banner--warn { color: $warning; text-style: bold; }
    }
    """
    COMPONENT_CLASSES = {"banner--bad", "banner--warn"}  # noqa: RUF012 -- Textual declares it so

    lines: reactive[tuple[BannerLine, ...]] = reactive((), layout=True)

    def watch_lines(self, lines: tuple[BannerLine, ...]) -> None:
        self.display = bool(lines)

    def render(self) -> Text:
        """The worst first; what has no room is counted."""
        shown = self.lines[:LINES_MAX]
        text = Text(no_wrap=True, overflow="ellipsis", end="")
        for number, line in enumerate(shown):
            more = len(self.lines) - LINES_MAX
            note = f"  (and {more} more: 5)" if more > 0 and number == len(shown) - 1 else ""
            words = f" {SIGNS[line.tone]}{line.words}{note}".ljust(self.size.width)
            style = self.get_component_rich_style(f"banner--{line.tone}", partial=True)
            text.append(words, style)
            if number < len(shown) - 1:
                text.append("\n")
        return text
