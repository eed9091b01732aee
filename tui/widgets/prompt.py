"""The line for `/` (filter) and `:` (command), above the footer while it is open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.binding import Binding
from textual.containers import Horizontal
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input, Static

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.app import ComposeResult

LENGTH_MAX = 300


class _Completer(Suggester):
    """Offers the first whole line that begins as what was typed."""

    def __init__(self, complete: Callable[[str], tuple[str, ...]]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._complete = complete

    async def get_suggestion(self, value: str) -> str | None:
        return next(iter(self._complete(value)), None)


class Prompt(Horizontal):
    """Hidden until opened; says what was typed, entered, or that it was left."""

    DEFAULT_CSS = """
    Prompt {
        height: 1; display: none; background: $surface;
        & > #sign { width: 3; color: $accent; text-style: bold; }
        & > #hint { width: auto; max-width: 50%; color: $secondary; }
        & > Input { width: 1fr; height: 1; border: none; padding: 0; background: $surface; }
        & > Input:focus { border: none; background-tint: 0%; }
    }
    """
    BINDINGS = [  # noqa: RUF012 -- as Textual has it
        Binding("escape", "leave", "Leave", show=False, priority=True),
        Binding("tab", "complete", "Complete", show=False, priority=True),
    ]

    class Typed(Message):
        """A letter more or less; `sign` is / or :."""

        def __init__(self, sign: str, text: str) -> None:
            self.sign, self.text = sign, text
            super().__init__()

    class Entered(Message):
        """Enter: the line is meant."""

        def __init__(self, sign: str, text: str) -> None:
            self.sign, self.text = sign, text
            super().__init__()

    class Left(Message):
        """Escape: it is not."""

        def __init__(self, sign: str) -> None:
            self.sign = sign
            super().__init__()

    def __init__(self, complete: Callable[[str], tuple[str, ...]]) -> None:
        super().__init__()
        self.sign = ":"
        self._complete = complete

    def compose(self) -> ComposeResult:
        yield Static(id="sign", markup=False)
        yield Input(max_length=LENGTH_MAX, suggester=_Completer(self._offer), select_on_focus=False)
        yield Static(id="hint", markup=False)

    def open(self, sign: str, text: str, hint: str) -> None:
        """Show the line and take the keys."""
        self.sign = sign
        self.query_one("#sign", Static).update(f" {sign}")
        self.query_one("#hint", Static).update(f" {hint} ")
        self.display = True
        line = self.query_one(Input)
        line.value = text
        line.cursor_position = len(text)
        line.focus()

    def close(self) -> None:
        """Give the keys back; the screen says to whom."""
        self.display = False

    def action_leave(self) -> None:
        self.close()
        self.post_message(self.Left(self.sign))

    def action_complete(self) -> None:
        line = self.query_one(Input)
        found = self._offer(line.value)
        if found:
            line.value = found[0]
            line.cursor_position = len(found[0])

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self.display:
            self.post_message(self.Typed(self.sign, event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.close()
        self.post_message(self.Entered(self.sign, event.value))

    def _offer(self, text: str) -> tuple[str, ...]:
        return self._complete(text) if self.sign == ":" else ()
