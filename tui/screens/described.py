"""One thing told in full, opened by enter or d; esc goes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.containers import VerticalScroll

from tui.screens.base import DockScreen
from tui.widgets.described import Described

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from tui.view.describing import Description


class DescribedScreen(DockScreen):
    """As it was when it was opened."""

    PLACE = "described"
    HELP_TEXT = "All that is known of one thing, as it was when this was opened. esc goes back."
    DEFAULT_CSS = """
    DescribedScreen VerticalScroll { height: 1fr; padding: 1 0; scrollbar-size-vertical: 1; }
    """

    def __init__(self, description: Description) -> None:
        super().__init__(description.title)
        self._description = description

    def compose_body(self) -> ComposeResult:
        """The description alone."""
        with VerticalScroll():
            described = Described()
            described.description = self._description
            yield described

    def begin(self) -> None:
        """So that the arrows scroll."""
        self.query_one(VerticalScroll).focus()
