"""Asks for a line of text: where a file is to be written."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

if TYPE_CHECKING:
    from textual.app import ComposeResult

TEXT_MAX = 4096


class AskScreen(ModalScreen[str]):
    """Answers with the line, or an empty one where the person thought better of it."""

    DEFAULT_CSS = """
    AskScreen { align: center middle; background: $background 60%; }
    AskScreen > Vertical {
        width: 76; max-width: 95%; height: auto; padding: 0 1;
        background: $surface; border: round $accent;
        & > Static { height: auto; }
        & > #question { text-style: bold; }
        & > Input { height: 1; border: none; padding: 0; margin: 1 0; background: $panel; }
        & > Input:focus { border: none; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave it", priority=True),
    ]

    def __init__(self, question: str, value: str, note: str) -> None:
        super().__init__()
        self._question, self._value, self._note = question, value, note

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(self._question, id="question", markup=False)
            yield Static(self._note, markup=False)
            yield Input(self._value, max_length=TEXT_MAX, select_on_focus=False)
            yield Static("enter does it    esc leaves it", markup=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip())

    def action_leave(self) -> None:
        self.dismiss("")
