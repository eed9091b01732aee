"""The Container screen, by its keys."""

from __future__ import annotations

from docklock.console.facts import FeedPart
from tests.tui.scene import EVENTS, WEB, make_event, make_scene
from tests.tui.screen import SIZES, Hand, check_snapshot, drive
from tui.screens.container import TABS, ContainerScreen
from tui.screens.receipt import ReceiptScreen
from tui.view.events import Gap


async def open_container(hand: Hand) -> ContainerScreen:
    hand.app.open_place("container", WEB)
    screen = hand.app.screen
    assert isinstance(screen, ContainerScreen)
    await hand.until(lambda: bool(screen.events.shown) and screen.model.details is not None)
    await hand.settle()
    return screen


def test_keys_lead_through_all_of_a_container() -> None:
    async def steps(hand: Hand) -> None:
        screen = await open_container(hand)
        shown = hand.read()
        for words in (
            "web  running for 10 min", "healthy", "image busybox", "CPU 12%", "4 of 4,031 receipts",
            "policy quiet", "anchored: block height 812, 4 s ago", "6 of 4,031 shown",
            "✗ denied EPERM", "sockaddr=10.0.0.1:80",
        ):  # fmt: skip
            assert words in shown, (words, shown)
        assert "not verified yet" in shown
        await hand.press("v", "escape")
        assert "✓ whole at" in hand.read()
        await hand.press("slash")
        await hand.type("decision:denied op:connect")
        await hand.press("enter")
        shown = hand.read()
        assert "2 of 4,031 shown" in shown and "execve" not in shown.replace("/execve", "")
        await hand.press("enter")
        assert isinstance(hand.app.screen, ReceiptScreen)
        assert hand.app.screen.index == 4029
        await hand.press("escape", "escape")
        assert "6 of 4,031 shown" in hand.read()
        await hand.press("b")
        assert "8 of 4,031 shown" in hand.read() and "/p/4023" in hand.read()
        for key, words in (
            ("P", "curl 10.0.0.1"), ("F", "2 of 4,031 shown"), ("N", "SYN_SENT"),
            ("l", "e curl: (7)"), ("R", "quiet.yaml"), ("m", "Denials"), ("d", "CHOWN KILL"),
            ("right", "sockaddr="), ("left", "label app"), ("e", "sockaddr="),
        ):  # fmt: skip
            await hand.press(key)
            assert words in hand.read(), (key, hand.read())
        await hand.press("P", "slash", *"curl", "enter")
        assert "1 of 2 shown" in hand.read() and "while true" not in hand.read().splitlines()[8:]
        await hand.press("D")
        assert "1 of 1 kinds of denied calls of web" in hand.read()
        await hand.press("escape", "e")
        assert screen.filter_text == "" and "8 of 4,031 shown" in hand.read()

    drive(make_scene(), steps)


def test_what_came_too_fast_is_one_line_that_enter_reads() -> None:
    async def steps(hand: Hand) -> None:
        screen = await open_container(hand)
        late = make_event(4040, "bind", "denied")
        screen.events.take(FeedPart((late,), 10, 4041, 0))  # nine were passed over
        screen._show_events()
        await hand.settle()
        assert "9 receipts passed over" in hand.read() and "sampled: 9" in hand.read()
        await hand.press("G", "up", "enter")
        assert screen.events.shown[-2].event_index == EVENTS[-1].event_index  # type: ignore[union-attr]
        assert not any(isinstance(item, Gap) and item.number == 9 for item in screen.events.shown)

    drive(make_scene(), steps)


def test_held_still_nothing_is_read_and_it_says_so() -> None:
    async def steps(hand: Hand) -> None:
        screen = await open_container(hand)
        assert screen.source.evidence is not None
        await hand.press("space")
        assert "HELD STILL" in hand.read()
        assert screen._read_events(screen.source.evidence) is None
        await hand.press("space")
        assert "HELD STILL" not in hand.read()
        assert screen._read_events(screen.source.evidence) is not None

    drive(make_scene(), steps)


def test_a_removed_container_says_so_and_keeps_what_was_seen() -> None:
    async def steps(hand: Hand) -> None:
        screen = await open_container(hand)
        overview = hand.app.overview
        assert overview is not None
        screen.upon_overview(overview._replace(containers=()))
        await hand.settle()
        shown = hand.read()
        assert "REMOVED since 02:14:07 UTC" in shown
        assert screen._read_details() is None  # nobody asks on
        assert "4,031 receipts" in shown and "sockaddr=10.0.0.1:80" in shown

    drive(make_scene(), steps, size=(80, 24))


def test_a_storm_of_sizes_leaves_a_tab_of_each_kind_as_it_was() -> None:
    async def steps(hand: Hand) -> None:
        await open_container(hand)
        for key in "emd":  # a list, plots, lines
            await hand.press(key)
            before = hand.read()
            for width, height in ((1, 1), (20, 6), (300, 5), (10, 100)):
                await hand.pilot.resize_terminal(width, height)
            await hand.resize(120, 40)
            assert hand.read() == before

    drive(make_scene(), steps)


def test_the_screen_looks_as_it_did_at_three_sizes() -> None:
    async def steps(hand: Hand) -> None:
        await open_container(hand)
        for width, height in SIZES:
            await hand.resize(width, height)
            check_snapshot(hand, "container-events")
        for tab in TABS[1:]:
            await hand.press(tab.key)
            if tab.name in ("plots", "logs"):
                check_snapshot(hand, f"container-{tab.name}")

    drive(make_scene(), steps)
