"""Chain, Sync and Alerts by keys: what is told, what enter and d open, any size, hostile text."""

from __future__ import annotations

from rich.cells import cell_len

from docklock.console.facts import (
    Alert,
    ChainFacts,
    ContainerRow,
    Overview,
    SyncFacts,
    Verdict,
)
from docklock.console.source import Source
from tests.tui.network import (
    HOSTILE,
    KEYS,
    make_alerts,
    make_chain,
    make_hostile_chain,
    make_hostile_sync,
    make_hosts,
    make_server_overview,
    make_sync,
)
from tests.tui.screen import NOW_NS, SIZES, Hand, check_snapshot, drive, make_source
from tui.messages import Facts
from tui.screens.alerts import AlertsScreen
from tui.screens.chain import ChainScreen
from tui.widgets.plot import PlotView
from tui.widgets.table import VirtualTable


def make_all() -> Source:
    return make_source(chain=make_chain(), sync=make_sync(), alerts=make_alerts())


def test_each_screen_is_as_it_was_at_three_sizes() -> None:
    async def steps(hand: Hand) -> None:
        for key, name in (("3", "chain"), ("4", "sync"), ("5", "alerts")):
            await hand.press(key)
            for size in SIZES:
                await hand.resize(*size)
                check_snapshot(hand, name)

    drive(make_all(), steps)


def test_chain_by_keys() -> None:
    async def steps(hand: Hand) -> None:
        await hand.press("3", "down", "down", "down", "d")
        assert "Block 1,197" in hand.read() and "brought no block in time" in hand.read()
        await hand.press("escape", "tab", "end", "enter")
        assert "Peer looker" in hand.read() and "3 dropped" in hand.read()
        await hand.press("escape", "up", "d")
        assert "Validator west" in hand.read() and "two different votes" in hand.read()
        await hand.press("escape", "i")
        assert f"validator {KEYS[3]} has voted twice" in hand.read() and "500 ms" in hand.read()
        await hand.press("escape")
        await hand.type("/round>0")
        await hand.press("enter")
        shown = hand.read()
        assert "1,197" in shown and "1,196" not in shown and "1 of 120 blocks" in shown
        await hand.press("escape", "question_mark")
        assert "FINAL IN" in hand.read() and "All about the block" in hand.read()

    drive(make_all(), steps)


def test_the_cursor_stays_on_the_newest_block_or_with_its_own() -> None:
    facts = make_chain()
    newest = facts.blocks[0]
    newer = newest._replace(height=newest.height + 1, time_ms=newest.time_ms + 1000)
    grown = facts._replace(height=newer.height, blocks=(newer, *facts.blocks))

    async def steps(hand: Hand) -> None:
        await hand.press("3")
        screen = hand.app.screen
        assert isinstance(screen, ChainScreen)
        blocks = screen.query_one("#blocks", VirtualTable)
        for keys, told, row in (((), grown, newer), ((), facts, newest), (("down",), grown, None)):
            await hand.press(*keys)
            row = row or blocks.cursor_row
            screen.upon_facts(Facts("chain", told, "", NOW_NS))
            await hand.pilot.pause()
            assert blocks.cursor_row == row

    drive(make_all(), steps)


def test_a_chain_that_halted_is_shown_big_on_the_smallest_screen() -> None:
    halted = make_chain()._replace(halted="more than f validators are against each other")

    async def steps(hand: Hand) -> None:
        await hand.press("3")
        lines = hand.read().splitlines()
        [at] = [number for number, line in enumerate(lines) if "H A L T E D" in line]
        assert at <= 3 and "against each other" in lines[at + 1]
        assert "validators 3 of 4 up" in hand.read() and "1,200" in hand.read()

    drive(make_source(chain=halted), steps, size=(80, 24))


def test_without_a_node_or_a_server_it_says_how_to_get_one() -> None:
    async def steps(hand: Hand) -> None:
        await hand.press("3")
        assert "No node of a chain" in hand.read() and "docklock chain devnet" in hand.read()
        await hand.press("d", "escape", "4")
        assert "goes to no server" in hand.read() and "docklock sync enrol" in hand.read()
        await hand.press("d", "escape", "5")
        assert "no alert" in hand.read()

    drive(make_source(chain=ChainFacts(), sync=SyncFacts(), alerts=()), steps, size=(80, 24))


def test_a_source_that_tells_of_no_chain_says_so() -> None:
    async def steps(hand: Hand) -> None:
        await hand.press("3")
        assert "This source tells of no chain" in hand.read()
        assert "devnet" not in hand.read()
        await hand.press("i", "escape", "4", "escape")

    drive(make_source(), steps, size=(80, 24))


def test_sync_by_keys() -> None:
    async def steps(hand: Hand) -> None:
        await hand.press("4")
        plot = hand.app.screen.query_one(PlotView)
        assert plot.title == "lag of two", "the worst is first, and has the cursor"
        await hand.press("down")
        assert plot.title == "lag of one"
        await hand.press("enter")
        assert "Server one" in hand.read() and "https://one.example" in hand.read()
        await hand.press("escape", "up", "d")
        assert "It could not be reached" in hand.read() and "docklock sync now" in hand.read()
        await hand.press("escape", "tab", "enter")
        assert "Acknowledgement of one" in hand.read()
        await hand.press("escape", "shift+tab", "o")
        servers = hand.app.screen.query_one("#servers", VirtualTable)
        assert [row.name for row in servers.rows] == ["one", "two"]
        await hand.press("O")
        assert [row.name for row in servers.rows] == ["two", "one"]
        await hand.press("slash", *"failures", "greater_than_sign", "0", "enter")
        assert [row.name for row in servers.rows] == ["two"]

    drive(make_all(), steps)


def test_alerts_by_keys() -> None:
    row = ContainerRow("c" * 64, "web", status="running")
    overview = Overview(NOW_NS, host="h", agent="up", containers=(row,))
    broken = Verdict(False, "receipt 9 of run 1", "it is gone", "d" * 64, NOW_NS - 10**9)
    source = make_source(overview=overview, alerts=make_alerts(), verdicts=(broken,))

    async def steps(hand: Hand) -> None:
        await hand.press("5")
        lines = [line for line in hand.read().splitlines() if "critical" in line]
        assert "not whole" in lines[1] and "receipt 9 of run 1: it is gone" in hand.read()
        assert "Somebody or something changed evidence" in hand.read()
        await hand.press("down", "down", "enter")
        assert "docklock sync status" in hand.read() and "esc" not in hand.app.screen.about
        await hand.press("escape", "home")
        worse = make_alerts()[1]._replace(kind="fork", since_ns=NOW_NS)
        screen = hand.app.screen
        assert isinstance(screen, AlertsScreen)
        screen.upon_facts(Facts("alerts", (*make_alerts(), worse), "", NOW_NS))
        assert screen.query_one(VirtualTable).cursor_row == worse
        screen.upon_facts(Facts("alerts", make_alerts(), "", NOW_NS))
        hand.app.note_trouble("sync", "RuntimeError at sync.py:12: worker fell", NOW_NS)
        await hand.until_read("worker fell")
        assert "display" in hand.read()
        await hand.press("slash", *"kind", "colon", *"disk", "enter")
        assert "81% used" in hand.read() and "1 of 5 shown" in hand.read()
        await hand.press("escape")
        hand.app.clear_trouble("sync")
        await hand.until(lambda: "worker fell" not in hand.read())

    drive(source, steps)


def test_a_server_of_a_thousand_hosts_at_any_size() -> None:
    source = make_source(
        overview=make_server_overview(3000), sync=make_hosts(1000), chain=make_chain(),
        alerts=tuple(make_alerts()[0]._replace(subject=f"host-{i}") for i in range(1000)),
    )  # fmt: skip

    async def steps(hand: Hand) -> None:
        for width, height in ((300, 80), (20, 5), (80, 24)):
            await hand.resize(width, height)
            for key in "1345":
                await hand.press(key, "end")
                lines = hand.read().splitlines()
                assert len(lines) <= height
                assert all(cell_len(line) <= width for line in lines)
        await hand.press("4", "home")
        shown = hand.read()
        assert (
            "1,000 hosts" in shown and "10 not well" in shown and "longest silence of all" in shown
        )
        first = hand.app.screen.query_one("#servers", VirtualTable).rows[0]
        assert first.name == "host-0007", "the worst first"
        await hand.press("enter")
        assert "Host host-0007" in hand.read()
        await hand.press("escape", "slash", *"state", "colon", *"silent", "enter")
        assert "10 of 1,000" in hand.read()

    drive(source, steps)


def test_hostile_text_of_the_network_stays_in_its_place() -> None:
    evil = Alert(HOSTILE, HOSTILE, HOSTILE, HOSTILE, NOW_NS, HOSTILE, HOSTILE)
    source = make_source(chain=make_hostile_chain(), sync=make_hostile_sync(), alerts=(evil,))

    async def steps(hand: Hand) -> None:
        for keys in (
            ("3",), ("d",), ("escape", "tab", "d"), ("escape", "i"), ("4",), ("d",),
            ("escape", "tab", "d"), ("5",), ("d",),
        ):  # fmt: skip
            await hand.press(*keys)
            lines = hand.read().splitlines()
            assert len(lines) <= 24 and all(cell_len(line) <= 80 for line in lines)
            assert all(line.isprintable() for line in lines)
            assert not set("\u202e\u2066\ud800\x1b\x07") & set("".join(lines))
            assert "evil" in hand.read()

    drive(source, steps, size=(80, 24))


def test_only_the_screen_that_is_seen_asks() -> None:
    async def steps(hand: Hand) -> None:
        await hand.press("3")
        screen = hand.app.screen
        assert isinstance(screen, ChainScreen)
        await hand.press("4")
        assert all(reader._timer is None for reader in screen._readers)

    drive(make_all(), steps)
