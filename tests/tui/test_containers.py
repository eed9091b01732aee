from __future__ import annotations

import random

from docklock.console.facts import Anchor, ContainerRow, Overview, Usage, Verdict
from tests.tui.screen import NOW_NS, SIZES, Hand, check_snapshot, drive, make_source
from tests.tui.toy import Toy, make_rows
from tui.screens.containers import ContainersScreen

ANCHORS = (Anchor("block", "4,031"), Anchor("witnesses", "3 of 4"), Anchor("host log"), Anchor())
STATES = ("running", "running", "running", "exited", "paused", "quarantined")


def make_shop() -> tuple[ContainerRow, ...]:
    """Twelve containers of two apps, as a host has them."""
    return tuple(
        ContainerRow(
            id=f"{n:064x}", name=f"{'web' if n % 3 else 'db'}-{n}", image="busybox:1.36",
            app="shop" if n % 3 else "bank", status=STATES[n % 6], exit_code=n % 2 * 137,
            health="unhealthy" if n == 4 else "healthy" if n % 2 else "", run=1,
            created_ns=NOW_NS - 10**15, started_ns=NOW_NS - n * 10**12, policy="default",
            usage=Usage(n * 7.3, n << 22, 1 << 30, n, 0, 0, n * 900.0, n * 80.0),
            receipts=n * 1234, receipts_per_s=n * 17.5, denials=n % 5 and n * 3,
            anchor=ANCHORS[n % 4], measured_ns=NOW_NS,
            trouble="a gap: receipts 17 to 21 of run 1 are missing" if n == 7 else "",
        )
        for n in range(12)
    )  # fmt: skip


BROKEN = Verdict(
    False, "receipt 3 of run 0", "its bytes are not those that were signed", f"{7:064x}",
    NOW_NS - 200 * 10**9, NOW_NS,
)  # fmt: skip


def make_shop_source() -> object:
    overview = Overview(NOW_NS, "2dcd7284bae38c2b", "up", make_shop(), 200, 40)
    return make_source(overview=overview, verdicts=(BROKEN,))


def test_the_screen_at_three_sizes() -> None:
    async def steps(hand: Hand) -> None:
        for size in SIZES:
            await hand.resize(*size)
            check_snapshot(hand, "containers")

    drive(make_shop_source(), steps)


def test_sort_filter_tree_and_fold_by_keys() -> None:
    async def steps(hand: Hand) -> None:
        screen = hand.app.screen
        assert isinstance(screen, ContainersScreen)
        table = screen.table

        def names() -> list[str]:
            return [line.row.name for line in table.rows]

        assert names()[:2] == ["db-0", "db-3"]
        await hand.press("down", "down", "O")
        assert names()[0] == "web-11"
        assert table.cursor_key == f"{6:064x}"  # it went along
        await hand.press("o", "o")
        assert "CPU▼" not in hand.read()
        assert "CPU▲" in hand.read()
        assert names()[0] == "web-11"
        await hand.press("slash")
        await hand.type("web denials>20")
        assert set(names()) == {"web-7", "web-8", "web-11"}
        await hand.press("enter")
        assert "3 of 12" in hand.read()
        await hand.press("slash")
        await hand.type("x")
        assert "nothing matches: web denials>20x" not in hand.read()  # no number: nothing hidden
        assert "wants a number" in hand.read()
        await hand.press("escape")
        assert len(names()) == 12
        await hand.press("t", "home", "left")
        assert names()[:3] == ["bank", "shop", "web-11"]
        assert "+ bank (4)" in hand.read()
        await hand.press("enter")
        assert "- bank (4)" in hand.read()
        await hand.press("x")
        assert "move to a container first" in hand.read()
        assert "bad" in hand.read()

    drive(make_shop_source(), steps)


def test_ten_thousand_containers_and_those_that_are_seen_are_measured_first() -> None:
    toy = Toy(*make_rows(10_000))

    async def steps(hand: Hand) -> None:
        await hand.press("end")
        assert "web-9999" in hand.read()
        hand.app.read_overview_now()
        await hand.settle()
        assert toy.focus[-1] == f"{9999:064x}"
        assert len(toy.focus) < 50
        await hand.press("slash")
        await hand.type("web-777")
        await hand.press("enter")
        assert "11 of 10,000" in hand.read()
        hand.app.read_overview_now()
        await hand.settle()
        assert len(toy.focus) == 11

    drive(toy.make_source(), steps)


def test_a_storm_of_sizes_leaves_a_whole_screen(seed: int) -> None:
    rng = random.Random(seed)

    async def steps(hand: Hand) -> None:
        for number in range(100):
            width, height = rng.randrange(1, 260), rng.randrange(1, 90)
            hand.resize_at_once(width, height)
            if number % 25 == 0:
                await hand.press(rng.choice(("t", "o", "end", "home")))
        await hand.resize(80, 24)
        assert "web-1" in hand.read()
        assert "? Help" in hand.read()
        assert "NOT WHOLE" in hand.read()

    drive(make_shop_source(), steps)


def test_a_container_that_dies_and_goes_while_it_is_shown() -> None:
    rows = make_rows(3)
    toy = Toy(*rows)

    async def steps(hand: Hand) -> None:
        await hand.press("down")
        toy.rows[rows[1].id] = rows[1]._replace(status="exited", exit_code=137)
        hand.app.read_overview_now()
        await hand.until_read("exited (137)")
        del toy.rows[rows[1].id]
        hand.app.read_overview_now()
        await hand.until(lambda: "web-1" not in hand.read())
        screen = hand.app.screen
        assert isinstance(screen, ContainersScreen)
        assert screen.table.cursor_key == rows[2].id
        toy.rows.clear()
        hand.app.read_overview_now()
        await hand.until_read("no containers: docklock run makes one")
        await hand.press("enter", "x", "up")
        assert "move to a container first" in hand.read()

    drive(toy.make_source(), steps)


def test_hostile_names_are_drawn_harmless() -> None:
    evil = "\x1b[2J\x1b]0;x\x07\u202e[red]" + "w" * 100_000
    row = make_rows(1)[0]._replace(name=evil, image=evil, app=evil, trouble=evil, status=evil)
    overview = Overview(NOW_NS, evil, evil, (row,), 1, 1, evil)
    broken = Verdict(False, evil, evil, row.id, 1)

    async def steps(hand: Hand) -> None:
        for keys in ((), ("t",), ("x",), ("colon", "s"), ("question_mark",)):
            await hand.press("escape", *keys)
            shown = hand.read()
            assert not {"\x1b", "\x07", "\u202e"} & set(shown)
            assert "␛[2J" in shown or "question_mark" in keys

    drive(make_source(overview=overview, verdicts=(broken,)), steps)
