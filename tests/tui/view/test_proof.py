"""The proof's drawing: every step and its state in words, straight at every size."""

from __future__ import annotations

import pytest

from docklock.console.facts import Event, ProofStep, ReceiptFacts
from tests.tui.hostile import find_raw, make_hostile
from tui.view.lines import get_text
from tui.view.proof import PATH_DRAWN_MAX, WIDTH_MAX, WIDTH_MIN, describe_steps, draw_proof
from tui.view.receipt import write_body, write_event_head, write_state
from tui.view.wrapping import get_width

KINDS = ("receipt", "segment", "log", "checkpoint", "witness", "block", "server")
HASH = "3f2a91c0d1e2a3b4" * 4


def make_steps(held: bool | None = True, broken: int = -1) -> tuple[ProofStep, ...]:
    return tuple(
        ProofStep(
            kind, f"the {kind}", (("root", HASH), ("size", "12")), (HASH,) * number,
            False if number == broken else held, "its bytes are not those that were signed",
        )
        for number, kind in enumerate(KINDS)
    )  # fmt: skip


def draw(steps: tuple[ProofStep, ...], width: int, height: int) -> list[str]:
    return [get_text(line) for line in draw_proof(steps, width, height)]


@pytest.mark.parametrize("height", [10, 200])
@pytest.mark.parametrize("width", [0, 40, 77, 80, 120, 400])
def test_every_line_is_within_its_width_and_boxes_are_straight(width: int, height: int) -> None:
    lines = draw(make_steps(broken=3), width, height)
    wanted = max(WIDTH_MIN, min(width, WIDTH_MAX))
    assert all(get_width(line) <= wanted for line in lines)
    edges = [line for line in lines if line[0] in "╭╰┌└├│" and line.rstrip()[-1] in "╮╯┐┘┤│"]
    assert {get_width(line) for line in edges} == {wanted}


def test_all_seven_steps_stand_in_80x24_with_their_states_in_words() -> None:
    lines = draw(make_steps(None), 80, 16)
    assert len(lines) == 22  # two a step, the reason, and the last border
    plain = tuple(step._replace(why="") for step in make_steps(None))
    lines = draw(plain, 80, 16)
    assert len(lines) == 15
    for kind in KINDS:
        assert any(f"{kind}: the {kind}" in line and "not checked" in line for line in lines)
    assert any("+3f2a91c0d1…" in line and "root 3f2a91c0d1…" in line for line in lines)


def test_where_there_is_room_the_hashes_of_the_path_join_the_trunk() -> None:
    lines = draw(make_steps(), 100, 200)
    joins = [line for line in lines if line.endswith("───┤")]
    assert len(joins) == sum(range(1, 7))
    assert all(line.index("┤") == joins[0].index("┤") for line in joins)
    below = [line for line in lines if "┴" in line]
    assert {line.index("┴") for line in below} == {joins[0].index("┤")}
    assert any(f"root {HASH}" in line for line in lines)  # whole, to be compared


def test_a_long_path_says_how_much_of_it_is_not_drawn() -> None:
    steps = (ProofStep("receipt", ""), ProofStep("log", "", (), (HASH,) * 40))
    lines = draw(steps, 100, 200)
    assert any(f"and {40 - PATH_DRAWN_MAX} hashes more" in line for line in lines)
    assert any("+37 more" in line for line in draw(steps, 100, 5))


def test_a_broken_step_says_so_and_why_wherever_it_is() -> None:
    for height in (10, 200):
        lines = draw(make_steps(broken=2), 80, height)
        assert sum("✗ BROKEN" in line for line in lines) == 1
        assert sum("✓ HELD" in line for line in lines) == 6
        at = next(number for number, line in enumerate(lines) if "BROKEN" in line)
        assert any("not those that were signed" in line for line in lines[at : at + 5])


def test_the_counts_of_states_are_said() -> None:
    assert describe_steps(make_steps(broken=2)) == "6 held, 1 broken"
    assert describe_steps(make_steps(None)) == "7 not checked"
    assert describe_steps(()) == ""


def test_no_proof_says_so() -> None:
    assert "no proof" in draw((), 80, 24)[0]


def test_nothing_is_called_whole_that_was_not_checked() -> None:
    event = Event(0, 3, 1, 77, "syscall.connect", "denied", "EPERM")
    facts = ReceiptFacts(event, (), make_steps(None))
    assert get_text(write_state(facts, 0)).startswith("not checked: 7 not checked")
    whole = facts._replace(is_whole=True, steps=make_steps())
    assert get_text(write_state(whole, 0)).startswith("not checked")
    assert get_text(write_state(whole, 10**9)).startswith("✓ WHOLE (checked 00:00:01 UTC: 7 held")
    broken = facts._replace(is_whole=False, steps=make_steps(broken=1))
    assert get_text(write_state(broken, 1)).startswith("✗ BROKEN at segment: its bytes")


def test_hostile_steps_are_drawn_harmless_and_straight() -> None:
    steps = tuple(make_hostile(ProofStep, number) for number in range(12))
    for width, height in ((80, 10), (100, 400)):
        lines = draw(steps, width, height)
        assert not find_raw("".join(lines))
        assert all(get_width(line) <= width for line in lines)
    facts = make_hostile(ReceiptFacts)
    lines = [*write_body(facts, 80, 20), *write_event_head(facts.event, "x"), write_state(facts, 1)]
    assert not find_raw("".join(map(get_text, lines)))
