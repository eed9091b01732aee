"""Hostile text in every field of every fact: nothing of it reaches the terminal as it came."""

from __future__ import annotations

from docklock.console.facts import (
    ContainerRow,
    Denial,
    Details,
    Event,
    FeedPart,
    LogLine,
    Overview,
    ProofStep,
    Proposal,
    ReceiptFacts,
    Verdict,
)
from docklock.console.saved import Answer
from docklock.console.source import Source
from tests.tui.hostile import find_raw, make_hostile
from tests.tui.screen import NOW_NS, Hand, drive, make_source

ID = "c" * 64


def read_raw(hand: Hand) -> str:
    """Every letter that is about to be written to the terminal."""
    strips = hand.app.screen._compositor.render_strips()
    return "".join(segment.text for strip in strips for segment in strip)


def make_hostile_source(number: int) -> Source:
    events = tuple(
        make_hostile(Event, number + index, run=0, event_index=index, container=ID)
        for index in range(12)
    )
    row = make_hostile(ContainerRow, number, id=ID, run=0, measured_ns=NOW_NS)
    facts = make_hostile(
        ReceiptFacts, number, event=events[3], is_whole=False,
        steps=tuple(make_hostile(ProofStep, number + at, is_held=False) for at in range(7)),
    )  # fmt: skip
    denial = make_hostile(
        Denial, number, container=ID, op="syscall.\x1b[2J", errno="\u202e", rule="",
        unproposable="",
        example=events[1],
    )  # fmt: skip
    asked = (ID, denial.op, denial.errno, denial.rule)
    return make_source(
        Answer("details", NOW_NS, make_hostile(Details, number, row=row), (ID,)),
        Answer("feed", NOW_NS, FeedPart(events, 12, 12, 0, trouble="\x1b[31m"), (ID,)),
        Answer("log", NOW_NS, tuple(make_hostile(LogLine, number + n) for n in range(12)), (ID,)),
        Answer("receipt", NOW_NS, facts, (ID, 0, 11)),
        Answer("checked_receipt", NOW_NS, facts, (ID, 0, 11)),
        Answer("denials", NOW_NS, (denial,), ("",)),
        Answer("proposal", NOW_NS, make_hostile(Proposal, number, container=ID), asked),
        overview=make_hostile(Overview, number, at_ns=NOW_NS, containers=(row,), trouble=""),
        verdicts=(make_hostile(Verdict, number, is_whole=False, container=ID),),
    )


def test_nothing_hostile_reaches_the_terminal(full: bool) -> None:
    seen = set()

    async def look(hand: Hand, *keys: str) -> None:
        await hand.press(*keys)
        raw = read_raw(hand)
        assert not find_raw(raw), (keys, find_raw(raw))
        if "␛" in raw or "\\u202e" in raw or "[red]" in raw:
            seen.add(type(hand.app.screen).__name__)

    async def steps(hand: Hand) -> None:
        for width, height in ((80, 24), (200, 60)):
            await hand.resize(width, height)
            await look(hand)
            hand.app.open_place("container", ID)
            for key in ("e", "P", "F", "N", "l", "R", "m", "d"):
                await look(hand, key)
            await look(hand, "e", "enter")
            await look(hand, "v")
            await look(hand, "question_mark")
            await look(hand, "2")
            await look(hand, "enter")
            await look(hand, "escape", "a")
            await look(hand, "y")
            await look(hand, "y")
            await look(hand, "1")

    for number in range(9 if full else 1):
        drive(make_hostile_source(number), steps)
    assert {"ContainerScreen", "ReceiptScreen", "PolicyScreen", "ProposalScreen"} <= seen
