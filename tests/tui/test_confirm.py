"""The question before what cannot be taken back shows both answers and their keys."""

from __future__ import annotations

from tests.tui.screen import Hand, drive, make_source
from tui.screens.confirm import ConfirmScreen


def test_both_answers_are_seen_and_each_is_given_by_its_key_or_the_mouse() -> None:
    answers: list[bool | None] = []

    async def steps(hand: Hand) -> None:
        for size in ((80, 24), (40, 12)):
            await hand.resize(*size)
            for key, answer in (("y", True), ("n", False), ("escape", False)):
                hand.app.push_screen(ConfirmScreen("Stop web?", ("it ends",)), answers.append)
                await hand.settle()
                shown = hand.read()
                for words in ("Stop web?", "it ends", "n  No", "y  Yes, do it"):
                    assert words in shown
                await hand.press(key)
                assert answers.pop() is answer
        hand.app.push_screen(ConfirmScreen("Stop web?", ()), answers.append)
        await hand.settle()
        await hand.pilot.click("#yes")
        await hand.settle()
        assert answers == [True]

    drive(make_source(), steps)
