"""Chain: height, round, who decides, the newest blocks, how long finality takes, forks.

Not here: what is said of it (tui.view.chain). 80x24 has blocks above the plot above validators and
peers; a wide screen has the blocks at the left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical

from docklock.console.facts import Block, ChainFacts
from tui.screens.base import DockScreen
from tui.view.chain import (
    BLOCK_COLUMNS,
    FIELDS,
    MEMBER_COLUMNS,
    Member,
    describe_block,
    describe_chain,
    describe_member,
    describe_untold,
    get_block_cell,
    get_block_field,
    get_member_cell,
    has_chain,
    list_members,
    list_names,
    make_alarm,
    make_curve,
    make_head,
)
from tui.view.filters import Filter
from tui.widgets.alarm import Alarm
from tui.widgets.described import Described
from tui.widgets.head import Head
from tui.widgets.plot import PlotView
from tui.widgets.table import VirtualTable

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from tui.messages import Facts
    from tui.view.cells import Cell
    from tui.view.describing import Description


class ChainScreen(DockScreen):
    """tab goes between blocks and members; the filter is of the blocks."""

    PLACE = "chain"
    FIELDS = FIELDS
    HELP_TEXT = """\
Above: the chain as this host's own node sees it; decided in: from when a
block is due until it is final, of the last heights. Then its newest blocks,
the newest first: a round above 0 had a proposer that brought no block in
time. Below: validators and peers. FINAL IN is from a block's own time to
the moment a quorum's seals were here; the plot shows it over time."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "describe", "Describe", tooltip="All about the block, validator or peer"),
        Binding("i", "info", "Chain info", tooltip="Its id, its settings, whom a fork convicts"),
        Binding("tab", "app.focus_next", "Other list", tooltip="Blocks, or who decides"),
    ]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (150, "-wide")]  # noqa: RUF012 -- as Textual has it
    VERTICAL_BREAKPOINTS = [(0, "-low"), (28, "-middle"), (34, "-tall")]  # noqa: RUF012 -- as Textual has it
    DEFAULT_CSS = """
    ChainScreen {
        & #chain { height: 1fr; }
        & #blocks { height: 1fr; min-height: 4; }
        & #side { height: auto; max-height: 60%; }
        & #members { height: auto; min-height: 3; max-height: 12; }
        & PlotView { height: 5; margin: 0 1; }
        & #none { display: none; height: 1fr; padding: 1 1; }
        &.-middle PlotView { height: 7; }
        &.-tall PlotView { height: 11; }
        &.-wide #chain { layout: horizontal; }
        &.-wide #blocks { width: 1fr; height: 1fr; }
        &.-wide #side { width: 1fr; height: 1fr; max-height: 100%; margin-left: 1; }
        &.-wide #members { height: 1fr; max-height: 100%; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._facts = ChainFacts()
        self._filter = Filter()
        self._names: dict[str, str] = {}

    def compose_body(self) -> ComposeResult:
        """Alarm, head, lists and plot; or how to get a chain."""
        yield Alarm()
        yield Head()
        with Container(id="chain"):
            yield VirtualTable[Block](
                BLOCK_COLUMNS, _get_block_id, self._get_block_cell, empty="no block", id="blocks"
            )
            with Vertical(id="side"):
                yield PlotView("Final in")
                yield VirtualTable[Member](
                    MEMBER_COLUMNS, _get_member_id, get_member_cell,
                    empty="nobody is known", id="members",
                )  # fmt: skip
        yield Described(id="none")

    def begin(self) -> None:
        """Ask the node every second."""
        chain = self.source.chain
        if chain is None:
            self._show(self._facts)
        else:
            self.read_every("chain", "chain", chain.read_chain)
        self._blocks.focus()

    def upon_facts(self, facts: Facts) -> None:
        """The node has answered."""
        if facts.name == "chain":
            self._show(cast("ChainFacts", facts.value))

    def upon_filter(self, found: Filter) -> None:
        """Other blocks are wanted."""
        self._filter = found
        self._show(self._facts)

    def on_virtual_table_chosen(self, chosen: VirtualTable.Chosen) -> None:
        """Enter."""
        row: Block | Member = chosen.row
        self._describe(row)

    def action_describe(self) -> None:
        """What the cursor is on."""
        table = self._members if self._members.has_focus else self._blocks
        row = table.cursor_row
        if row is None:
            self.action_info()
        else:
            self._describe(row)

    def action_info(self) -> None:
        """The chain itself."""
        self.dock.open_place("described", self._describe_chain())

    @property
    def _blocks(self) -> VirtualTable[Block]:
        return cast("VirtualTable[Block]", self.query_one("#blocks"))

    @property
    def _members(self) -> VirtualTable[Member]:
        return cast("VirtualTable[Member]", self.query_one("#members"))

    def _describe_chain(self) -> Description:
        if self.source.chain is None:
            return describe_untold(self.source.note)
        return describe_chain(self._facts)

    def _describe(self, row: Block | Member) -> None:
        if isinstance(row, Block):
            told = describe_block(row, self._facts, self.dock.clock())
        else:
            told = describe_member(row, self._facts)
        self.dock.open_place("described", told)

    def _show(self, facts: ChainFacts) -> None:
        now_ns, self._facts = self.dock.clock(), facts
        self._names = list_names(facts)
        is_there = has_chain(facts)
        self.query_one("#chain").display = is_there
        none = self.query_one("#none", Described)
        none.display = not is_there
        none.description = self._describe_chain()
        is_told = self.source.chain is not None
        self.query_one(Head).cells = make_head(facts, now_ns) if is_told else ()
        self.query_one(Alarm).words = make_alarm(facts)
        self.query_one(PlotView).curve = make_curve(facts, now_ns)
        self._members.set_rows(list_members(facts))
        blocks = [block for block in facts.blocks if self._passes(block)]
        self._blocks.set_empty("no block" if blocks or not self.filter_text else "nothing matches")
        is_first = self._blocks.cursor == 0
        self._blocks.set_rows(blocks)
        if is_first:  # who is on the newest block stays on the newest
            self._blocks.move_to(0)
        of = f"{len(blocks):,} of {len(facts.blocks):,} blocks" if self._filter.terms else ""
        self.set_about(of)

    def _passes(self, block: Block) -> bool:
        names = self._names
        return self._filter.is_match(FIELDS, lambda field: get_block_field(block, field, names))

    def _get_block_cell(self, block: Block, column: str) -> Cell:
        return get_block_cell(block, column, self.dock.clock(), self._names)


def _get_block_id(block: Block) -> str:
    return str(block.height)


def _get_member_id(member: Member) -> str:
    return member.id
