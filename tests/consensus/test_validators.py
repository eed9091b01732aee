"""Sets of validators: quorums that share an honest one, and one encoding each."""

from __future__ import annotations

import pytest

from chainlite.codec import Reader
from chainlite.consensus.validators import (
    NO_PROPOSER,
    VALIDATORS_MAX,
    ValidatorSet,
    compute_faults,
    compute_quorum,
    read_validators,
)
from chainlite.errors import SpecError
from tests.consensus.samples import make_keys, make_set

PAIRS = make_keys(7)
SET = make_set(PAIRS)


def test_two_quorums_share_an_honest_validator_and_the_honest_are_a_quorum() -> None:
    for size in range(1, VALIDATORS_MAX + 1):
        faults, quorum = compute_faults(size), compute_quorum(size)
        assert 2 * quorum - size > faults
        assert size - faults >= quorum
        assert 3 * faults < size <= 3 * faults + 3


def test_the_turn_goes_round_and_moves_with_each_round() -> None:
    keys = SET.keys
    assert [SET.get_proposer(NO_PROPOSER, number) for number in range(9)] == [*keys, *keys[:2]]
    for place, key in enumerate(keys):
        assert SET.get_proposer(key, 0) == keys[(place + 1) % 7]
        assert SET.get_proposer(key, 3) == keys[(place + 4) % 7]


def test_after_a_proposer_that_left_comes_the_next_in_order() -> None:
    left = SET.keys[3]
    others = ValidatorSet(key for key in SET.keys if key != left)
    assert others.get_proposer(left, 0) == SET.keys[4]


def test_a_set_has_one_encoding_whatever_the_order_of_its_keys() -> None:
    other = ValidatorSet(reversed(SET.keys))
    assert (other, other.digest) == (SET, SET.digest)
    assert read_validators(Reader(SET.encode(), "set")) == SET
    swapped = SET.encode()[:2] + SET.keys[1] + SET.keys[0] + b"".join(SET.keys[2:])
    with pytest.raises(SpecError, match="do not ascend"):
        read_validators(Reader(swapped, "set"))


def test_a_bitmap_names_its_signers_and_no_others() -> None:
    for bits in range(1 << 7):
        signers = tuple(key for place, key in enumerate(SET.keys) if bits >> place & 1)
        assert SET.decode_bitmap(SET.encode_bitmap(signers)) == signers
    for wrong in (b"", b"\x01\x00", b"\x80"):
        with pytest.raises(SpecError, match="another size"):
            SET.decode_bitmap(wrong)


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ([], "1 to"),
        ([bytes([n // 256, n % 256]) + bytes(30) for n in range(VALIDATORS_MAX + 1)], "1 to"),
        ([SET.keys[0]] * 2, "twice"),
        ([b"short"], "32 bytes"),
    ],
)
def test_what_is_no_set_is_refused(keys: list[bytes], why: str) -> None:
    with pytest.raises(SpecError, match=why):
        ValidatorSet(keys)
