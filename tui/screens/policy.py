"""Policy: what was denied, in plain words, and the rule that would allow it, applied when asked.

Not here: the words (tui/view/denials.py), denials, rules and files (docklock.console). Nothing is
written before a person has seen the change and its effects and said yes; what is applied is the
proposal that was shown (its token), or nothing.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, cast

from textual.binding import Binding, BindingType

from tui.screens.base import DockScreen
from tui.screens.confirm import ConfirmScreen
from tui.view import denials as words
from tui.view.denials import DENIAL_COLUMNS, DENIAL_FIELDS, describe_list
from tui.view.filters import Filter
from tui.view.text import make_harmless
from tui.widgets.lines import LinesView
from tui.widgets.table import VirtualTable

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from docklock.console.facts import (
        ContainerRow,
        Denial,
        Details,
        Done,
        Proposal,
    )
    from tui.messages import Facts
    from tui.view.cells import Cell
    from tui.view.lines import Line

DENIALS_EVERY_S = 2.0


class PolicyScreen(DockScreen):
    """Of all containers, or of one: made of its id."""

    PLACE = "policy"
    HELP_TEXT = """\
Calls that a policy refused, the newest first; below, what happened to the one under the cursor.
a proposes the rule that would allow it and shows the change to the policy and what it newly
allows. y then writes it, on record; esc leaves it as it is. The container must be restarted for
the new policy to hold: r does it, and asks first.
"""
    FIELDS = DENIAL_FIELDS
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "propose", "Propose", tooltip="Propose a rule that allows this, show its diff"),
        Binding("y", "apply", "Apply", tooltip="Write the rule that is shown (asks first)"),
        Binding("c", "only", "One", show=False, tooltip="This container's denials only, or all"),
        Binding("i", "receipt", "Receipt", tooltip="The receipt of the newest example"),
    ]
    DEFAULT_CSS = """
    PolicyScreen {
        & > #about { height: 1; }
        & > VirtualTable { height: 1fr; min-height: 4; }
        & > #words { height: 1fr; min-height: 8; border-top: solid $panel; padding: 0 1; }
    }
    """

    def __init__(self, container: str = "") -> None:
        super().__init__()
        self.container = container
