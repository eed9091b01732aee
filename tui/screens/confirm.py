"""Asks before what cannot be taken back, and says exactly what will happen."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Static

if TYPE_CHECKING:
    from textual.app import ComposeResult

LINES_MAX = 40


class ConfirmScreen(ModalScreen[bool]):
    """`question` names the act and its object, `effects` what follows; all harmless already."""

    DEFAULT_CSS = """
    ConfirmScreen { align: center middle; background: $background 60%; }
    ConfirmScreen > Vertical {
        width: 76; max-width: 95%; height: auto; max-height: 90%; padding: 0 1;
        background: $surface; border: round $warning;
        & > #question { text-style: bold; height: auto; margin-bottom: 1; }
        & > #effects { height: auto; margin-bottom: 1; }
        & > Horizontal { height: 1; align-horizontal: left; }
        & Button { height: 1; border: none; min-width: 10; margin-right: 2; padding: 0 1; }
        & Button:focus { text-style: bold reverse; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer('yes')", "Yes"),
        Binding("n,escape,q", "answer('no')", "No"),
        Binding("left,right", "app.focus_next", "Other answer", show=False),
    ]

    def __init__(self, question: str, effects: tuple[str, ...]) -> None:
        super().__init__()
        self._question = question
        self._effects = effects

    def compose(self) -> ComposeResult:
        shown = self._effects[:LINES_MAX]
        with Vertical():
            yield Static(self._question, id="question", markup=False)
            yield Static("\n".join(shown), id="effects", markup=False)
            with Horizontal():
                yield Button("n  No", id="no", compact=True)
                yield Button("y  Yes, do it", id="yes", compact=True)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_answer(self, word: str) -> None:
        self.dismiss(word == "yes")
