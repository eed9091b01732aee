"""One thing told in full: names at the left, texts beside them, paragraphs below.

Not here: what is told (tui.view.describing). Attribute in: `description`. It is as high as its
text at its width; whoever holds it scrolls.
"""

from __future__ import annotations

from rich.console import Group
from rich.style import Style
from rich.table import Table
from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from tui.view.describing import Description

NAME_CELLS_MAX = 18


class Described(Widget):
    """Texts are folded, never cut: a reason is read to its end."""

    COMPONENT_CLASSES = {  # noqa: RUF012 -- Textual declares it so
        f"described--{part}" for part in ("name", "good", "warn", "bad", "dim", "accent")
    }
    DEFAULT_CSS = """
    Described {
        height: auto; width: 1fr; padding: 0 1;
        & > .described--name { color: $secondary; }
        & > .described--good { color: $success; }
        & > .described--warn { color: $warning; }
        & > .described--bad { color: $error; text-style: bold; }
        & > .described--dim { color: $secondary; }
        & > .described--accent { color: $accent; }
    }
    """

    description: reactive[Description] = reactive(Description(), layout=True)

    def render(self) -> Group:
        """The pairs as two columns, then each paragraph under its heading."""
        told = self.description
        name = self.get_component_rich_style("described--name", partial=True)
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True, max_width=NAME_CELLS_MAX)
        grid.add_column(overflow="fold", ratio=1)
        for pair in told.pairs:
            style: Style | str = ""
            if pair.tone:
                style = self.get_component_rich_style(f"described--{pair.tone}", partial=True)
            grid.add_row(Text(pair.name, style=name), Text(pair.text, style=style))
        parts: list[Table | Text] = [grid] if told.pairs else []
        for number, (heading, text, _) in enumerate(told.paragraphs):
            words = Text("\n" if parts or number else "")
            words.append(f"{heading}\n" if heading else "", "bold")
            words.append(text)
            parts.append(words)
        return Group(*parts)
