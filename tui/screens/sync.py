"""Sync: how far each server is (on a server, each host), its lag over time, acknowledgements.

Not here: what is said of it (tui.view.sync).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical

from docklock.console.facts import Acknowledgement, ServerSync, SyncFacts
from tui.screens.base import DockScreen
from tui.view.filters import Filter
from tui.view.sync import (
    ACKNOWLEDGED_COLUMNS,
    FIELDS,
    ORDERS,
    LagHistory,
    describe_acknowledgement,
    describe_nothing,
    describe_server,
    get_acknowledged_cell,
    get_columns,
    get_server_cell,
    get_server_field,
    make_head,
    sort_servers,
)
from tui.widgets.described import Described
from tui.widgets.head import Head
from tui.widgets.plot import PlotView
from tui.widgets.table import VirtualTable

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from tui.messages import Facts
    from tui.view.cells import Cell


class SyncScreen(DockScreen):
    """tab goes between servers and acknowledgements; filter and order are of the servers."""

    PLACE = "sync"
    FIELDS = FIELDS
    HELP_TEXT = """\
Each server that this host's evidence goes to (on a server: each host that
it comes from), the worst first: how many leaves of the host log it has
signed that it holds, how far it is behind, and when it is tried again. The
plot is the lag of the one under the cursor. Below: what was acknowledged."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "describe", "Describe", tooltip="All about it, and what to do"),
        Binding("o", "sort", "Sort", tooltip="By the next: worst, name, lag, failures"),
        Binding("O", "reverse", "Reverse", show=False, tooltip="The other way round"),
        Binding("tab", "app.focus_next", "Other list", tooltip="Servers, or acknowledgements"),
    ]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (150, "-wide")]  # noqa: RUF012 -- as Textual has it
    DEFAULT_CSS = """
    SyncScreen {
        & #sync { height: 1fr; }
        & #servers { height: auto; min-height: 3; max-height: 50%; }
        & #side { height: 1fr; min-height: 8; }
        & #acknowledgements { height: auto; min-height: 3; max-height: 50%; }
        & PlotView { height: 1fr; min-height: 5; margin: 0 1; }
        & #none { display: none; height: 1fr; padding: 1 1; }
        &.-wide #sync { layout: horizontal; }
        &.-wide #servers { width: 3fr; height: 1fr; max-height: 100%; }
        &.-wide #side { width: 2fr; height: 1fr; margin-left: 1; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._facts = SyncFacts()
        self._filter = Filter()
        self._history = LagHistory()
        self._order, self._is_reversed = ORDERS[0], False

    def compose_body(self) -> ComposeResult:
        """Head, servers, plot, acknowledgements; or how to get a server."""
        yield Head()
        with Container(id="sync"):
            yield VirtualTable[ServerSync](
                get_columns(is_server=False),
                _get_server_id,
                self._get_server_cell,
                empty="none",
                id="servers",
            )
            with Vertical(id="side"):
                yield PlotView("Lag")
                yield VirtualTable[Acknowledgement](
                    ACKNOWLEDGED_COLUMNS, _get_acknowledged_id, self._get_acknowledged_cell,
                    empty="nothing was acknowledged yet", id="acknowledgements",
                )  # fmt: skip
        yield Described(id="none")

    def begin(self) -> None:
        """Ask every second."""
        sync = self.source.sync
        if sync is None:
            self._show()
        else:
            self.read_every("sync", "sync", sync.read_sync)
        self._servers.focus()

    def upon_facts(self, facts: Facts) -> None:
        """There is an answer."""
        if facts.name == "sync":
            self._facts = cast("SyncFacts", facts.value)
            self._history.add(self._facts, facts.at_ns)
            self._show()

    def upon_filter(self, found: Filter) -> None:
        """Other servers are wanted."""
        self._filter = found
        self._show()

    def on_virtual_table_chosen(self, chosen: VirtualTable.Chosen) -> None:
        """Enter."""
        self._describe(chosen.row)

    def on_virtual_table_moved(self, _moved: VirtualTable.Moved) -> None:
        """The plot is of another one."""
        self._plot()

    def on_virtual_table_sort_wanted(self, wanted: VirtualTable.SortWanted) -> None:
        """A click on a header."""
        if wanted.column in ORDERS and wanted.table is self._servers:
            is_again = wanted.column == self._order and not self._is_reversed
            self._sort(wanted.column, is_reversed=is_again)

    def action_describe(self) -> None:
        """What the cursor is on."""
        table = self._acknowledgements if self._acknowledgements.has_focus else self._servers
        row = table.cursor_row
        if row is None:
            self.dock.open_place("described", describe_nothing(self._facts, self.source.note))
        else:
            self._describe(row)

    def action_sort(self) -> None:
        """By the next order."""
        self._sort(ORDERS[(ORDERS.index(self._order) + 1) % len(ORDERS)], is_reversed=False)

    def action_reverse(self) -> None:
        """The other way round."""
        self._sort(self._order, is_reversed=not self._is_reversed)

    @property
    def _servers(self) -> VirtualTable[ServerSync]:
        return cast("VirtualTable[ServerSync]", self.query_one("#servers"))

    @property
    def _acknowledgements(self) -> VirtualTable[Acknowledgement]:
        return cast("VirtualTable[Acknowledgement]", self.query_one("#acknowledgements"))

    @property
    def _is_server(self) -> bool:
        """Whether the rows are hosts: a server tells of containers on many."""
        return self.dock.overview is not None and not self.dock.overview.host

    def _sort(self, order: str, *, is_reversed: bool) -> None:
        self._order, self._is_reversed = order, is_reversed
        self._servers.set_order(order, is_reversed=is_reversed)
        self._show()

    def _describe(self, row: ServerSync | Acknowledgement) -> None:
        now_ns = self.dock.clock()
        if isinstance(row, ServerSync):
            told = describe_server(row, now_ns, is_server=self._is_server)
        else:
            told = describe_acknowledgement(row, now_ns)
        self.dock.open_place("described", told)

    def _show(self) -> None:
        facts = self._facts
        self.query_one("#sync").display = bool(facts.servers)
        none = self.query_one("#none", Described)
        none.display = not facts.servers
        none.description = describe_nothing(facts, self.source.note)
        self.query_one(Head).cells = make_head(facts, is_server=self._is_server)
        shown = [server for server in facts.servers if self._passes(server)]
        self._servers.set_columns(get_columns(is_server=self._is_server))
        self._servers.set_empty(f"nothing matches {self.filter_text}")
        self._servers.set_rows(sort_servers(shown, self._order, is_reversed=self._is_reversed))
        self._acknowledgements.display = bool(facts.acknowledgements) or not self._is_server
        is_first = self._acknowledgements.cursor == 0
        self._acknowledgements.set_rows(facts.acknowledgements)
        if is_first:
            self._acknowledgements.move_to(0)
        of = f"{len(shown):,} of {len(facts.servers):,}" if self._filter.terms else ""
        self.set_about(of)
        self._plot()

    def _plot(self) -> None:
        plot = self.query_one(PlotView)
        row = self._servers.cursor_row
        plot.title, plot.curve = self._history.make_curve(
            row.name if row else "", self.dock.clock(), is_server=self._is_server
        )

    def _passes(self, server: ServerSync) -> bool:
        return self._filter.is_match(FIELDS, lambda field: get_server_field(server, field))

    def _get_server_cell(self, server: ServerSync, column: str) -> Cell:
        return get_server_cell(server, column, self.dock.clock())

    def _get_acknowledged_cell(self, one: Acknowledgement, column: str) -> Cell:
        return get_acknowledged_cell(one, column, self.dock.clock())


def _get_server_id(server: ServerSync) -> str:
    return f"{server.name} {server.url}"


def _get_acknowledged_id(one: Acknowledgement) -> str:
    return f"{one.server} {one.size} {one.time_ms}"
