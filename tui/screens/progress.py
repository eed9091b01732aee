"""A long action as it goes: how far it is, a key that stops it, and what it came to."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.view.acts import describe_verdicts, draw_progress

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from docklock.console.facts import Progress, Verdict


class ProgressScreen(ModalScreen[None]):
    """Stays until it is left; `is_stopped` is what the action's `tell` answers with."""

    DEFAULT_CSS = """
    ProgressScreen { align: center middle; background: $background 60%; }
    ProgressScreen > Vertical {
        width: 76; max-width: 95%; height: auto; max-height: 90%; padding: 0 1;
        background: $surface; border: round $accent;
        & > #what { text-style: bold; height: auto; margin-bottom: 1; }
        & > #state { height: auto; min-height: 2; margin-bottom: 1; }
        & > #state.-bad { color: $error; text-style: bold; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "leave", "Stop it, or close"),
        Binding("b", "background", "Go on behind"),
    ]

    def __init__(self, what: str) -> None:
        super().__init__()
        self.is_stopped = False
        self._is_over = self._is_bad = False
        self._what = what
        self._state, self._keys = "begun", "esc stops it    b lets it go on behind"

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(self._what, id="what", markup=False)
            yield Static(id="state", markup=False)
            yield Static(id="keys", markup=False)

    def on_mount(self) -> None:
        self._show()

    def show_progress(self, progress: Progress) -> None:
        """How far it is."""
        if not self._is_over:
            self._state = draw_progress(progress)
            self._show()

    def show_verdicts(self, verdicts: tuple[Verdict, ...]) -> None:
        """It is over: what was found."""
        is_whole, lines = describe_verdicts(verdicts)
        if self.is_stopped:
            lines = ("stopped before all was looked at", *lines)
        self.show_end("\n".join(lines), is_bad=not is_whole)

    def show_error(self, words: str) -> None:
        """It did not come to an end, be it because it was stopped; harmless words."""
        self.show_end(words, is_bad=not self.is_stopped)

    def show_end(self, words: str, *, is_bad: bool) -> None:
        """It is over; harmless words."""
        self._is_over, self._is_bad = True, is_bad
        self._state, self._keys = words, "esc closes this"
        self._show()

    def action_leave(self) -> None:
        """Stop what goes on, and say so when it has stopped; close what is over."""
        if self._is_over:
            self.dismiss()
        else:
            self.is_stopped = True
            self._keys = "stopping"
            self._show()

    def action_background(self) -> None:
        self.dismiss()

    def _show(self) -> None:
        """What is known may come before the widgets are there, and after they are gone."""
        for state in self.query("#state").results(Static):
            state.set_class(self._is_bad, "-bad")
            state.update(self._state)
            self.query_one("#keys", Static).update(self._keys)
