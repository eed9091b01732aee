"""Policy: what was denied, in plain words, of all containers or of one.

Not here: the words (tui/view/denials.py), the proposed rule (proposal.py), and where denials come
from (docklock.console).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, cast

from textual.binding import Binding, BindingType

from tui.screens.acting import ActingScreen
from tui.view.cells import Cell
from tui.view.denials import (
    DENIAL_COLUMNS,
    DENIAL_FIELDS,
    describe_list,
    explain_denial,
    find_program,
    get_field,
    get_key,
    sort_denials,
    write_denial,
)
from tui.view.filters import Filter
from tui.view.text import make_harmless
from tui.widgets.lines import LinesView
from tui.widgets.table import VirtualTable

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from docklock.console.facts import ContainerRow, Denial, Proposal
    from docklock.console.source import Evidence
    from tui.messages import Facts

DENIALS_EVERY_S = 2.0
LOOK_BACK = 200
"""Receipts before a denied call: what its process ran is nearly always among them."""
PROGRAM = "the program"


class PolicyScreen(ActingScreen):
    """Of all containers, or of one: made of its id."""

    PLACE = "policy"
    HELP_TEXT = """\
Calls that a policy refused, the newest first; below, what happened to the
one under the cursor, in plain words. a proposes the rule that would allow
it, and shows the change to the policy and what it newly allows: nothing
is written before you say so there.
"""
    FIELDS = DENIAL_FIELDS
    FIRST = ("choose", "propose", "receipt", "only", "prompt('/')", "act('restart')")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "propose", "Propose", tooltip="Propose the rule that allows this: its diff"),
        Binding("i", "receipt", "Receipt", tooltip="Open the receipt of the newest example"),
        Binding("c", "only", "One or all", tooltip="This container's denials only; again: all"),
        Binding("escape", "shrink", "Back", show=False, tooltip="Back to the list"),
    ]
    DEFAULT_CSS = """
    PolicyScreen {
        & > #count { height: 1; overflow: hidden hidden; }
        & > VirtualTable { height: 1fr; min-height: 4; }
        & > #words { height: 1fr; min-height: 6; border-top: solid $panel; padding: 0 1; }
        &.-explaining > VirtualTable { display: none; }
    }
    """

    def __init__(self, container: str = "") -> None:
        super().__init__()
        self.container = container
        self._denials: tuple[Denial, ...] = ()
        self._programs: dict[str, str] = {}  # by a denial's key
        self._found = Filter()

    def compose_body(self) -> ComposeResult:
        yield LinesView(id="count", can_focus=False)
        yield VirtualTable["Denial"](
            DENIAL_COLUMNS, get_key, self._draw, empty="reading what was denied"
        )
        yield LinesView(id="words")

    def begin(self) -> None:
        desk = self.source.policy
        if desk is None:
            self._table.set_empty("this source does not tell what was denied")
            return
        self.read_every(
            "denials", "policy", lambda: desk.read_denials(self.container), DENIALS_EVERY_S
        )

    def get_target(self) -> ContainerRow | None:
        """The container that the actions are done to."""
        denial = self._table.cursor_row
        return self.dock.get_row(denial.container) if denial is not None else None

    def upon_facts(self, facts: Facts) -> None:
        if facts.name == "denials":
            self._denials = sort_denials(cast("tuple[Denial, ...]", facts.value))
            self._show()
        elif facts.name == PROGRAM:
            key, program = cast("tuple[str, str]", facts.value)
            self._programs[key] = program
            self._show_words()
        elif facts.name == "proposal":
            self.dock.open_place("proposal", cast("Proposal", facts.value))
        else:
            super().upon_facts(facts)

    def upon_filter(self, found: Filter) -> None:
        self._found = found
        self._show()

    def on_virtual_table_moved(self, _moved: VirtualTable.Moved) -> None:
        self._show_words()

    def on_virtual_table_chosen(self, _chosen: VirtualTable.Chosen) -> None:
        """Explain it in the whole room."""
        self.add_class("-explaining")
        self.set_focus(self.query_one("#words", LinesView))
        self.dock.hand_down(self)

    def on_resize(self) -> None:
        self._show_words()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Esc leaves the explanation where it has all the room, and else the screen."""
        if action == "shrink":
            return self.has_class("-explaining")
        return super().check_action(action, parameters)

    def action_shrink(self) -> None:
        self.remove_class("-explaining")
        self.set_focus(self._table)
        self.dock.hand_down(self)

    def action_propose(self) -> None:
        denial, desk = self._table.cursor_row, self.source.policy
        if denial is None or desk is None:
            self.say("nothing was denied here")
        elif denial.unproposable:
            self.say(f"no rule is proposed: {make_harmless(denial.unproposable)}", is_bad=True)
        else:
            self.call_once("policy", "proposal", partial(desk.propose, denial))

    def action_receipt(self) -> None:
        denial = self._table.cursor_row
        if denial is not None:
            example = denial.example
            self.dock.open_place("receipt", denial.container, example.run, example.event_index)

    def action_only(self) -> None:
        """Of the container under the cursor, or of all again."""
        denial = self._table.cursor_row
        self.container = "" if self.container or denial is None else denial.container
        self._show()

    @property
    def _table(self) -> VirtualTable[Denial]:
        return self.query_one(VirtualTable)

    def _draw(self, denial: Denial, column: str) -> Cell:
        return write_denial(denial, self.dock.clock())[column]

    def _show(self) -> None:
        own = [one for one in self._denials if self.container in ("", one.container)]
        rows = [one for one in own if self._found.is_match(DENIAL_FIELDS, partial(get_field, one))]
        self._table.set_rows(rows)
        self._table.set_empty("nothing matches" if own else "nothing was denied")
        row = self.dock.get_row(self.container) if self.container else None
        name = row.name if row is not None else self.container[:12]
        self.set_about(make_harmless(name, 60))
        count = describe_list(own, len(rows), name)
        self.query_one("#count", LinesView).show(((Cell(f" {count}", "dim"),),))
        self._show_words()

    def _show_words(self) -> None:
        view, denial = self.query_one("#words", LinesView), self._table.cursor_row
        if denial is None:
            view.show(())
            return
        evidence, key = self.source.evidence, get_key(denial)
        if evidence is not None and key not in self._programs:
            self._programs[key] = ""  # asked for once
            self.call_once("evidence", PROGRAM, partial(_read_program, evidence, denial))
        width = max(40, self.size.width - 4)
        view.show(explain_denial(denial, self.dock.clock(), width, self._programs.get(key, "")))


def _read_program(evidence: Evidence, denial: Denial) -> tuple[str, str]:
    """What the process of the example ran, by the receipts right before it."""
    example = denial.example
    feed = evidence.open_feed(denial.container)
    try:
        part = feed.read_before(example.run, example.event_index, LOOK_BACK)
    finally:
        feed.close()
    return get_key(denial), find_program(part.events, example.pid)
