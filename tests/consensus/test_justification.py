"""What a leader may say after round changes: a quorum of them, the highest prepared among them."""

from __future__ import annotations

from itertools import permutations

from chainlite.consensus import messages
from chainlite.consensus.justification import Place, is_valid_proposal, justify
from chainlite.consensus.messages import NO_DIGEST, NO_ROUND, Proposal, RoundChange
from chainlite.ledger.block import Block
from tests.consensus.samples import CHAIN, make_child, make_genesis, make_keys, make_set, sign_votes

PAIRS = make_keys(4)
SET = make_set(PAIRS)
GENESIS = make_genesis(SET)
PLACE = Place(CHAIN, GENESIS.header, GENESIS.hash, SET)
LOW = make_child(GENESIS, SET.get_proposer(GENESIS.header.proposer, 0), b"low")
HIGH = make_child(GENESIS, SET.get_proposer(GENESIS.header.proposer, 1), b"high")
ROUND = 2


def make_change(number: int, block: Block | None, prepared_round: int) -> RoundChange:
    digest = PLACE.compute_digest(block, prepared_round) if block else NO_DIGEST
    vote = messages.sign_vote(
        PAIRS[number], CHAIN, messages.ROUND_CHANGE, 1, ROUND, digest, prepared_round
    )
    prepares = sign_votes(PAIRS[:3], messages.PREPARE, block, prepared_round) if block else ()
    return RoundChange(vote, block, prepares)


def test_the_highest_prepared_is_among_the_chosen_whoever_has_it() -> None:
    """With more round changes than a quorum, in each order of who prepared what."""
    kinds = ((None, NO_ROUND), (None, NO_ROUND), (LOW, 0), (HIGH, 1))
    leader = SET.get_proposer(GENESIS.header.proposer, ROUND)
    pair = next(pair for pair in PAIRS if pair.public == leader)
    for order in permutations(kinds):
        changes = [make_change(number, *kind) for number, kind in enumerate(order)]
        found = justify(PLACE, changes)
        assert found is not None
        assert found.block == HIGH
        assert len(found.round_changes) == SET.quorum
        digest = PLACE.compute_digest(HIGH, ROUND)
        vote = messages.sign_vote(pair, CHAIN, messages.PROPOSAL, 1, ROUND, digest)
        proposal = Proposal(vote, HIGH, found.round_changes, found.prepares)
        assert is_valid_proposal(PLACE, proposal, 10_000, lambda _: True)
        lower = proposal._replace(
            block=LOW, vote=vote._replace(digest=PLACE.compute_digest(LOW, ROUND))
        )
        assert not is_valid_proposal(PLACE, lower, 10_000, lambda _: True)


def test_fewer_than_a_quorum_let_nobody_propose() -> None:
    changes = [make_change(number, None, NO_ROUND) for number in range(2)]
    assert justify(PLACE, changes) is None
