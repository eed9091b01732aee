from __future__ import annotations

from docklock.console.facts import Anchor, ContainerRow, Usage
from tui.view.filters import Filter, parse_filter
from tui.view.rows import (
    FIELDS,
    Arrangement,
    arrange,
    get_columns,
    get_field,
    make_cell,
    sort_rows,
    sum_rows,
)

NOW_NS = 10**18
ROWS = (
    ContainerRow("a1", "web-10", app="shop", status="running", usage=Usage(5.0, 1 << 20),
                 denials=2, anchor=Anchor("block", "12")),
    ContainerRow("a2", "web-2", app="shop", status="exited", exit_code=3, usage=Usage(-1, -1)),
    ContainerRow("a3", "db", app="bank", status="running", usage=Usage(50.0, 1 << 30),
                 health="unhealthy", trouble="gap", anchor=Anchor("host log")),
    ContainerRow("a4", "lone", status="paused", usage=Usage(0.0, 1)),
)  # fmt: skip


def get_names(arrangement: Arrangement, found: Filter = Filter()) -> list[str]:  # noqa: B008
    return [line.row.name for line in arrange(ROWS, arrangement, found)]


def test_numbers_sort_from_the_largest_and_names_as_people_count() -> None:
    assert get_names(Arrangement("name")) == ["db", "lone", "web-2", "web-10"]
    assert get_names(Arrangement("name", is_reversed=True)) == ["web-10", "web-2", "lone", "db"]
    assert get_names(Arrangement("cpu")) == ["db", "web-10", "lone", "web-2"]
    assert get_names(Arrangement("anchor", is_reversed=True))[0] == "web-10"
    for order in (*FIELDS, "age"):
        assert len(sort_rows(ROWS, order)) == len(ROWS)


def test_a_tree_puts_containers_under_their_app_with_its_sums() -> None:
    names = get_names(Arrangement(is_tree=True, folded=frozenset(("bank",))))
    assert names == ["bank", "shop", "web-2", "web-10", "(no app)", "lone"]
    shop = sum_rows("shop", ROWS[:2])
    assert (shop.status, shop.usage.cpu_percent, shop.denials) == ("1/2 up", 5.0, 2)
    assert shop.anchor.kind == ""  # as far as the least of them


def test_a_filter_goes_before_the_tree() -> None:
    found = parse_filter("status:running", FIELDS)
    assert get_names(Arrangement(is_tree=True), found) == ["bank", "db", "shop", "web-10"]


def test_what_nobody_knows_is_a_dash_and_trouble_has_a_sign_beside_its_colour() -> None:
    lines = {line.row.name: line for line in arrange(ROWS, Arrangement(), Filter())}
    assert make_cell(lines["web-2"], "cpu", NOW_NS).text == "-"
    assert make_cell(lines["web-2"], "status", NOW_NS).text == "exited (3)"
    assert make_cell(lines["db"], "name", NOW_NS).text == "! db"
    assert make_cell(lines["lone"], "anchor", NOW_NS).text == "nothing yet"


def test_every_cell_is_harmless() -> None:
    evil = "\x1b[2J\u202e" + "x" * 10_000
    fields = {field: evil for field, value in ROWS[0]._asdict().items() if isinstance(value, str)}
    row = ROWS[0]._replace(**fields, anchor=Anchor(evil, evil))
    for arrangement in (Arrangement(), Arrangement(is_tree=True)):
        for line in arrange((row,), arrangement, Filter()):
            for column in get_columns((row,)):
                cell = make_cell(line, column.key, NOW_NS)
                assert cell.text.isprintable()
                assert len(cell.text) < 500


def test_columns_that_nothing_is_in_are_left_out() -> None:
    keys = {column.key for column in get_columns(ROWS[3:])}
    assert not keys & {"host", "health", "app", "trouble"}
    one, other = ROWS[3]._replace(host="h"), ROWS[3]._replace(host="i")
    assert "host" not in {column.key for column in get_columns((one, one))}
    assert "host" in {column.key for column in get_columns((one, other))}
    assert isinstance(get_field(ROWS[3], "network"), int | float)
