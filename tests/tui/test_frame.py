from __future__ import annotations

from docklock.console.facts import Overview, Verdict
from tests.tui.screen import NOW_NS, SIZES, Hand, check_snapshot, drive, make_source
from tests.tui.toy import Toy, make_rows


def test_every_screen_says_where_and_since_when_evidence_is_not_whole() -> None:
    broken = Verdict(
        False, "receipt 3 of run 0", "its bytes are not those that were signed", "", NOW_NS - 10**11
    )
    source = make_source(overview=Overview(NOW_NS, running=200, measured=40), verdicts=(broken,))

    async def steps(hand: Hand) -> None:
        for keys in ((), ("question_mark",), ("escape", "colon")):
            await hand.press(*keys)
            shown = " ".join(hand.read().split())
            assert "NOT WHOLE since 02:12:27 UTC (1 min ago): receipt 3 of run 0: its" in shown
            assert "200 running, 40 measured" in shown

    drive(source, steps, size=(80, 24))


def test_it_is_told_that_the_agent_went_and_came_back() -> None:
    toy = Toy(*make_rows(2))

    async def steps(hand: Hand) -> None:
        assert "agent up" in hand.read()
        for agent in ("none", "up"):
            toy.agent = agent
            hand.app.read_overview_now()
            await hand.until_read(f"now {agent}")
        assert "web-1" in hand.read()

    drive(toy.make_source(), steps)


def test_commands_palette_and_help_lead_where_they_say() -> None:
    source = make_source(overview=Overview(NOW_NS, containers=make_rows(3), running=3))

    async def steps(hand: Hand) -> None:
        await hand.press("question_mark")
        shown = hand.read()
        assert "Keys here" in shown and "Something is wrong, what now?" in shown
        await hand.press("escape", "colon")
        await hand.type("chai")
        await hand.press("tab", "enter")
        await hand.until(lambda: type(hand.app.screen).__name__ == "ChainScreen")
        await hand.press("escape", "colon")
        await hand.type("nonsense")
        await hand.press("enter")
        assert "no command nonsense: ? lists all" in hand.read()
        await hand.press("ctrl+p")
        await hand.type("web-2")
        await hand.until(lambda: "container, running" in hand.read())
        await hand.press("down", "enter")
        await hand.until(lambda: type(hand.app.screen).__name__ == "ContainerScreen")
        await hand.press("5", "1")
        await hand.press("ctrl+p")
        await hand.type("theme")
        await hand.press("down", "enter")
        await hand.until(lambda: hand.app.theme == "docklock-light")

    drive(source, steps, size=(80, 50))


def test_the_mouse_opens_screens_and_presses_the_keys_of_the_footer() -> None:
    source = make_source(overview=Overview(NOW_NS, containers=make_rows(3), running=3))

    async def steps(hand: Hand) -> None:
        for words, seen in (("5 Alerts", "AlertsScreen"), ("? Help", "HelpScreen")):
            lines = hand.read().splitlines()
            row = next(number for number, line in enumerate(lines) if words in line)
            await hand.pilot.click(offset=(lines[row].index(words) + 1, row))
            await hand.until(lambda seen=seen: type(hand.app.screen).__name__ == seen)

    drive(source, steps, size=(80, 24))


def test_help_and_a_question_at_three_sizes() -> None:
    toy = Toy(*make_rows(3))

    async def steps(hand: Hand) -> None:
        for size in SIZES:
            await hand.resize(*size)
            await hand.press("question_mark")
            check_snapshot(hand, "help")
            await hand.press("escape", "Q")
            check_snapshot(hand, "confirm")
            await hand.press("n")

    drive(toy.make_source(), steps)
