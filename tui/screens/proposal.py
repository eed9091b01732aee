"""Proposal: the rule that would allow what was denied, as a change to a policy, and its effects.

Not here: how a rule is found and written (docklock.console), the words (tui/view/denials.py).
Nothing is written before a person has seen the change and said yes; what is applied is the
proposal that is shown (its token names it), or nothing.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, cast

from textual.binding import Binding, BindingType

from tui.screens.acting import ActingScreen
from tui.screens.confirm import ConfirmScreen
from tui.view.denials import write_outcome, write_proposal
from tui.view.text import make_harmless
from tui.widgets.lines import LinesView

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from docklock.console.facts import ContainerRow, Done, Proposal
    from tui.messages import Facts


class ProposalScreen(ActingScreen):
    """Made of a proposal."""

    PLACE = "proposal"
    HELP_TEXT = """\
A change to a policy that would allow what was denied: what it newly
allows, then its lines (+ is new). y writes it, on record, and asks first;
esc leaves the policy as it is. Afterwards r restarts the container, so
that the policy holds for it.
"""
    FIRST = ("apply", "act('restart')")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "apply", "Apply", tooltip="Write this change to the policy (asks first)"),
        Binding("r", "act('restart')", "Restart", tooltip="Stop and start it (asks)"),
    ]
    DEFAULT_CSS = """
    ProposalScreen { & > LinesView { padding: 0 1; } }
    """

    def __init__(self, proposal: Proposal) -> None:
        super().__init__()
        self.proposal = proposal
        self.outcome: Done | None = None

    def compose_body(self) -> ComposeResult:
        yield LinesView()

    def begin(self) -> None:
        row = self.get_target()
        self.set_about(make_harmless(row.name if row else self.proposal.container[:12], 60))
        self._show()

    def get_target(self) -> ContainerRow | None:
        """The container that the actions are done to."""
        return self.dock.get_row(self.proposal.container)

    def upon_facts(self, facts: Facts) -> None:
        if facts.name == "apply":
            self.outcome = cast("Done", facts.value)
            self._show()
        else:
            super().upon_facts(facts)

    def on_resize(self) -> None:
        self._show()

    def action_apply(self) -> None:
        """Ask, then write it."""
        if self.outcome is not None and self.outcome.is_done:
            self.say("it is written already")
            return
        policy = make_harmless(self.proposal.policy, 60)
        path = make_harmless(self.proposal.path, 200)
        effects = tuple(make_harmless(effect, 200) for effect in self.proposal.effects)
        question = f"Write this change to policy {policy} ({path})?"
        self.app.push_screen(ConfirmScreen(question, effects), self._apply)

    def _apply(self, is_yes: bool | None) -> None:  # noqa: FBT001 -- Textual calls it so
        desk = self.source.policy
        if is_yes and desk is not None:
            self.call_once("policy", "apply", partial(desk.apply, self.proposal))

    def _show(self) -> None:
        width = max(40, self.size.width - 4)
        lines = write_proposal(self.proposal, width)
        if self.outcome is not None:
            lines = (*write_outcome(self.outcome, self.proposal, width), (), *lines[:-2])
        self.query_one(LinesView).show(lines)
