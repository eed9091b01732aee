"""Containers: what runs, what it uses, and whether its evidence is well."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from tui.screens.acting import ActingScreen
from tui.view.filters import Filter
from tui.view.rows import (
    COLUMNS,
    FIELDS,
    ORDERS,
    Arrangement,
    Line,
    arrange,
    get_columns,
    make_cell,
)
from tui.widgets.table import VirtualTable

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from docklock.console.facts import ContainerRow, Overview
    from tui.view.cells import Cell


class ContainersScreen(ActingScreen):
    """The first screen. The rows come with the app's overview, which measures those seen first."""

    PLACE = "containers"
    HELP_TEXT = """\
All containers: state, what they use, receipts a second, calls that the
policy refused (DENIED), and how far the newest evidence is anchored.
A line with ! has trouble: enter tells more. Where DENIED is above 0,
press 2 to see what was refused, and to fix the policy.
"""
    FIELDS = FIELDS
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("o", "sort(1)", "Sort", tooltip="Sort by the next column"),
        Binding("O", "reverse", "Reverse", show=False, tooltip="Turn the order round"),
        Binding("t", "tree", "Tree", tooltip="Group by app; left and right fold"),
        Binding("left", "fold('fold')", "Fold", show=False, tooltip="Fold the app (tree)"),
        Binding("right", "fold('unfold')", "Unfold", show=False, tooltip="Unfold the app (tree)"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._arrangement = Arrangement()
        self._found = Filter()

    def compose_body(self) -> ComposeResult:
        yield VirtualTable[Line](COLUMNS, get_key, self._make_cell, empty="reading the containers")

    @property
    def table(self) -> VirtualTable[Line]:
        return self.query_one(VirtualTable)

    def begin(self) -> None:
        self.table.set_order(self._arrangement.order, is_reversed=False)
        if self.dock.overview is not None:
            self.upon_overview(self.dock.overview)

    def upon_overview(self, overview: Overview) -> None:
        self.table.set_columns(get_columns(overview.containers))
        self._show()

    def upon_filter(self, found: Filter) -> None:
        self._found = found
        self._show()

    def get_target(self) -> ContainerRow | None:
        """The container under the cursor; None on an app's line."""
        line = self.table.cursor_row
        return None if line is None or line.is_group else line.row

    def action_sort(self, by: int) -> None:
        at = ORDERS.index(self._arrangement.order)
        self._sort(ORDERS[(at + by) % len(ORDERS)], is_reversed=False)

    def action_reverse(self) -> None:
        self._sort(self._arrangement.order, is_reversed=not self._arrangement.is_reversed)

    def action_tree(self) -> None:
        self._arrangement = self._arrangement._replace(is_tree=not self._arrangement.is_tree)
        self._show()

    def action_fold(self, way: str) -> None:
        line = self.table.cursor_row
        if not self._arrangement.is_tree or line is None:
            return
        app = line.row.app
        folded = self._arrangement.folded
        folded = folded | {app} if way == "fold" else folded - {app}
        self._arrangement = self._arrangement._replace(folded=folded)
        self._show()

    def on_virtual_table_sort_wanted(self, wanted: VirtualTable.SortWanted) -> None:
        is_same = wanted.column == self._arrangement.order
        self._sort(wanted.column, is_reversed=is_same and not self._arrangement.is_reversed)

    def on_virtual_table_moved(self, _moved: VirtualTable.Moved) -> None:
        self._focus_seen()

    def on_virtual_table_chosen(self, chosen: VirtualTable.Chosen) -> None:
        line: Line = chosen.row
        if line.is_group:
            self.action_fold("unfold" if line.is_folded else "fold")
        else:
            self.open_container(line.row.id)

    def _sort(self, order: str, *, is_reversed: bool) -> None:
        self._arrangement = self._arrangement._replace(order=order, is_reversed=is_reversed)
        self.table.set_order(order, is_reversed=is_reversed)
        self._show()

    def _show(self) -> None:
        overview = self.dock.overview
        if overview is None:
            return
        lines = arrange(overview.containers, self._arrangement, self._found)
        table = self.table
        if not lines and overview.containers:
            table.set_empty(f"nothing matches: {self.filter_text}  (esc takes the filter away)")
        elif not lines:
            table.set_empty("no containers: docklock run makes one")
        table.set_rows(lines)
        of = f"{len(lines):,} of {len(overview.containers):,}" if self._found.terms else ""
        self.set_about(f"/{self.filter_text}: {of}" if of else "")
        self._focus_seen()

    def _focus_seen(self) -> None:
        self.dock.focus_ids = tuple(
            line.row.id for line in self.table.get_visible_rows() if not line.is_group
        )

    def _make_cell(self, line: Line, column: str) -> Cell:
        return make_cell(line, column, self.dock.clock())


def get_key(line: Line) -> str:
    """A row's key, as tui.view.rows has it."""
    return line.key
