"""A query says one thing, or is refused."""

from __future__ import annotations

import pytest

from chainlite.bpci import asking
from chainlite.bpci.asking import SearchPlace
from chainlite.codec import U64_MAX
from chainlite.errors import SpecError
from chainlite.export_frames import RUN_ANY, Position, Scope, encode_position

ID = "0a" * 32
SCOPE = Scope(b"\x01" * 32, b"\x02" * 1312, "acme")


def test_what_is_asked_for_is_what_is_narrowed() -> None:
    start = Position(b"\x03" * 32, b"\x04" * 32, 5, 6, 7)
    query = {"run": "3", "first": "10", "last": "20", "from": "5", "host": ID,
             "to": "1970-01-01T00:00:01.5Z", "cursor": encode_position(start).hex()}  # fmt: skip
    found = asking.narrow_range(SCOPE, ID, query)
    assert found == SCOPE._replace(
        host=bytes.fromhex(ID), container=bytes.fromhex(ID), run=3, first=10, last=20, time_from=5,
        time_to=1_500_000_000, start=start,
    )  # fmt: skip
    assert asking.narrow_range(SCOPE, "web", {}) == SCOPE._replace(app="web")
    assert asking.narrow_range(SCOPE, ID[:-1] + "g", {}).app == ID[:-1] + "g"
    assert asking.narrow_export(SCOPE, {}) == SCOPE
    assert asking.narrow_export(SCOPE, {"app": "web", "container": ID}) == SCOPE._replace(
        app="web", container=bytes.fromhex(ID)
    )
    assert SCOPE.is_all and not found.is_all


@pytest.mark.parametrize(
    "query",
    [
        {"first": "1"}, {"last": "1"}, {"run": "1", "first": "2", "last": "1"},
        {"run": str(RUN_ANY)}, {"run": "-1"}, {"run": "01"}, {"run": "\u0661"}, {"run": " 1"},
        {"first": str(U64_MAX + 1), "run": "0"}, {"host": ID.upper()}, {"host": ID[:-2]},
        {"from": "x"}, {"from": "2026-11-28"}, {"from": "2026-13-28T00:00:00Z"}, {"from": "-1"},
        {"from": "2026-11-28T00:00:00"}, {"from": "1969-12-31T23:59:59Z"}, {"to": str(2**64)},
        {"from": "9", "to": "8"}, {"cursor": "0"}, {"cursor": "00"}, {"cursor": "zz"},
        {"cursor": "00" * 85}, {"cursor": "AA" * 84},
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(SpecError):
        asking.narrow_range(SCOPE, "web", query)


def test_names_are_known_and_come_once() -> None:
    names = frozenset(("host", "path"))
    assert asking.read_query([("host", "x"), ("path", "\udcff")], names)["path"] == "\udcff"
    for pairs in ([("hosts", "")], [("host", ""), ("host", "")], [("host", "\udcff")], [("", "")]):
        with pytest.raises(SpecError):
            asking.read_query(pairs, names)
    for app in ("", "a" * 257, "\udcff"):
        with pytest.raises(SpecError):
            asking.narrow_range(SCOPE, app, {})
    with pytest.raises(SpecError):
        asking.narrow_export(SCOPE, {"app": "a" * 257})


def test_a_search_and_its_cursor_have_one_spelling() -> None:
    place = SearchPlace(bytes.fromhex(ID), 2**63 - 1, 0, 17)
    text = asking.encode_search_cursor(place)
    found = asking.parse_search({"cursor": text, "syscall": "syscall.openat", "path": "/\udcff*"})
    assert (found.start, found.syscall, found.path) == (place, "openat", b"/\xff*")
    assert (found.limit, found.time_from, found.time_to) == (100, 0, U64_MAX)
    for bad in (text + ".0", text[:-3], text.replace(".0.", ".00."), f"x{text[1:]}",
                text.replace(str(2**63 - 1), str(2**63)), "...", ID):  # fmt: skip
        with pytest.raises(SpecError):
            asking.parse_search({"cursor": bad})
    for query in ({"limit": "0"}, {"limit": "1001"}, {"syscall": "a" * 57}, {"path": "a" * 4097}):
        with pytest.raises(SpecError):
            asking.parse_search(query)
