"""When a validator may vote: never where it may have voted before and forgotten."""

from __future__ import annotations

import random

import pytest

from chainlite.consensus.validators import ValidatorSet
from docklock.chain.voting import find_obstacle
from tests.conftest import FULL, get_seed

KEYS = tuple(bytes([number]) * 32 for number in range(1, 8))
FOUR = ValidatorSet(KEYS[:4])
ME = KEYS[0]


@pytest.mark.parametrize(
    ("height", "voted", "told", "why"),
    [
        (9, 10, {KEYS[1]: 9, KEYS[2]: 9}, ""),
        (9, 0, {KEYS[1]: 9, KEYS[2]: 8}, ""),
        (9, 10, {KEYS[1]: 9}, "1 more validators must be up"),
        (9, 10, {}, "2 more validators must be up to make a quorum of 3"),
        (9, 10, {KEYS[1]: 9, KEYS[5]: 9}, "1 more validators"),
        (8, 10, {KEYS[1]: 9, KEYS[2]: 9}, "it has voted at height 10"),
        (8, 9, {KEYS[1]: 9, KEYS[2]: 9}, "others have block 9, this node 8"),
        (8, 9, {KEYS[1]: 9, KEYS[2]: 8}, ""),
        (8, 9, {KEYS[1]: 10**9, KEYS[2]: 8, KEYS[3]: 8}, ""),
        (8, 9, {KEYS[1]: 10**9, KEYS[2]: 9, KEYS[3]: 8}, "others have block 9"),
    ],
)
def test_it_votes_only_where_it_cannot_have_voted_otherwise(
    height: int, voted: int, told: dict[bytes, int], why: str
) -> None:
    said = find_obstacle(ME, height, voted, FOUR, told)
    assert said.startswith(why) and bool(said) == bool(why)


def test_a_chain_of_one_waits_for_nobody() -> None:
    assert find_obstacle(ME, 0, 0, ValidatorSet([ME]), {}) == ""
    assert find_obstacle(ME, 0, 0, ValidatorSet([KEYS[1]]), {}) == "its key is not a validator's"


def test_who_was_put_back_never_votes_below_where_it_was() -> None:
    """Whatever f liars say, and whichever quorum is up: honest nodes know of every final height."""
    rng = random.Random(get_seed())
    for _ in range(50_000 if FULL else 2_000):
        size = rng.randint(1, 7)
        validators = ValidatorSet(KEYS[:size])
        final, height = rng.randint(0, 6), rng.randint(0, 6)
        liars = set(rng.sample(KEYS[1:size], min((size - 1) // 3, size - 1)))
        # A block is final once a quorum has it, of which f may be liars: honest ones that do not
        # yet have it are at least one behind at most.
        up = rng.sample(KEYS[1:size], rng.randint(0, size - 1))
        told = {key: rng.randint(0, 9) if key in liars else final for key in up}
        if find_obstacle(ME, min(height, final), 0, validators, told) == "" and size > 1:
            honest_up = [key for key in up if key not in liars]
            # With at most f liars among a quorum, f + 1 honest ones tell the truth of `final`.
            if len(honest_up) >= validators.weak_quorum:
                assert height >= final
