"""The list of events: what is kept and passed over adds up, and nothing grows without bound."""

from __future__ import annotations

import pytest

from docklock.console.facts import Event, FeedPart
from tui.view.event_text import EVENT_COLUMNS, write_decision, write_item, write_values
from tui.view.events import (
    EVENT_FIELDS,
    EVENTS_MAX,
    PAST_MAX,
    VALUE_CHARS_KEPT,
    EventList,
    Gap,
)
from tui.view.filters import Filter, parse_filter

PEER = ("sockaddr", "10.0.0.1:80")


def make_event(index: int, op: str = "syscall.connect", decision: str = "denied") -> Event:
    errno = "EPERM" if decision == "denied" else ""
    return Event(
        0, index, index * 10**9, 77, op, decision, errno, (PEER, ("path", f"/etc/{index}"))
    )


def make_part(first: int, last: int, came: int | None = None, total: int = 0) -> FeedPart:
    events = tuple(make_event(index) for index in range(first, last))
    return FeedPart(events, last - first if came is None else came, total or last, 0)


def get_indexes(events: EventList) -> list[int]:
    return [item.event_index for item in events.shown if isinstance(item, Event)]


def test_what_came_is_shown_in_order_and_the_count_of_all_is_told() -> None:
    events = EventList()
    assert events.take(make_part(4019, 4031, total=4031)) == 12
    assert get_indexes(events) == list(range(4019, 4031))
    assert events.describe() == "12 of 4,031 shown"


def test_kept_and_passed_over_add_up_to_what_came() -> None:
    events = EventList()
    events.take(make_part(0, 10))
    events.take(make_part(90, 100, came=90))
    assert events.kept_count == 20 and events.passed_count == 80
    gap = events.shown[10]
    assert gap == Gap(80, 0, 90)
    assert "sampled: 80 passed over" in events.describe()
    assert "80 receipts passed over" in write_item(gap)["values"].text


def test_a_gap_is_filled_from_its_end_until_none_is_left() -> None:
    events = EventList()
    events.take(make_part(0, 10))
    events.take(make_part(90, 100, came=90))
    events.fill(Gap(80, 0, 90), tuple(map(make_event, range(60, 90))))
    assert events.shown[10] == Gap(50, 0, 60)
    events.fill(Gap(50, 0, 60), tuple(map(make_event, range(60))))  # more than was missing
    assert get_indexes(events) == list(range(100)) and not events.passed_count
    events.fill(Gap(50, 0, 60), tuple(map(make_event, range(60))))  # answered twice
    assert get_indexes(events) == list(range(100))


def test_the_first_look_has_no_gap_but_a_past_that_can_be_read() -> None:
    events = EventList()
    assert events.get_earlier() is None
    events.take(make_part(50, 60, came=60))
    assert not events.passed_count and events.get_earlier() == (0, 50)
    assert events.take_before(tuple(map(make_event, range(20, 50)))) == 30
    assert get_indexes(events) == list(range(20, 60))
    assert events.take_before(()) == 0 and events.get_earlier() is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("op:connect", [0, 1]),
        ("decision:denied path:/etc/1", [1]),
        ("peer:10.0.0.1", [0, 1, 2, 3]),
        ("!op:connect", [2, 3]),
        ("op:EXECVE decision:allowed", [2, 3]),
        ("10.0.0.1:80", [0, 1, 2, 3]),
        ("peers:10", [0, 1, 2, 3]),  # no such field: that is said, and all is shown
        ("etc/3", [3]),
        ("pid:77 op:connect", [0, 1]),
        ("errno:eperm", [0, 1]),
        ("path:", [0, 1, 2, 3]),
    ],
)
def test_a_filter_shows_what_it_asks_for(text: str, wanted: list[int]) -> None:
    events = EventList()
    events.take(make_part(0, 2))
    others = tuple(make_event(index, "syscall.execve", "allowed") for index in (2, 3))
    events.take(FeedPart(others, 2, 4, 0))
    events.set_filter(parse_filter(text, EVENT_FIELDS))
    assert get_indexes(events) == wanted
    assert events.describe().startswith(f"{len(wanted)} of 4 shown")
    events.set_filter(Filter())
    assert get_indexes(events) == [0, 1, 2, 3]


def test_a_filter_holds_for_what_comes_later_and_for_the_past() -> None:
    events = EventList()
    events.set_filter(parse_filter("path:/etc/1", EVENT_FIELDS))
    assert events.take(make_part(15, 25)) == 5
    assert events.take_before(tuple(map(make_event, range(15)))) == 6
    assert get_indexes(events) == [1, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]
    assert "the filter looked at 25" in events.describe()


def test_nothing_grows_without_bound() -> None:
    events = EventList()
    for first in range(0, EVENTS_MAX + 2000, 500):
        events.take(make_part(first, first + 500))
    assert events.kept_count == len(events.shown) == EVENTS_MAX
    assert get_indexes(events)[0] == 2000 and events.get_earlier() == (0, 2000)
    events.is_held = True
    while earlier := events.get_earlier():
        events.take_before(tuple(make_event(earlier[1] - step) for step in range(500, 0, -1)))
    assert events.kept_count == PAST_MAX and events.is_full
    assert "FULL" in events.describe()


def test_a_path_of_a_megabyte_is_not_kept() -> None:
    huge = make_event(0)._replace(values=(("path", "/" + "x" * 1_000_000),))
    many = make_event(1)._replace(values=tuple((f"n{number}", "v") for number in range(1000)))
    events = EventList()
    events.take(FeedPart((huge, many), 2, 2, 0))
    kept, cut = events.shown
    assert isinstance(kept, Event) and isinstance(cut, Event)
    assert len(kept.values[0][1]) == VALUE_CHARS_KEPT + 1 and len(cut.values) == 16


def test_a_line_says_what_was_refused_by_words() -> None:
    denied, allowed = make_event(3), make_event(4, decision="allowed")
    cells = write_item(denied)
    assert set(cells) == {column.key for column in EVENT_COLUMNS}
    assert cells["op"].text == "connect" and cells["decision"].text == "✗ denied EPERM"
    assert write_decision(allowed).text.strip() == "allowed"
    assert write_decision(denied._replace(decision="odd")).text.startswith("! odd")
    assert write_values(denied) == "sockaddr=10.0.0.1:80 path=/etc/3"
