"""The Policy and Proposal screens, by their keys."""

from __future__ import annotations

from tests.tui.scene import make_scene
from tests.tui.screen import SIZES, Hand, check_snapshot, drive
from tui.screens.policy import PolicyScreen
from tui.screens.proposal import ProposalScreen
from tui.screens.receipt import ReceiptScreen


def test_a_denial_is_found_explained_and_a_rule_proposed() -> None:
    async def steps(hand: Hand) -> None:
        await hand.press("2")
        shown = hand.read()
        assert "2 of 2 kinds of denied calls of all containers, 5 calls" in shown
        assert shown.index("connect") < shown.index("mount")  # the newest first
        assert "connect was refused with EPERM by rule deny connect (quiet.yaml:5)" in shown
        await hand.press("enter")
        assert "by pid 77 (curl 10.0.0.1)" in " ".join(hand.read().split())
        await hand.press("escape")
        assert isinstance(hand.app.screen, PolicyScreen) and "mount" in hand.read()
        await hand.press("i")
        assert isinstance(hand.app.screen, ReceiptScreen)
        await hand.press("escape", "a")
        shown = hand.read()
        assert isinstance(hand.app.screen, ProposalScreen)
        assert "LOOSER" in shown and "newly allowed: connect" in shown
        assert "+  - {syscalls: [connect], action: record}" in shown
        await hand.press("y")
        assert "Write this change to policy quiet" in hand.read()
        await hand.press("n")
        assert "a replay changes no policy" not in hand.read()  # nothing was asked of it
        await hand.press("y", "y")  # a replay refuses, and the refusal is shown
        assert "a replay changes no policy" in hand.read()
        await hand.press("escape", "down", "a")
        assert isinstance(hand.app.screen, PolicyScreen)
        assert "no rule is proposed: it needs a capability" in hand.read()
        await hand.press("c")
        assert "1 of 1 kinds of denied calls of db" in hand.read()
        await hand.press("c", "slash")
        await hand.type("op:connect")
        await hand.press("enter")
        assert "1 of 2 kinds" in hand.read()

    drive(make_scene(), steps)


def test_the_screens_look_as_they_did_at_three_sizes() -> None:
    async def steps(hand: Hand) -> None:
        await hand.press("2")
        for width, height in SIZES:
            await hand.resize(width, height)
            check_snapshot(hand, "policy")
        await hand.press("a")
        for width, height in SIZES:
            await hand.resize(width, height)
            check_snapshot(hand, "proposal")

    drive(make_scene(), steps)
