"""What nobody may overlook, over the width of the screen: a word and its reason.

Attribute in: `words`, the first line in bold; hidden while there are none.
"""

from __future__ import annotations

from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget


class Alarm(Widget):
    """A band of five lines; the words say it without the colour."""

    DEFAULT_CSS = """
    Alarm {
        height: auto; max-height: 7; display: none; padding: 1 2; text-align: center;
        background: $error; color: $background; text-style: bold;
    }
    """

    words: reactive[tuple[str, ...]] = reactive((), layout=True)

    def watch_words(self, words: tuple[str, ...]) -> None:
        self.display = bool(words)

    def render(self) -> Text:
        """Each of the words on a line of its own, folded."""
        first, *rest = self.words or ("",)
        return Text("\n".join((f"✗ {first} ✗", *rest)), justify="center", overflow="fold")
