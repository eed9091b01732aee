"""Receipt: one receipt with all its fields, and its proof, drawn, and verified on the spot.

Not here: the drawing (tui/view/proof.py), the words (tui/view/receipt.py), the check
(docklock.console). What is shown as held was checked now by this key press, not some time before.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, cast

from textual.binding import Binding, BindingType
from textual.containers import Horizontal

from tui.screens.acting import ActingScreen
from tui.view.lines import write_fields
from tui.view.receipt import (
    FIELD_CHARS_MAX,
    WIDE,
    write_body,
    write_event_head,
    write_state,
    write_trouble,
)
from tui.widgets.lines import LinesView

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from docklock.console.facts import ContainerRow, ReceiptFacts
    from tui.messages import Facts

READ, CHECKED = "receipt", "the proof"


class ReceiptScreen(ActingScreen):
    """Made of a container's id, a run and an index."""

    PLACE = "receipt"
    HELP_TEXT = """\
One receipt: what was called, by whom, what the policy decided. Below it
the proof, from the receipt down to what anchors it: each box says HELD,
BROKEN (and why) or not checked. The hashes between two boxes are what a
step is joined with to make the next. v checks all of it now.
"""
    FIRST = ("verify", "turn(1)", "turn(-1)", "evidence")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "verify", "Verify", tooltip="Verify this receipt's proof now, step by step"),
        Binding("n,right", "turn(1)", "Next", tooltip="The next receipt"),
        Binding("N,left", "turn(-1)", "Before", tooltip="The receipt before"),
    ]
    DEFAULT_CSS = """
    ReceiptScreen {
        & > #head { height: 3; overflow: hidden hidden; }
        & > Horizontal { height: 1fr; }
        & #fields { display: none; width: 1fr; margin-left: 1; }
        & #proof { width: 2fr; }
    }
    """

    def __init__(self, container: str, run: int, index: int) -> None:
        super().__init__()
        self.container = container
        self.run, self.index = run, index
        self.facts: ReceiptFacts | None = None
        self.checked_ns = 0
        self.trouble = ""

    def compose_body(self) -> ComposeResult:
        yield LinesView(id="head", can_focus=False)
        with Horizontal():
            yield LinesView(id="proof")
            yield LinesView(id="fields")

    def begin(self) -> None:
        self._read()

    def get_target(self) -> ContainerRow | None:
        """The container that the actions are done to."""
        return self.dock.get_row(self.container)

    def upon_facts(self, facts: Facts) -> None:
        name, _, where = facts.name.partition(" of ")
        if name not in (READ, CHECKED):
            super().upon_facts(facts)
            return
        if where != self._where:
            return  # of a receipt that was shown before
        self.facts = cast("ReceiptFacts", facts.value)
        self.checked_ns, self.trouble = (facts.at_ns if name == CHECKED else 0), ""
        self._show()

    def upon_error(self, facts: Facts) -> None:
        if facts.name.endswith(f" of {self._where}"):
            self.trouble = facts.error
            self._show()
        super().upon_error(facts)

    def on_resize(self) -> None:
        self._show()

    def action_verify(self) -> None:
        self._ask(CHECKED)

    def action_turn(self, by: int) -> None:
        if self.index + by < 0:
            self.say("this is the first receipt of its run")
            return
        self.index += by
        self.facts, self.checked_ns, self.trouble = None, 0, ""
        self._show()
        self._read()

    @property
    def _where(self) -> str:
        return f"{self.run}:{self.index}"

    def _read(self) -> None:
        self._ask(READ)

    def _ask(self, name: str) -> None:
        evidence = self.source.evidence
        if evidence is None:
            self.trouble = "this source has no receipts"
            self._show()
            return
        call = evidence.check_receipt if name == CHECKED else evidence.read_receipt
        ask = partial(call, self.container, self.run, self.index)
        self.call_once("evidence", f"{name} of {self._where}", ask, is_long=name == CHECKED)

    def _show(self) -> None:
        row = self.dock.get_row(self.container)
        name = row.name if row is not None else self.container[:12]
        head, proof = self.query_one("#head", LinesView), self.query_one("#proof", LinesView)
        fields = self.query_one("#fields", LinesView)
        if self.facts is None:
            head.show(write_trouble(self._where, name, self.trouble))
            proof.show(())
            fields.show(())
            return
        is_wide = self.size.width >= WIDE
        fields.display = is_wide
        state = write_state(self.facts, self.checked_ns, self.trouble)
        head.show((*write_event_head(self.facts.event, name), state))
        width = self.size.width * 2 // 3 if is_wide else self.size.width
        height = max(4, self.size.height - 7)
        proof.show(write_body(self.facts, width - 2, height, is_wide=is_wide))
        if is_wide:
            room = self.size.width - width - 3
            fields.show(write_fields(self.facts.fields, room, FIELD_CHARS_MAX))
