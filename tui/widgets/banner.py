"""What is wrong, on every screen, first of all that verification failed: where and since when."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from rich.segment import Segment
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from tui.view.wrapping import wrap

if TYPE_CHECKING:
    from textual.geometry import Size

LINES_MAX = 4
SIGNS = {"bad": " ✗ ", "warn": " ! "}


class BannerLine(NamedTuple):
    """`tone` is bad for evidence that is not whole, warn for all other trouble."""

    words: str
    tone: str


class Banner(Widget):
    """Hidden while nothing is wrong; at most LINES_MAX lines, what has no room is counted."""

    DEFAULT_CSS = """
    Banner {
        height: auto; display: none; background: $background;
        & > .banner--bad { background: $error; color: $background; text-style: bold; }
        &:ansi > .banner--bad { text-style: bold reverse; }
        & > .banner--warn { background: $panel; color: $warning; text-style: bold; }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"banner--bad", "banner--warn"}

    lines: reactive[tuple[BannerLine, ...]] = reactive((), layout=True)

    def watch_lines(self, lines: tuple[BannerLine, ...]) -> None:
        self.display = bool(lines)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002
        """As many lines as the words need in that width."""
        return len(lay_out(self.lines, width))

    def render_line(self, y: int) -> Strip:
        laid_out = lay_out(self.lines, self.size.width)
        if y >= len(laid_out):
            return Strip.blank(self.size.width, self.rich_style)
        line = laid_out[y]
        style = self.get_component_rich_style(f"banner--{line.tone}")
        return Strip([Segment(line.words, style)]).adjust_cell_length(self.size.width, style)


def lay_out(lines: tuple[BannerLine, ...], width: int) -> tuple[BannerLine, ...]:
    """Fold what is wrong to the width; the last line tells how much is left out."""
    folded: list[BannerLine] = []
    left_out = 0
    for line in lines:
        sign = SIGNS[line.tone]
        pieces = wrap(line.words, max(1, width - len(sign)))
        if folded and len(folded) + len(pieces) > LINES_MAX:
            left_out += 1
            continue
        for number, piece in enumerate(pieces[:LINES_MAX]):
            folded.append(BannerLine((" " * len(sign) if number else sign) + piece, line.tone))
    if left_out:
        note = f" and {left_out} more, key 5"
        folded[-1] = folded[-1]._replace(words=folded[-1].words[: max(0, width - len(note))] + note)
    return tuple(folded)
