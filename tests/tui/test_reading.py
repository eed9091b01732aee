"""The frame against parts that do not answer, answer late, or raise."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import ClassVar

from textual.app import App

from chainlite.errors import StateError
from tests.tui.screen import Hand, drive
from tests.tui.toy import Gate, Toy, make_rows
from tui import reading
from tui.messages import Facts, Silence
from tui.reading import Lane, Reader, tell_error


class Listener(App[None]):
    """Keeps what a reader tells it."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Facts] = []
        self.silences: list[Silence] = []

    def on_facts(self, facts: Facts) -> None:
        self.told.append(facts)

    def on_silence(self, silence: Silence) -> None:
        self.silences.append(silence)


class Part:
    """A call that notices when it is made twice at once."""

    most: ClassVar[int] = 0

    def __init__(self) -> None:
        self.gate = Gate()
        self.inside = 0
        self.most_inside = 0

    def ask(self) -> int:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        self.gate.go_through()
        self.inside -= 1
        return self.gate.asked


def listen(steps: Callable[[Listener, Callable[..., Awaitable[None]]], Awaitable[None]]) -> None:
    async def run() -> None:
        app = Listener()
        async with app.run_test() as pilot:

            async def until(is_so: Callable[[], bool]) -> None:
                async with asyncio.timeout(20):
                    while not is_so():
                        await pilot.pause(0.002)

            await steps(app, until)

    asyncio.run(run())


def test_a_part_is_never_asked_twice_at_once_and_silence_is_told() -> None:
    part, lane = Part(), Lane("part")

    async def steps(app: Listener, until: Callable[..., Awaitable[None]]) -> None:
        readers = [Reader(lane, name, part.ask, app, 0.01) for name in ("one", "two")]
        for reader in readers:
            reader.start()
        await until(lambda: len({facts.name for facts in app.told}) == 2)
        part.gate.close()
        before, reading.SILENT_AFTER_S = reading.SILENT_AFTER_S, 0.0
        try:
            await until(lambda: len(app.silences) > 2)
        finally:
            reading.SILENT_AFTER_S = before
            part.gate.open()
        told = len(app.told)
        await until(lambda: len(app.told) > told)
        for reader in readers:
            reader.stop()
        await until(lambda: lane.is_idle)
        lane.close()

    listen(steps)
    assert part.most_inside == 1


def test_a_lane_that_is_wedged_takes_a_bounded_number_of_calls_and_ends_nobody() -> None:
    part, lane = Part(), Lane("part")
    part.gate.close()

    async def steps(app: Listener, until: Callable[..., Awaitable[None]]) -> None:
        taken = [lane.ask("call", part.ask, app) for _ in range(reading.WAITING_MAX * 2)]
        assert reading.WAITING_MAX <= sum(taken) <= reading.WAITING_MAX + 1
        lane.close()

    listen(steps)
    part.gate.open()
    assert all(t.daemon for t in threading.enumerate() if t.name.startswith("docklock-tui"))


def test_an_error_is_told_in_its_words_and_a_fault_of_ours_with_its_place() -> None:
    assert tell_error(StateError("web is not running")) == "web is not running"
    try:
        {}["missing"]
    except KeyError as error:
        assert tell_error(error).startswith("KeyError at test_reading.py:")
    assert tell_error(ValueError()) == "ValueError"


def test_what_a_part_raises_is_in_the_banner_until_it_answers_and_ends_nothing() -> None:
    toy = Toy(*make_rows(3))
    part = toy.overview_gate

    async def steps(hand: Hand) -> None:
        reader = hand.app._overview_reader
        for fault in (OSError("the agent went\x1b away"), RuntimeError("boom")):
            part.fault = fault
            reader.ask_now()
            words = "the agent went␛ away" if isinstance(fault, OSError) else "RuntimeError at toy"
            await hand.until_read(f"containers: {words}")
            assert "web-0" in hand.read()  # what was known still stands
            await hand.press("down")
        part.fault = None
        reader.ask_now()
        await hand.until(lambda: "RuntimeError" not in hand.read())
        assert not hand.app.troubles

    drive(toy.make_source(), steps)


def test_keys_work_while_the_host_does_not_answer_and_it_says_since_when() -> None:
    toy = Toy(*make_rows(3))

    async def steps(hand: Hand) -> None:
        toy.overview_gate.close()
        before, reading.SILENT_AFTER_S = reading.SILENT_AFTER_S, 0.0
        try:
            hand.app._overview_reader.ask_now()
            hand.app._overview_reader.ask_now()
            await hand.until(lambda: "containers: no answer since" in hand.read())
            await hand.send("o", "down")
            await hand.until(lambda: "STATE▲" in hand.read())
        finally:
            reading.SILENT_AFTER_S = before
            toy.overview_gate.open()
        hand.app._overview_reader.ask_now()
        await hand.until(lambda: "no answer" not in hand.read())

    drive(toy.make_source(), steps)


def test_facts_that_cannot_be_shown_are_told_and_take_nothing_down() -> None:
    toy = Toy(*make_rows(2))
    rows = dict(toy.rows)

    async def steps(hand: Hand) -> None:
        toy.rows[rows.popitem()[0]] = toy.rows["0" * 64]._replace(app=None)  # type: ignore[arg-type]
        await hand.press("t")
        hand.app.read_overview_now()
        await hand.until_read("showing containers on containers: TypeError at rows.py")
        await hand.press("question_mark", "escape")
        toy.rows.clear()
        hand.app.read_overview_now()
        await hand.until_read("no containers: docklock run makes one")
        assert "TypeError" not in hand.read()
        assert hand.app.faults
        hand.app.faults = ()

    drive(toy.make_source(), steps)
