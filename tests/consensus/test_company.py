"""When a later round's timer may run: who counts as having come as far."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chainlite.consensus import messages as m
from chainlite.consensus import qbft
from chainlite.consensus.events import BlockTimeout, Received, RoundTimeout, Start
from chainlite.consensus.turn import State
from tests.consensus.samples import CHAIN, make_genesis, make_keys, make_set

if TYPE_CHECKING:
    from chainlite.consensus.events import Event

NOW_MS = 1_000_000
PAIRS = make_keys(4)


def leave_round_0(others: list[int]) -> State:
    """The first of four, which has left round 0; the next ones have asked for these rounds."""
    validators = make_set(PAIRS)
    genesis = make_genesis(validators)
    state = qbft.make_state(CHAIN, PAIRS[0])
    heard = [
        Received(
            m.RoundChange(
                m.sign_vote(pair, CHAIN, m.ROUND_CHANGE, 1, place, m.NO_DIGEST, m.NO_ROUND),
                None, (),
            )
        )
        for pair, place in zip(PAIRS[1:], others, strict=False)
    ]  # fmt: skip
    start = Start(genesis.header, genesis.hash, validators, 250)
    happened: list[Event] = [start, BlockTimeout(1), RoundTimeout(1, 0), *heard]
    for event in happened:
        state, _ = qbft.step(state, event, NOW_MS, lambda _: True)
    return state


@pytest.mark.parametrize(
    ("others", "expected"),
    [([], False), ([1], False), ([1, 1], True), ([1, 9], True), ([9], False), ([1, 1, 1], True)],
)
def test_a_quorum_in_this_round_or_later_is_company(others: list[int], *, expected: bool) -> None:
    state = leave_round_0(others)
    assert state.round == 1
    assert qbft.is_accompanied(state) is expected


def test_round_0_needs_no_company() -> None:
    assert qbft.is_accompanied(qbft.make_state(CHAIN, PAIRS[0]))
