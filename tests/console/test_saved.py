"""A saved source: what was answered is answered again, at its moment; no other file is read."""

from __future__ import annotations

import json
import typing

import pytest

from chainlite.errors import SpecError, StateError
from docklock.console import facts, saved_format, saving
from docklock.console.facts import (
    ContainerRow,
    Denial,
    Details,
    Event,
    FeedPart,
    LogLine,
    Overview,
    Proposal,
    Verdict,
)
from docklock.console.saved import Answer, encode_saved, load_saved
from docklock.console.saving import Saver
from docklock.console.source import Source

SECOND = 10**9


class Clock:
    def __init__(self) -> None:
        self.now_ns = 7 * SECOND

    def get_ns(self) -> int:
        return self.now_ns


def make_event(index: int, run: int = 1) -> Event:
    return Event(run, index, index, 7, "openat", "denied", "EPERM", (("path", f"/{index}"),))


def make_overview(at_s: int, *names: str) -> Overview:
    rows = tuple(ContainerRow(id=name * 64, name=name) for name in names)
    return Overview(at_ns=at_s * SECOND, containers=rows, running=len(rows))


def make_filled(kind: typing.Any, depth: int = 0) -> typing.Any:
    """A value of a fact's type in which no field is at its default."""
    arguments = typing.get_args(kind)
    if kind in (str, int, float, bool):
        return {str: "\ud800\x1b[31m\u202e" + str(depth), int: 5, float: 2.5, bool: True}[kind]
    if arguments and type(None) in arguments:
        return False
    if typing.get_origin(kind) is tuple:
        items = arguments[:1] * 2 if arguments[-1] is Ellipsis else arguments
        return tuple(make_filled(item, depth + 1) for item in items)
    hints = typing.get_type_hints(kind)
    value = kind(**{name: make_filled(hint, depth + 1) for name, hint in hints.items()})
    if kind is facts.Verdict:  # it has a required bool only: False is its other value
        return value._replace(is_whole=False)
    return value


def make_all() -> list[Answer]:
    """One answer to every call, each with all its fields."""
    return [
        Answer(call, 10 + at, make_filled(kind), tuple(make_filled(word) for word in words))
        for at, (call, (kind, words)) in enumerate(saved_format.CALLS.items())
    ]


def test_every_field_of_every_fact_comes_back() -> None:
    answers = make_all()
    data = encode_saved("this host", answers, "a note")
    saved = saved_format.parse_saved(data, "x")
    assert saved == ("this host", tuple(answers), "a note")
    assert encode_saved(*saved) == data


def test_a_field_at_its_default_is_left_out_and_known_again() -> None:
    data = encode_saved("h", [Answer("overview", 1, make_overview(1, "a"))])
    written = json.loads(data)["answers"][0]["answer"]
    assert written == {
        "at_ns": SECOND, "containers": [{"id": "a" * 64, "name": "a"}], "running": 1
    }  # fmt: skip
    assert load_saved(data).containers.read_overview() == make_overview(1, "a")


def test_a_number_that_is_none_is_written_as_unknown() -> None:
    row = ContainerRow("a", "a", receipts_per_s=float("nan"))
    data = encode_saved("h", [Answer("overview", 1, Overview(1, containers=(row,)))])
    [read] = load_saved(data).containers.read_overview().containers
    assert read.receipts_per_s == facts.UNKNOWN


ROW = {"at_ns": 1, "call": "overview", "answer": {"at_ns": 1}}
HEAD = {"format": "docklock-console", "version": 1, "name": "h"}


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"format": "other"}, "format"),
        ({"version": 2}, "version: this program reads 1"),
        ({"name": 3}, "name: not a text"),
        ({"extra": 3}, "'extra': no such field"),
        ({"answers": {}}, "answers: not a list"),
        ({"answers": [[]]}, r"answers\[0\]: not an object"),
        ({"answers": [{"at_ns": 1, "call": "overview"}]}, r"answers\[0\].answer: is missing"),
        ({"answers": [{**ROW, "call": "rm"}]}, r"answers\[0\].call: 'rm' is none of"),
        ({"answers": [{**ROW, "call": ["rm"]}]}, r"answers\[0\].call"),
        ({"answers": [{**ROW, "of": ["a"]}]}, r"answers\[0\].of: overview is asked with \[\]"),
        ({"answers": [{**ROW, "call": "receipt", "of": ["a", 1, True]}]}, "str, int, int"),
        ({"answers": [{**ROW, "at_ns": 2}, ROW]}, r"answers\[1\].at_ns: earlier"),
        ({"answers": [{**ROW, "at_ns": True}]}, r"answers\[0\].at_ns: not a whole number"),
        ({"answers": [{**ROW, "at_ns": 2**63}]}, r"answers\[0\].at_ns: not a whole number"),
        ({"answers": [{**ROW, "answer": []}]}, r"answers\[0\].answer: not an object \(Overview"),
        ({"answers": [{**ROW, "answer": {}}]}, r"answer.at_ns: is missing"),
        ({"answers": [{**ROW, "answer": {"at_ns": 1, "x": 1}}]}, "answer.'x': no such field"),
        (
            {"answers": [{**ROW, "answer": {"at_ns": 1, "containers": [
                {"id": "a", "name": "b", "usage": {"cpu_percent": "all"}}]}}]},
            r"answers\[0\].answer.containers\[0\].usage.cpu_percent: not a number",
        ),
        (
            {"answers": [{**ROW, "call": "verdicts", "answer": [{"is_whole": 1}]}]},
            r"answer\[0\].is_whole: neither true nor false",
        ),
        (
            {"answers": [{**ROW, "call": "details", "of": ["a"], "answer": {
                "row": {"id": "a", "name": "b"}, "more": [["files"]]}}]},
            r"answer.more\[0\]: 1 items where 2 belong",
        ),
    ],
)  # fmt: skip
def test_what_is_no_saved_source_is_refused_with_its_place(
    change: dict[str, object], place: str
) -> None:
    data = json.dumps({**HEAD, "answers": [ROW], **change}).encode()
    with pytest.raises(SpecError, match=f"^file: .*{place}"):
        load_saved(data, "file")


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[", b"\xff\xfe\xfd", b"[" * 200_000, b"1" * 10_000, b'{"format":1,"format":2}',
        b'{"format":"docklock-console","version":1,"name":"h","answers":[],"note":NaN}', b"null",
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(SpecError, match="^file: "):
        load_saved(data, "file")


def test_a_file_or_list_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode_saved("h", [Answer("overview", 1, make_overview(1, "a", "b", "c"))])
    monkeypatch.setattr(saved_format, "ITEMS_MAX", 2)
    with pytest.raises(SpecError, match="containers: 3 items, more than 2"):
        load_saved(data)
    monkeypatch.setattr(saved_format, "ANSWERS_MAX", 0)
    with pytest.raises(SpecError, match="answers: 1 items, more than 0"):
        load_saved(data)
    monkeypatch.setattr(saved_format, "FILE_BYTES_MAX", len(data) - 1)
    with pytest.raises(SpecError, match="bytes, more than"):
        load_saved(data)


def test_a_replay_moves_as_its_moments_did() -> None:
    clock = Clock()
    moments = [make_overview(at_s, "a" * at_s) for at_s in (1, 3, 4)]
    answers = [Answer("overview", moment.at_ns, moment) for moment in moments]
    source = load_saved(encode_saved("h", answers), "f", clock.get_ns)
    seen = []
    for _ in range(5):
        seen.append(source.containers.read_overview())
        clock.now_ns += SECOND
    assert seen == [moments[0], moments[0], moments[1], moments[2], moments[2]]


def test_what_was_asked_later_is_known_from_the_start() -> None:
    late = Details(row=ContainerRow("a", "a"), command=("sh",))
    answers = [
        Answer("overview", 1, make_overview(0, "a", "b")),
        Answer("details", 9 * SECOND, late, ("a",)),
        Answer("log", 9 * SECOND, (LogLine(1, "stdout", "x"), LogLine(2, "stdout", "y")), ("a",)),
    ]
    source = load_saved(encode_saved("h", answers))
    assert source.containers.read_details("a") == late
    assert source.containers.read_log("a", 1) == (LogLine(2, "stdout", "y"),)


def test_what_was_not_looked_at_is_not_known_and_said_so() -> None:
    source = load_saved(encode_saved("web1", [Answer("overview", 1, make_overview(0, "b"))]))
    unknown = source.containers.read_details("b" * 64)
    assert unknown.row.name == "b"
    assert "not looked at" in unknown.trouble
    with pytest.raises(StateError, match="not looked at"):
        source.containers.read_log("b" * 64, 5)
    assert source.name == "replay of web1"
    assert (source.acts, source.chain, source.sync, source.checks, source.policy) == (None,) * 5
    assert source.evidence is None
    assert "nothing can be done" in source.note
    assert load_saved(encode_saved("h", [])).containers.read_overview().trouble


def test_a_feed_tells_each_receipt_once_as_it_came() -> None:
    clock = Clock()
    first = FeedPart(tuple(make_event(index) for index in range(3)), 3, 3, 1)
    second = FeedPart((make_event(3), make_event(9)), 7, 10, 1, is_end=True)
    answers = [
        Answer("feed", SECOND, first, ("a",)),
        Answer("feed", 2 * SECOND, second, ("a",)),
        Answer("past", 3 * SECOND, (make_event(1), make_event(2, run=0)), ("a",)),
    ]
    source = load_saved(encode_saved("h", answers), "f", clock.get_ns)
    assert source.evidence is not None
    feed = source.evidence.open_feed("a")
    assert feed.read(2) == first._replace(events=first.events[1:])
    assert feed.read() == first._replace(events=(), came=0)
    clock.now_ns += SECOND
    assert feed.read() == second
    assert [event.event_index for event in feed.read_before(1, 3, 2).events] == [1, 2]
    assert [event.run for event in feed.read_before(0, 99).events] == [0]
    assert "not looked at" in source.evidence.open_feed("b").read().trouble
    line = source.evidence.read_receipt("a", 1, 3)
    assert (line.event, line.is_whole) == (make_event(3), None) and "only its line" in line.why
    for run, index in ((1, 5), (7, 3)):
        with pytest.raises(StateError, match="not looked at"):
            source.evidence.read_receipt("a", run, index)
    with pytest.raises(StateError, match="not looked at"):
        source.evidence.check_receipt("a", 1, 3)
    feed.close()


def test_a_proposal_is_shown_again_and_never_applied() -> None:
    denial = Denial("a", "a", "connect", "EPERM", 1, 1, 1, make_event(1), "net")
    proposal = Proposal("a", "p", "/p", ("+ allow",))
    answers = [
        Answer("denials", 1, (denial,), ("",)),
        Answer("proposal", 1, proposal, ("a", "connect", "EPERM", "net")),
    ]
    desk = load_saved(encode_saved("h", answers)).policy
    assert desk is not None
    assert desk.read_denials("a") == (denial,)
    assert desk.read_denials("b") == ()
    assert desk.propose(denial) == proposal
    with pytest.raises(StateError, match="replay"):
        desk.apply(proposal)


def test_a_saver_answers_as_its_source_and_keeps_what_it_said() -> None:
    """Every call of every part of a source with all of them, saved, loaded, and asked again."""
    inner = load_saved(encode_saved("h", make_all(), "note"))
    clock = Clock()
    saver = Saver(inner, clock.get_ns)
    asked = ask_all(saver.source)
    assert asked == ask_all(inner)
    again = load_saved(saver.encode())
    assert ask_all(again) == asked
    assert {answer.call for answer in saved_format.parse_saved(saver.encode(), "f").answers} == set(
        saved_format.CALLS
    )


def ask_all(source: Source) -> list[object]:
    text = make_filled(str)
    denial = make_filled(facts.Denial)._replace(container=text, op=text, errno=text, rule=text)
    assert source.evidence and source.checks and source.policy and source.chain and source.sync
    feed = source.evidence.open_feed(text)
    return [
        source.containers.read_overview(), source.containers.read_details(text),
        source.containers.read_log(text, 9), feed.read(), feed.read_before(5, 6),
        source.evidence.read_receipt(text, 5, 5), source.evidence.check_receipt(text, 5, 5),
        source.checks.read_verdicts(), source.checks.verify(text, lambda _: True),
        source.policy.read_denials(text), source.policy.propose(denial),
        source.chain.read_chain(), source.sync.read_sync(), source.alerts.read_alerts(),
    ]  # fmt: skip


def test_a_long_recording_grows_coarse_and_keeps_its_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(saving, "FACTS_MAX", 300)
    clock = Clock()
    record = saving._Record(clock.get_ns)
    for at in range(500):
        clock.now_ns += SECOND
        record.keep(make_overview(at, "a", "b"), "overview")
        record.keep(FeedPart((make_event(at),), 1, at + 1, 1), "feed", "a")
        record.keep((Verdict(is_whole=True),), "verdicts")
    answers = record.get_answers()
    moments = [each.answer.at_ns // SECOND for each in answers if each.call == "overview"]
    assert (moments[0], moments[-1]) == (0, 499)
    assert 10 < len(moments) < 80
    parts = [each.answer for each in answers if each.call == "feed"]
    assert sum(part.came for part in parts) == 500
    assert parts[-1].total == 500
    assert sum(saving._weigh(each.answer) for each in answers) <= 300
    assert len([each for each in answers if each.call == "verdicts"]) == 1
    parsed = saved_format.parse_saved(encode_saved("h", answers), "f")
    assert parsed.answers == tuple(sorted(answers, key=lambda each: each.at_ns))
