"""A table that draws only the rows that are seen, however many there are.

Rows are any values; `get_key` names a row for good, `get_cell` draws one cell of one (harmless
text, and a tone). The cursor stays with its row's key when rows come, go or move. When rows
change, only the lines whose cells differ are drawn again. The header is the first line; a click on
it asks for another order. Not here: order and filter, which the screen's view model has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.view.cells import GAP, Cell, Column, fit_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from textual import events

Row = TypeVar("Row")

HEADER_LINES = 1


class VirtualTable(ScrollView, Generic[Row], can_focus=True):
    """`columns` in order of the screen; see tui.view.cells.Column for what drops out first."""

    DEFAULT_CSS = """
    VirtualTable {
        height: 1fr; overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1;
        background: $background; color: $foreground;
        & > .virtual-table--header { text-style: bold; background: $panel; color: $foreground; }
        & > .virtual-table--cursor { text-style: reverse; }
        & > .virtual-table--good { color: $success; }
        & > .virtual-table--warn { color: $warning; }
        & > .virtual-table--bad { color: $error; text-style: bold; }
        & > .virtual-table--dim { color: $secondary; }
        & > .virtual-table--accent { color: $accent; }
        & > .virtual-table--empty { color: $secondary; }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"virtual-table--{part}"
        for part in ("header", "cursor", "good", "warn", "bad", "dim", "accent", "empty")
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "move(1)", "Next row", show=False),
        Binding("up", "move(-1)", "Row before", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "Page on", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "Page back", show=False),
        Binding("home,g", "jump(0)", "First row", show=False),
        Binding("end,G", "jump(-1)", "Last row", show=False),
        Binding("enter", "choose", "Open", show=True, tooltip="Open what the cursor is on"),
    ]

    class Chosen(Message):
        """Enter, or a click on the row that has the cursor."""

        def __init__(self, table: VirtualTable[Any], row: Any) -> None:
            self.table = table
            self.row = row
            super().__init__()

        @property
        def control(self) -> VirtualTable[Any]:
            return self.table

    class Moved(Message):
        """The cursor is on another row, or other rows are seen."""

        def __init__(self, table: VirtualTable[Any]) -> None:
            self.table = table
            super().__init__()

        @property
        def control(self) -> VirtualTable[Any]:
            return self.table

    class SortWanted(Message):
        """A click on a column's header."""

        def __init__(self, table: VirtualTable[Any], column: str) -> None:
            self.table = table
            self.column = column
            super().__init__()

        @property
        def control(self) -> VirtualTable[Any]:
            return self.table

    def __init__(
        self,
        columns: tuple[Column, ...],
        get_key: Callable[[Row], str],
        get_cell: Callable[[Row, str], Cell],
        *,
        empty: str = "",
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.rows: Sequence[Row] = ()
        self.cursor = 0
        self._columns = columns
        self._get_key = get_key
        self._get_cell = get_cell
        self._empty = empty
        self._sorted_by = ("", False)
        self._fitted: tuple[tuple[Column, int], ...] = ()
        self._fitted_width = -1
        self._drawn: dict[int, tuple[object, ...]] = {}  # line of the screen: what stands there

    # What a screen sets and asks.

    def set_rows(self, rows: Sequence[Row]) -> None:
        """Show these; the cursor goes with its row, or stays where it was if that is gone."""
        key = self.cursor_key
        old_length, self.rows = len(self.rows), rows
        self.cursor = self._find(key)
        if len(rows) != old_length:
            self.virtual_size = Size(self._fitted_width, len(rows) + HEADER_LINES)
        self._refresh_changed()

    def set_columns(self, columns: tuple[Column, ...]) -> None:
        """Have other columns from now on."""
        if columns != self._columns:
            self._columns = columns
            self._refit()

    def set_order(self, column: str, *, is_reversed: bool) -> None:
        """Mark the column that the rows are in order of."""
        self._sorted_by = (column, is_reversed)
        self.refresh()

    def set_empty(self, words: str) -> None:
        """What is said where there are no rows."""
        if words != self._empty:
            self._empty = words
            self._refresh_changed()

    @property
    def cursor_row(self) -> Row | None:
        """The row that the cursor is on."""
        return self.rows[self.cursor] if 0 <= self.cursor < len(self.rows) else None

    @property
    def cursor_key(self) -> str:
        """Its key; empty where there are no rows."""
        row = self.cursor_row
        return "" if row is None else self._get_key(row)

    def get_visible_rows(self) -> Sequence[Row]:
        """The rows that are on the screen now."""
        top = round(self.scroll_y)
        return self.rows[top : top + max(0, self.size.height - HEADER_LINES)]

    def move_to(self, index: int) -> None:
        """Put the cursor on a row and bring it into view."""
        index = max(0, min(index, len(self.rows) - 1))
        if index != self.cursor:
            before, self.cursor = self.cursor, index
            for at in (before, index):
                self._refresh_row(at)
        self._show_cursor()
        self.post_message(self.Moved(self))

    def move_to_key(self, key: str) -> None:
        """Put the cursor on the row of this key, if it is there."""
        for index, row in enumerate(self.rows):
            if self._get_key(row) == key:
                self.move_to(index)
                return

    # Keys and mouse.

    def action_move(self, by: int) -> None:
        self.move_to(self.cursor + by)

    def action_page(self, by: int) -> None:
        self.move_to(self.cursor + by * max(1, self.size.height - HEADER_LINES - 1))

    def action_jump(self, to: int) -> None:
        self.move_to(to if to >= 0 else len(self.rows) - 1)

    def action_choose(self) -> None:
        row = self.cursor_row
        if row is not None:
            self.post_message(self.Chosen(self, row))

    def on_click(self, event: events.Click) -> None:
        """Set the cursor; open on the second click. On the header, ask for an order."""
        event.stop()
        if event.y < HEADER_LINES:
            column = self._get_column_at(event.x)
            if column:
                self.post_message(self.SortWanted(self, column))
            return
        index = round(self.scroll_y) + event.y - HEADER_LINES
        if index >= len(self.rows):
            return
        if index == self.cursor:
            self.action_choose()
        else:
            self.move_to(index)

    def on_resize(self) -> None:
        self._refit()
        self._show_cursor()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if round(old_value) != round(new_value):
            self.post_message(self.Moved(self))

    # Drawing.

    def render_line(self, y: int) -> Strip:
        """One line of the screen, in Textual's line API."""
        base = self.rich_style
        width = self._fit_to_width()
        if y < HEADER_LINES:
            return self._draw_header(width)
        index = round(self.scroll_y) + y - HEADER_LINES
        cells = self._get_line(y)
        self._drawn[y] = cells
        if index >= len(self.rows):
            if index == 0 and self._empty:
                style = self._style_of("empty", base)
                return Strip([Segment(set_cell_size(f" {self._empty}", width), style)], width)
            return Strip.blank(width, base)
        is_cursor = index == self.cursor
        return self._draw_row(cells, width, base, is_cursor=is_cursor)

    def _draw_header(self, width: int) -> Strip:
        style = self.get_component_rich_style("virtual-table--header")
        sorted_by, is_reversed = self._sorted_by
        texts = []
        for column, room in self._fitted:
            title = column.title
            if column.key == sorted_by:
                title = f"{title}{'▼' if is_reversed else '▲'}"
            texts.append(_fit(title, room, is_right=column.is_right))
        line = (" " * GAP).join(texts)
        return Strip([Segment(set_cell_size(line, width), style)], width)

    def _draw_row(
        self, cells: tuple[object, ...], width: int, base: Style, *, is_cursor: bool
    ) -> Strip:
        over = self.get_component_rich_style("virtual-table--cursor", partial=True)
        segments, used = [], 0
        for (column, room), cell in zip(self._fitted, cells, strict=False):
            assert isinstance(cell, Cell)
            style = base + over if is_cursor else self._style_of(cell.tone, base)
            text = _fit(cell.text, room, is_right=column.is_right)
            gap = " " * min(GAP, width - used - room)
            segments.append(Segment(text + gap, style))
            used += room + len(gap)
        strip = Strip(segments, used)
        return strip.adjust_cell_length(width, base + over if is_cursor else base)

    def _style_of(self, tone: str, base: Style) -> Style:
        if not tone:
            return base
        return base + self.get_component_rich_style(f"virtual-table--{tone}", partial=True)

    def _get_line(self, y: int) -> tuple[object, ...]:
        """What a line of the screen says now: its cells and whether the cursor is on it."""
        index = round(self.scroll_y) + y - HEADER_LINES
        if index >= len(self.rows):
            return (self._empty if index == 0 else "",)
        row = self.rows[index]
        cells = tuple(self._get_cell(row, column.key) for column, _ in self._fitted)
        return (*cells, index == self.cursor)

    def _refresh_changed(self) -> None:
        """Have those lines drawn again that say something else than what stands there."""
        for y in range(HEADER_LINES, self.size.height):
            if self._drawn.get(y) != self._get_line(y):
                self.refresh(Region(0, y, self.size.width, 1))

    def _refresh_row(self, index: int) -> None:
        y = index - round(self.scroll_y) + HEADER_LINES
        if HEADER_LINES <= y < self.size.height:
            self.refresh(Region(0, y, self.size.width, 1))

    def _refit(self) -> None:
        self._fitted_width = -1
        self._fit_to_width()
        self.virtual_size = Size(self._fitted_width, len(self.rows) + HEADER_LINES)
        self._drawn.clear()
        self.refresh()

    def _fit_to_width(self) -> int:
        """Choose the columns for the room there is, which a scroll bar makes smaller."""
        width = self.scrollable_content_region.width
        if width != self._fitted_width:
            self._fitted, self._fitted_width = fit_columns(self._columns, width), width
        return width

    def _find(self, key: str) -> int:
        """Where the row of this key is now: near where it was, else anywhere."""
        if not self.rows:
            return 0
        last = len(self.rows) - 1
        at = min(self.cursor, last)
        if not key or self._get_key(self.rows[at]) == key:
            return at
        for index, row in enumerate(self.rows):
            if self._get_key(row) == key:
                return index
        return at

    def _show_cursor(self) -> None:
        lines = self.size.height - HEADER_LINES
        if lines <= 0:
            return
        top = round(self.scroll_y)
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False)
        elif self.cursor >= top + lines:
            self.scroll_to(y=self.cursor - lines + 1, animate=False)

    def _get_column_at(self, x: int) -> str:
        left = 0
        for column, room in self._fitted:
            if left <= x < left + room + GAP:
                return column.key
            left += room + GAP
        return ""


def _fit(text: str, room: int, *, is_right: bool) -> str:
    """Text in exactly `room` cells; one that is cut says so."""
    fitted = set_cell_size(text, room)
    if len(text) < room and text.isascii():
        return text.rjust(room) if is_right else fitted
    if fitted.rstrip() != text.rstrip() and room > 1:
        return set_cell_size(text, room - 1) + "…"
    if is_right:
        bare = fitted.rstrip(" ")
        return " " * (len(fitted) - len(bare)) + bare
    return fitted
