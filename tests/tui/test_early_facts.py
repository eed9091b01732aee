"""Facts that come while a screen is being made or taken away take nothing down."""

from __future__ import annotations

from docklock.console.facts import ContainerRow, Overview
from tests.tui.network import make_alerts, make_chain, make_sync
from tests.tui.screen import NOW_NS, Hand, drive, make_source
from tui.messages import Facts

OVERVIEW = Overview(NOW_NS, host="h", agent="up", containers=(ContainerRow("c" * 64, "web"),))


def test_containers_that_are_told_before_a_screen_is_made_do_no_harm() -> None:
    source = make_source(
        overview=OVERVIEW, chain=make_chain(), sync=make_sync(), alerts=make_alerts()
    )

    async def steps(hand: Hand) -> None:
        told = Facts("containers", OVERVIEW, "", NOW_NS)
        app = hand.app
        for name, *arguments in (
            ("container", "c" * 64), ("receipt", "c" * 64, 0, 3), ("policy", "c" * 64), ("chain",),
            ("sync",), ("alerts",),
        ):  # fmt: skip
            app.open_place(name, *arguments)
            app.on_facts(told)  # before the screen has made anything
            await hand.settle()
            app.on_facts(told)
            app.pop_screen()
            app.on_facts(told)  # while it is taken away
            await hand.settle()

    drive(source, steps)
