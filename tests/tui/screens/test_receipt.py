"""The Receipt screen, by its keys."""

from __future__ import annotations

from tests.tui.scene import HELD, STEPS, WEB, make_scene
from tests.tui.screen import SIZES, Hand, check_snapshot, drive
from tui.screens.receipt import ReceiptScreen


async def open_receipt(hand: Hand, index: int = 4029) -> ReceiptScreen:
    hand.app.open_place("receipt", WEB, 0, index)
    screen = hand.app.screen
    assert isinstance(screen, ReceiptScreen)
    await hand.until(lambda: screen.facts is not None)
    await hand.settle()
    return screen


def test_the_proof_is_drawn_unchecked_and_v_checks_it() -> None:
    async def steps(hand: Hand) -> None:
        await open_receipt(hand)
        shown = hand.read()
        assert "receipt 0:4029 of web" in shown and "denied EPERM" in shown
        assert shown.count("· not checked ") == len(STEPS) and "v verifies it" in shown
        await hand.press("v")
        shown = hand.read()
        assert shown.count("✓ HELD") == len(STEPS)
        assert "✓ WHOLE (checked" in shown and "not checked" not in shown
        await hand.press("n")
        shown = hand.read()
        assert "receipt 0:4030" in shown and "not checked" in shown and "WHOLE" not in shown
        await hand.press("n")
        assert "receipt 0:4031 of web cannot be read" in hand.read()
        await hand.press("N", "N")
        assert "receipt 0:4029" in hand.read() and "v verifies it" in hand.read()

    drive(make_scene(), steps)


def test_a_broken_step_says_where_and_why() -> None:
    why = "its bytes are not those that were signed"
    steps_ = (STEPS[0], STEPS[1]._replace(is_held=False, why=why), *STEPS[2:])
    broken = HELD._replace(is_whole=False, steps=steps_, why=why)

    async def steps(hand: Hand) -> None:
        await open_receipt(hand)
        await hand.press("v")
        shown = hand.read()
        assert "✗ BROKEN at segment: its bytes" in shown and "✗ BROKEN ─" in shown
        assert shown.count("not checked") >= 1

    drive(make_scene(checked_receipt=broken), steps, size=(80, 24))


def test_what_could_not_be_checked_is_not_called_held() -> None:
    async def steps(hand: Hand) -> None:
        await open_receipt(hand, 4030)  # saved without a check
        await hand.press("v")
        shown = hand.read()
        assert "could not be checked" in shown and "HELD" not in shown

    drive(make_scene(), steps)


def test_the_screen_looks_as_it_did_at_three_sizes() -> None:
    async def steps(hand: Hand) -> None:
        await open_receipt(hand)
        await hand.press("v")
        for width, height in SIZES:
            await hand.resize(width, height)
            check_snapshot(hand, "receipt")

    drive(make_scene(), steps)
