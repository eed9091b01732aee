"""Messages: canonical bytes, signatures that bind everything, and hostile input."""

from __future__ import annotations

import os
import random

import pytest

from chainlite import keys
from chainlite.consensus import equivocation, messages, qbft
from chainlite.consensus.events import Received, Start
from chainlite.consensus.messages import (
    Commit,
    Message,
    NewBlock,
    Prepare,
    Proposal,
    RoundChange,
    check_signatures,
    decode_message,
    encode_message,
)
from chainlite.errors import SpecError
from chainlite.ledger.header import Seals, compute_seal_digest, is_sealed
from tests.consensus.samples import CHAIN, make_child, make_genesis, make_keys, make_set, sign_votes

FULL = os.environ.get("DOCKLOCK_TEST_FULL") == "1"
CASES = 100_000 if FULL else 1_000
PAIRS = make_keys(4)
SET = make_set(PAIRS)
GENESIS = make_genesis(SET)
BLOCK = make_child(GENESIS, PAIRS[0].public, b"one", b"two")
DIGEST = compute_seal_digest(CHAIN, BLOCK.hash, 0)
PREPARES = sign_votes(PAIRS[:3], messages.PREPARE, BLOCK, 0)
COMMITS = sign_votes(PAIRS[:3], messages.COMMIT, BLOCK, 0)
SEALS = Seals(
    0,
    SET.encode_bitmap(vote.signer for vote in COMMITS),
    tuple(vote.signature for vote in COMMITS),
)


def sign_change(pair: keys.KeyPair, *, prepared: bool) -> messages.Vote:
    what = (DIGEST, 0) if prepared else (messages.NO_DIGEST, messages.NO_ROUND)
    return messages.sign_vote(pair, CHAIN, messages.ROUND_CHANGE, 1, 1, *what)


CHANGES = tuple(sign_change(pair, prepared=number == 0) for number, pair in enumerate(PAIRS[:3]))
SAMPLES: dict[str, Message] = {
    "proposal": Proposal(sign_votes(PAIRS[:1], messages.PROPOSAL, BLOCK, 0)[0], BLOCK, (), ()),
    "proposal of a later round": Proposal(
        sign_votes(PAIRS[1:2], messages.PROPOSAL, BLOCK, 1)[0], BLOCK, CHANGES, PREPARES
    ),
    "prepare": Prepare(PREPARES[0]),
    "commit": Commit(COMMITS[1]),
    "round change": RoundChange(CHANGES[1], None, ()),
    "round change of one who prepared": RoundChange(CHANGES[0], BLOCK, PREPARES),
    "new block": NewBlock(BLOCK, SEALS),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_message_comes_back_and_is_signed(name: str) -> None:
    message = SAMPLES[name]
    assert decode_message(encode_message(message)) == message
    check_signatures(message, CHAIN)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_flipped_bit_is_refused_or_leaves_a_message_that_is_not_signed(name: str) -> None:
    encoded = encode_message(SAMPLES[name])
    for at in range(len(encoded)):
        spoilt = bytearray(encoded)
        spoilt[at] ^= 1 << at % 8
        try:
            message = decode_message(bytes(spoilt))
            check_signatures(message, CHAIN)
        except SpecError:
            continue
        assert is_found_out(message), f"byte {at}"


def is_found_out(message: Message) -> bool:
    """Whether a step would see it: a block that is not the one that the votes or seals name."""
    assert not isinstance(message, Prepare | Commit)
    block = message.block
    if block is None or (block.transactions, block.poh) != (BLOCK.transactions, BLOCK.poh):
        return True  # the roots in the header are of others, which the ledger checks
    if isinstance(message, NewBlock):
        return not is_sealed(message.seals, SET, CHAIN, 1, block.hash)
    return block.hash != BLOCK.hash


@pytest.mark.parametrize("kind", range(4))
def test_a_vote_is_for_one_chain_kind_height_round_and_digest(kind: int) -> None:
    vote = messages.sign_vote(PAIRS[0], CHAIN, kind, 5, 3, DIGEST, 2 if kind == 3 else 0xFFFFFFFF)
    assert messages.is_vote_signed(vote, CHAIN)
    assert not messages.is_vote_signed(vote, b"d" * 32)
    for other in (
        vote._replace(kind=(kind + 1) % 4),
        vote._replace(height=6),
        vote._replace(round=4),
        vote._replace(digest=bytes(32)),
        vote._replace(signer=PAIRS[1].public),
        *([vote._replace(prepared_round=1)] if kind == 3 else []),
    ):
        assert not messages.is_vote_signed(other, CHAIN)


def test_the_signature_of_a_commit_is_the_seal() -> None:
    assert is_sealed(SEALS, SET, CHAIN, 1, BLOCK.hash)
    assert not is_sealed(SEALS, SET, CHAIN, 1, GENESIS.hash)
    assert not is_sealed(SEALS, SET, CHAIN, 2, BLOCK.hash)
    assert not is_sealed(SEALS._replace(round=1), SET, CHAIN, 1, BLOCK.hash)
    assert not is_sealed(SEALS, make_set(make_keys(7)), CHAIN, 1, BLOCK.hash)


def test_fewer_seals_than_a_quorum_or_one_twice_make_nothing_final() -> None:
    signers = [vote.signer for vote in COMMITS]
    two = Seals(0, SET.encode_bitmap(signers[:2]), SEALS.signatures[:2])
    assert not is_sealed(two, SET, CHAIN, 1, BLOCK.hash)
    twice = Seals(0, two.bitmap, (*two.signatures, two.signatures[0]))
    assert not is_sealed(twice, SET, CHAIN, 1, BLOCK.hash)


def test_two_votes_convict_and_one_never_does() -> None:
    other = make_child(GENESIS, PAIRS[0].public, b"another")
    for kind in (messages.PROPOSAL, messages.PREPARE, messages.COMMIT):
        (one,), (two,) = (sign_votes(PAIRS[:1], kind, block, 0) for block in (BLOCK, other))
        evidence = equivocation.make_equivocation(one, two)
        equivocation.check_equivocation(evidence, CHAIN)
        encoded = equivocation.encode_equivocation(evidence)
        assert equivocation.decode_equivocation(encoded) == evidence
        assert evidence == equivocation.make_equivocation(two, one)
        for innocent in (
            equivocation.Equivocation(one, one),
            equivocation.Equivocation(one, two._replace(signature=bytes(64))),
            equivocation.Equivocation(one, sign_votes(PAIRS[1:2], kind, other, 0)[0]),
            equivocation.Equivocation(one, sign_votes(PAIRS[:1], kind, other, 1)[0]),
        ):
            with pytest.raises(SpecError, match="equivocation"):
                equivocation.check_equivocation(innocent, CHAIN)
        with pytest.raises(SpecError, match="equivocation"):
            equivocation.check_equivocation(evidence, b"d" * 32)


def spoil(chance: random.Random, data: bytes) -> bytes:
    spoilt = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(spoilt)) if spoilt else 0
        action = chance.randrange(5)
        if action < 2:
            spoilt[at : at + 1] = bytes([chance.randrange(256)])
        elif action == 2:
            spoilt[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\0\0\0"))
        elif action == 3:
            del spoilt[at : at + chance.randrange(1, 80)]
        else:
            spoilt[at:at] = spoilt[at : at + chance.randrange(1, 80)]
    return bytes(spoilt)


@pytest.mark.fuzz
@pytest.mark.parametrize("name", SAMPLES)
def test_hostile_bytes_are_refused_by_name_or_canonical_and_break_no_step(name: str) -> None:
    chance = random.Random(name)
    encoded = encode_message(SAMPLES[name])
    state = qbft.make_state(CHAIN, PAIRS[3])
    state, _ = qbft.step(
        state, Start(GENESIS.header, GENESIS.hash, SET, 250), 2_000, lambda _: True
    )
    accepted = 0
    for _ in range(CASES):
        data = spoil(chance, encoded)
        try:
            message = decode_message(data)
        except SpecError:
            continue
        assert encode_message(message) == data
        accepted += 1
        # Whatever the signatures: a step believes what it is given, and still may not fail.
        qbft.step(state, Received(message), 2_000, lambda _: True)
    assert accepted
