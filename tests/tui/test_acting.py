from __future__ import annotations

import sys

import pytest

from chainlite.errors import StateError
from docklock.console.facts import Verdict
from tests.tui.screen import NOW_NS, Hand, drive, make_source
from tests.tui.toy import Acted, Toy, make_rows


def test_what_cannot_be_taken_back_asks_and_says_what_will_happen() -> None:
    rows = make_rows(3)
    toy = Toy(*rows)

    async def steps(hand: Hand) -> None:
        for key, verb in (("x", "Stop"), ("K", "Kill"), ("Q", "Quarantine"), ("r", "Restart")):
            await hand.press("down", key)
            assert f"{verb} web-" in hand.read()
            assert "on record" in hand.read()
            await hand.press("enter")  # the answer that has the focus is no
            assert f"{verb} web-" not in hand.read()
            await hand.press(key, "escape")
        assert toy.acted == []
        await hand.press("home", "x", "y")
        await hand.until_read("stop web-0: done")
        assert "exited" in hand.read()
        await hand.press("S")  # starting does not ask
        await hand.until_read("start web-0: done")
        await hand.press("p")
        await hand.until_read("paused")
        await hand.press("p")
        await hand.until_read("unpause web-0: done")
        await hand.press("Q", "y")
        await hand.until_read("quarantined")
        await hand.press("Q")
        await hand.until_read("release web-0: done")
        await hand.press("colon")
        await hand.type("ki")
        await hand.press("tab")
        await hand.type(" web-2")
        await hand.press("enter", "y")
        await hand.until_read("kill web-2: done")
        await hand.press("delete", "y")
        await hand.until_read("rm web-0: done")

    drive(toy.make_source(), steps)
    one, three = rows[0].id, rows[2].id
    verbs = ["stop", "start", "pause", "unpause", "quarantine", "release"]
    assert toy.acted == [
        *(Acted(verb, one) for verb in verbs), Acted("kill", three), Acted("rm", one),
    ]  # fmt: skip


def test_a_refused_act_is_told_in_its_words_and_the_screen_goes_on() -> None:
    toy = Toy(*make_rows(2))
    toy.act_gate.fault = StateError("web-0 is frozen")

    async def steps(hand: Hand) -> None:
        await hand.press("p")
        await hand.until_read("! pause web-0: web-0 is frozen")
        await hand.press("colon")
        await hand.type("stop nobody")
        await hand.press("enter")
        assert "no container nobody" in hand.read()
        toy.act_gate.fault = None
        await hand.press("p")
        await hand.until_read("pause web-0: done")

    drive(toy.make_source(), steps)


def test_verify_all_shows_progress_can_be_stopped_and_tells_every_screen_at_once() -> None:
    toy = Toy(*make_rows(20))

    async def steps(hand: Hand) -> None:
        toy.verify_gate.close()
        await hand.send("V")
        await hand.until_read("esc stops it")
        await hand.send("escape")
        await hand.until(lambda: "stopping" in hand.read())
        toy.verify_gate.open()
        await hand.until_read("stopped before all was looked at")
        await hand.press("escape", "v")
        await hand.until_read("verify web-0: whole")
        await hand.press("escape")
        toy.verdicts = (Verdict(False, "receipt 9", "changed", "", NOW_NS - 10**10),)
        await hand.press("V")
        await hand.until_read("NOT WHOLE, in 1 place")
        await hand.press("escape")
        assert "NOT WHOLE since 02:13:57 UTC (10 s ago): receipt 9: changed" in hand.read()
        assert "0 of 20" not in hand.read()

    drive(toy.make_source(), steps)


def test_a_verification_that_raises_says_so_in_its_dialog() -> None:
    toy = Toy(*make_rows(2))
    toy.verify_gate.fault = RuntimeError("no such table")

    async def steps(hand: Hand) -> None:
        await hand.press("V")
        await hand.until_read("no such table")
        await hand.press("escape")
        toy.verify_gate.fault = None
        await hand.press("V")
        await hand.until_read("whole: every receipt")

    drive(toy.make_source(), steps)


def test_evidence_is_written_where_the_person_says(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(str(tmp_path))
    toy = Toy(*make_rows(2))

    async def steps(hand: Hand) -> None:
        await hand.press("w", "escape", "w", "enter")
        await hand.until_read("evidence of web-0: done: written:")
        await hand.press("w", "ctrl+u", *"out", "enter")
        await hand.until(lambda: len(toy.written) == 2)

    drive(toy.make_source(), steps)
    assert toy.written == [f"{tmp_path}/web-0.evidence", f"{tmp_path}/out"]


def test_what_a_source_has_not_is_said() -> None:
    async def steps(hand: Hand) -> None:
        await hand.press("x")
        assert "nothing can be done here: a replay" in hand.read()
        await hand.press("s")
        assert "no shell can be opened here" in hand.read()
        await hand.press("v")
        assert "nothing can be verified here" in hand.read()
        await hand.press("w")
        assert "no evidence file can be written here" in hand.read()

    from docklock.console.facts import Overview

    overview = Overview(NOW_NS, containers=make_rows(1), running=1)
    drive(make_source(overview=overview), steps, size=(200, 24))


def test_a_shell_where_the_terminal_cannot_be_given_away_is_told() -> None:
    toy = Toy(*make_rows(1))
    toy.argv = (sys.executable, "-c", "raise SystemExit(3)")

    async def steps(hand: Hand) -> None:
        await hand.press("s")
        await hand.until_read("this terminal cannot be given away")

    drive(toy.make_source(), steps)


def test_what_an_act_came_to_is_told_where_its_screen_was_left_meanwhile() -> None:
    toy = Toy(*make_rows(2))

    async def steps(hand: Hand) -> None:
        for fault, words in ((None, "web-0: done"), (StateError("it is gone"), "it is gone")):
            toy.act_gate.close()
            toy.act_gate.fault = fault
            await hand.press("enter")
            await hand.until(lambda: type(hand.app.screen).__name__ == "ContainerScreen")
            await hand.send("p", "1")
            await hand.until(lambda: len(hand.app.screen_stack) == 1)
            toy.act_gate.open()
            await hand.until_read(words)

    drive(toy.make_source(), steps)
