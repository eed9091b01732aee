from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from textual.app import App, ComposeResult
from textual.pilot import Pilot

from tests.tui.screen import read_screen
from tui.view.cells import Cell, Column
from tui.widgets.table import VirtualTable

COLUMNS = (Column("key", "KEY", 8, 0, 1), Column("size", "SIZE", 6, is_right=True))
Row = tuple[str, int]


class TableApp(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.drawn: set[str] = set()
        self.chosen: list[str] = []
        self.wanted: list[str] = []

    def compose(self) -> ComposeResult:
        yield VirtualTable[Row](COLUMNS, lambda row: row[0], self.get_cell, empty="none")

    def get_cell(self, row: Row, column: str) -> Cell:
        self.drawn.add(row[0])
        return Cell(row[0] if column == "key" else str(row[1]))

    def on_virtual_table_chosen(self, chosen: VirtualTable.Chosen) -> None:
        self.chosen.append(chosen.row[0])

    def on_virtual_table_sort_wanted(self, wanted: VirtualTable.SortWanted) -> None:
        self.wanted.append(wanted.column)


Steps = Callable[[TableApp, VirtualTable[Row], Pilot[None]], Awaitable[None]]


def run(steps: Steps, size: tuple[int, int] = (40, 12)) -> None:
    async def go() -> None:
        app = TableApp()
        async with app.run_test(size=size) as pilot:
            await steps(app, app.query_one(VirtualTable), pilot)

    asyncio.run(go())


def make(count: int) -> tuple[Row, ...]:
    return tuple((f"row-{number}", number) for number in range(count))


def test_of_many_rows_only_those_that_are_seen_are_drawn_and_keys_reach_all() -> None:
    async def steps(app: TableApp, table: VirtualTable[Row], pilot: Pilot[None]) -> None:
        assert "none" in read_screen(app)
        table.set_rows(make(100_000))
        await pilot.pause()
        assert len(app.drawn) == 11
        await pilot.press("end")
        assert "row-99999" in read_screen(app)
        await pilot.press("pageup", "up")
        assert table.cursor == 99_999 - 11
        await pilot.press("home", "down", "j", "pagedown", "enter")
        assert table.cursor == 12
        assert app.chosen == ["row-12"]
        assert len(app.drawn) < 100
        await pilot.press("up", *["up"] * 20)
        assert table.cursor == 0

    run(steps)


def test_the_cursor_goes_with_its_row_and_stays_near_when_that_is_gone() -> None:
    async def steps(app: TableApp, table: VirtualTable[Row], pilot: Pilot[None]) -> None:
        rows = list(make(50))
        table.set_rows(tuple(rows))
        table.move_to_key("row-7")
        rng = random.Random(1)
        for _ in range(20):
            rng.shuffle(rows)
            table.set_rows(tuple(rows))
            assert table.cursor_key == "row-7"
        at = table.cursor
        rows.remove(("row-7", 7))
        table.set_rows(tuple(rows))
        assert table.cursor == min(at, 48)
        table.set_rows(())
        assert table.cursor_key == ""
        await pilot.press("down", "enter", "end")
        assert app.chosen == []

    run(steps)


def test_only_lines_that_say_something_else_are_drawn_again() -> None:
    async def steps(app: TableApp, table: VirtualTable[Row], pilot: Pilot[None]) -> None:
        table.set_rows(make(30))
        await pilot.pause()
        drawn: list[int] = []
        render_line = table.render_line
        table.render_line = lambda y: drawn.append(y) or render_line(y)  # type: ignore[method-assign]
        table.set_rows(make(30))
        await pilot.pause()
        assert drawn == []
        table.set_rows((*make(3), ("row-3", 77), *make(30)[4:]))
        await pilot.pause()
        assert drawn == [4]
        assert "77" in read_screen(app)

    run(steps)


def test_the_mouse_moves_opens_and_asks_for_an_order() -> None:
    async def steps(app: TableApp, table: VirtualTable[Row], pilot: Pilot[None]) -> None:
        table.set_rows(make(30))
        await pilot.pause()
        await pilot.click(VirtualTable, offset=(3, 4))
        assert table.cursor_key == "row-3"
        assert app.chosen == []
        await pilot.click(VirtualTable, offset=(3, 4))
        assert app.chosen == ["row-3"]
        await pilot.click(VirtualTable, offset=(37, 0))
        assert app.wanted == ["size"]

    run(steps)


def test_wide_letters_and_long_ones_keep_the_columns_in_line() -> None:
    async def steps(app: TableApp, table: VirtualTable[Row], pilot: Pilot[None]) -> None:
        table.set_rows((("東京" * 30, 1), ("x" * 300, 22), ("short", 333)))
        await pilot.pause()
        table_lines = [table.render_line(y) for y in range(4)]
        assert {line.cell_length for line in table_lines} == {40}
        lines = [line.text.rstrip() for line in table_lines]
        assert lines[1].endswith("…      1")
        assert lines[2].endswith("x…     22")
        assert lines[3].endswith(" 333")

    run(steps)
