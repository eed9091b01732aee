"""Alerts: what somebody should look at, the worst first, and what to do about it.

The source's alerts, its verdicts, and what the app's own readers and workers were told. Not here:
what is said of them (tui.view.alerts).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll

from docklock.console.facts import Alert
from tui.screens.base import DockScreen
from tui.view.alerts import (
    COLUMNS,
    FIELDS,
    describe_alert,
    get_cell,
    get_field,
    get_id,
    list_alerts,
    make_head,
)
from tui.view.describing import Description
from tui.view.filters import Filter
from tui.widgets.described import Described
from tui.widgets.head import Head
from tui.widgets.table import VirtualTable

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from tui.messages import Facts
    from tui.view.cells import Cell
    from tui.widgets.banner import BannerLine


class AlertsScreen(DockScreen):
    """Below the list stands the one under the cursor in full."""

    PLACE = "alerts"
    FIELDS = FIELDS
    HELP_TEXT = """\
What somebody should look at: critical first, of one level the newest first.
Below the list stands the one under the cursor in full, with what to do.
enter goes to its container where it has one. KIND display: what this
display itself could not read or do."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "describe", "Describe", tooltip="The alert in full"),
    ]
    VERTICAL_BREAKPOINTS = [(0, "-low"), (34, "-tall")]  # noqa: RUF012 -- as Textual has it
    DEFAULT_CSS = """
    AlertsScreen {
        & VirtualTable { height: 1fr; min-height: 4; }
        & VerticalScroll {
            height: 8; border-top: solid $secondary; scrollbar-size-vertical: 1;
        }
        &.-tall VerticalScroll { height: 12; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._told: tuple[Alert, ...] = ()
        self._filter = Filter()

    def compose_body(self) -> ComposeResult:
        """Counts, the list, the one under the cursor."""
        yield Head()
        yield VirtualTable[Alert](COLUMNS, get_id, self._get_cell, empty="reading")
        with VerticalScroll(can_focus=False):
            yield Described()

    def begin(self) -> None:
        """Ask every second."""
        self.read_every("alerts", "alerts", self.source.alerts.read_alerts)
        self._table.focus()

    def upon_facts(self, facts: Facts) -> None:
        """There is an answer."""
        if facts.name == "alerts":
            self._told = cast("tuple[Alert, ...]", facts.value)
            self._show()

    def upon_filter(self, found: Filter) -> None:
        """Others are wanted."""
        self._filter = found
        self._show()

    def show_state(
        self, lines: tuple[BannerLine, ...], status: str, said: str, *, is_said_bad: bool
    ) -> None:
        """The app knows something new: its verdicts and troubles are alerts here."""
        super().show_state(lines, status, said, is_said_bad=is_said_bad)
        if self.query(VirtualTable):
            self._show()

    def on_virtual_table_chosen(self, chosen: VirtualTable.Chosen) -> None:
        """Enter: to the container, or all about it."""
        alert = chosen.row
        if alert.container and self.dock.get_row(alert.container) is not None:
            self.dock.open_place("container", alert.container)
        else:
            self.action_describe()

    def on_virtual_table_moved(self, _moved: VirtualTable.Moved) -> None:
        """Another one stands below."""
        self._show_current()

    def action_describe(self) -> None:
        """The alert under the cursor."""
        alert = self._table.cursor_row
        if alert is not None:
            self.dock.open_place("described", describe_alert(alert, self.dock.clock()))

    @property
    def _table(self) -> VirtualTable[Alert]:
        return cast("VirtualTable[Alert]", self.query_one(VirtualTable))

    def _show(self) -> None:
        troubles, overview = self.dock.troubles.items(), self.dock.overview
        every = list_alerts(
            self._told,
            self.dock.verdicts,
            ((name, trouble.words, trouble.since_ns) for name, trouble in troubles),
            {row.id: row.name for row in overview.containers} if overview is not None else {},
        )
        shown = [one for one in every if self._passes(one)]
        self.query_one(Head).cells = make_head(every, shown=len(shown))
        self._table.set_empty(f"nothing matches {self.filter_text}" if every else "")
        is_first = self._table.cursor == 0
        self._table.set_rows(shown)
        if is_first:  # who is on the worst one stays on the worst
            self._table.move_to(0)
        self._show_current()

    def _show_current(self) -> None:
        alert = self._table.cursor_row
        told = Description() if alert is None else describe_alert(alert, self.dock.clock())
        self.query_one(Described).description = told

    def _passes(self, alert: Alert) -> bool:
        return self._filter.is_match(FIELDS, lambda field: get_field(alert, field))

    def _get_cell(self, alert: Alert, column: str) -> Cell:
        return get_cell(alert, column, self.dock.clock())
