"""Messages that are right but for one thing: what a liar sends when it leads, or leaves a round.

Not here: when (liars). Each takes a message that honest nodes would believe and breaks one rule of
it, so that a node that does not check just that rule is taken in. Invariant: only own keys sign;
votes of others are true ones, or carry signatures that nobody made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chainlite import keys
from chainlite.consensus.messages import (
    NO_DIGEST,
    NO_ROUND,
    PREPARE,
    PROPOSAL,
    ROUND_CHANGE,
    Proposal,
    RoundChange,
    Vote,
    sign_vote,
)
from chainlite.ledger.block import make_block
from chainlite.ledger.header import compute_seal_digest
from tests.sim import toychain

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from chainlite.ledger.block import Block
    from tests.sim.liars import Coalition
    from tests.sim.node import Node

STRANGERS = tuple(keys.make_key_pair(bytes([number + 100]) * 32) for number in range(8))
"""Keys of nobody."""


class Means(NamedTuple):
    """With what a message is broken: whose hand, what else was heard, and chance."""

    liar: Node
    coalition: Coalition
    rng: random.Random


def compute_digest(block: Block, round: int) -> bytes:
    return compute_seal_digest(toychain.CHAIN_ID, block.hash, round)


def sign(
    liar: Node, kind: int, place: tuple[int, int], digest: bytes, prepared: int = NO_ROUND
) -> Vote:
    """The liar's own vote at (height, round)."""
    return sign_vote(liar.key, toychain.CHAIN_ID, kind, *place, digest, prepared)


def spoil_quorum(means: Means, votes: tuple[Vote, ...]) -> tuple[Vote, ...]:
    """A quorum of votes of one kind that is none, by one vote."""
    if not votes:
        return votes
    rng, liar, sample = means.rng, means.liar, votes[-1]
    others = [vote for vote in votes if vote.signer != liar.key.public]
    rest = tuple(others[: len(votes) - 1])
    place = (sample.height, sample.round)
    fault = rng.randrange(7)
    if fault == 0:
        return rest
    if fault == 1:  # one of them twice
        return (*rest, rest[0] if rest else sample)
    if fault == 2:  # a stranger
        vote = sign_vote(
            STRANGERS[0],
            toychain.CHAIN_ID,
            sample.kind,
            *place,
            sample.digest,
            sample.prepared_round,
        )
        return (*rest, vote)
    if fault == 3:  # in another's name
        silent = [key for key in liar.ledger.validators.keys if key not in [v.signer for v in rest]]
        forged = sample._replace(signer=silent[0], signature=rng.randbytes(64))
        return (*rest, forged)
    if fault == 4:  # of another round
        other = (sample.height, max(0, sample.round - 1 if sample.round else 1))
        return (*rest, sign(liar, sample.kind, other, sample.digest, sample.prepared_round))
    if fault == 5:  # of another height
        other = (sample.height - 1, sample.round)
        return (*rest, sign(liar, sample.kind, other, sample.digest, sample.prepared_round))
    other_digest = rng.randbytes(32)
    if sample.kind == ROUND_CHANGE:
        return (*rest, sign(liar, ROUND_CHANGE, place, other_digest, max(0, sample.round - 1)))
    return (*rest, sign(liar, sample.kind, place, other_digest))


def _rebuild(means: Means, message: Proposal, block: Block, **fields: object) -> Proposal:
    place = (message.vote.height, message.vote.round)
    digest = compute_digest(block, message.vote.round)
    vote = sign(means.liar, PROPOSAL, place, digest)
    return message._replace(vote=vote, block=block, **fields)


def spoil_proposal(means: Means, message: Proposal) -> Proposal:
    """A proposal of its round's leader that is right but for one thing."""
    tricks: tuple[Callable[[Means, Proposal], Proposal], ...] = (
        _spoil_changes,
        _spoil_changes,
        _spoil_prepares,
        _spoil_prepares,
        _take_other_block,
        _take_other_block,
        _hide_prepared,
        _take_lower,
        _take_lower,
        _spoil_digest,
        _spoil_header,
        _spoil_header,
        _add_reasons,
        _claim_without_proof,
        _pass_off,
    )
    if message.vote.round == 0:
        tricks = (_spoil_digest, _spoil_header, _spoil_header, _add_reasons, _pass_off)
    return means.rng.choice(tricks)(means, message)


def _spoil_changes(means: Means, message: Proposal) -> Proposal:
    return message._replace(round_changes=spoil_quorum(means, message.round_changes))


def _spoil_prepares(means: Means, message: Proposal) -> Proposal:
    if not message.prepares:
        return _spoil_changes(means, message)
    if means.rng.random() < 0.2:
        return message._replace(prepares=())
    return message._replace(prepares=spoil_quorum(means, message.prepares))


def _take_other_block(means: Means, message: Proposal) -> Proposal:
    """A new block, though one was prepared; the reasons stay."""
    block = means.coalition.make_plain_block(means.liar)
    changes, prepares = message.round_changes, message.prepares
    if means.rng.random() < 0.3:
        prepares = ()
    return _rebuild(means, message, block, round_changes=changes, prepares=prepares)


def _get_changes(means: Means, message: Proposal) -> list[Vote]:
    """All true round changes to the proposal's round that were heard, others' than the liar's."""
    place = (message.vote.height, message.vote.round)
    heard = means.coalition.changes.get(place, {}).values()
    return [change.vote for change in heard if change.vote.signer != means.liar.key.public]


def _hide_prepared(means: Means, message: Proposal) -> Proposal:
    """Those who prepared nothing, and the liar, who says so too; if they are not enough, others."""
    votes = _get_changes(means, message)
    votes.sort(key=lambda vote: vote.prepared_round != NO_ROUND)
    place = (message.vote.height, message.vote.round)
    quorum = means.liar.ledger.validators.quorum
    changes = (sign(means.liar, ROUND_CHANGE, place, NO_DIGEST), *votes)[:quorum]
    block = means.coalition.make_plain_block(means.liar)
    return _rebuild(means, message, block, round_changes=changes, prepares=())


def _take_lower(means: Means, message: Proposal) -> Proposal:
    """The block of a lower prepared round than the highest, with its true prepares."""
    votes = _get_changes(means, message)
    place = (message.vote.height, message.vote.round)
    heard = [
        change
        for change in means.coalition.changes.get(place, {}).values()
        if change.block is not None
    ]
    lowest = min(heard, key=lambda change: change.vote.prepared_round, default=None)
    if lowest is None or lowest.block is None:
        return _claim_without_proof(means, message)
    quorum = means.liar.ledger.validators.quorum
    mine = sign(means.liar, ROUND_CHANGE, place, lowest.vote.digest, lowest.vote.prepared_round)
    votes.sort(key=lambda vote: (vote.prepared_round + 1) % 2**32)
    by_chance = tuple(means.rng.sample(votes, len(votes)))
    changes = (mine, *by_chance)[:quorum]
    return _rebuild(means, message, lowest.block, round_changes=changes, prepares=lowest.prepares)


def _claim_without_proof(means: Means, message: Proposal) -> Proposal:
    """The liar's own claim to have prepared a block of its own, in the highest round."""
    rng, place = means.rng, (message.vote.height, message.vote.round)
    block = means.coalition.make_plain_block(means.liar)
    prepared = max(0, message.vote.round - rng.choice((0, 1)))
    digest = compute_digest(block, prepared)
    mine = sign(means.liar, ROUND_CHANGE, place, digest, prepared)
    changes = (mine, *_get_changes(means, message))[: means.liar.ledger.validators.quorum]
    own = sign(means.liar, PREPARE, (place[0], prepared), digest)
    prepares: tuple[Vote, ...] = rng.choice(((), (own,), message.prepares))
    return _rebuild(means, message, block, round_changes=changes, prepares=prepares)


def _spoil_digest(means: Means, message: Proposal) -> Proposal:
    rng, place = means.rng, (message.vote.height, message.vote.round)
    other = compute_digest(message.block, (message.vote.round + rng.choice((-1, 1))) % 2**32)
    digest = rng.choice((other, rng.randbytes(32)))
    return message._replace(vote=sign(means.liar, PROPOSAL, place, digest))


def _spoil_header(means: Means, message: Proposal) -> Proposal:
    """A block that names another proposer, or another time or place."""
    rng, header = means.rng, message.block.header
    now_ms = toychain.EPOCH_MS + means.coalition.world.now_ms
    parent = means.liar.ledger.header
    header = rng.choice(
        (
            header._replace(proposer=rng.choice(means.liar.ledger.validators.keys)),
            header._replace(proposer=STRANGERS[0].public),
            header._replace(timestamp_ms=now_ms + rng.choice((4_000, 3_600_000))),
            header._replace(timestamp_ms=parent.timestamp_ms - rng.choice((0, 1))),
            header._replace(previous=rng.randbytes(32)),
            header._replace(height=header.height + rng.choice((-1, 1))),
            header._replace(state_root=rng.randbytes(32)),
        )
    )
    block = make_block(header, message.block.transactions, message.block.poh)
    return _rebuild(means, message, block)


def _add_reasons(means: Means, message: Proposal) -> Proposal:
    """Prepares or round changes where none belong."""
    place = (message.vote.height, message.vote.round)
    if message.prepares:
        return _spoil_prepares(means, message)
    if means.rng.random() < 0.5:
        return message._replace(prepares=(sign(means.liar, PREPARE, place, message.vote.digest),))
    extra = sign(means.liar, ROUND_CHANGE, place, NO_DIGEST)
    return message._replace(round_changes=(*message.round_changes, extra))


def _pass_off(means: Means, message: Proposal) -> Proposal:
    """The leader's proposal, signed by another liar."""
    numbers = means.coalition.world.plan.liars
    liar = means.coalition.world.nodes[means.rng.choice(numbers)]
    place = (message.vote.height, message.vote.round)
    return message._replace(vote=sign(liar, PROPOSAL, place, message.vote.digest))


def spoil_round_change(means: Means, message: RoundChange) -> RoundChange:
    """A round change that is right but for what it claims to have prepared."""
    rng, vote = means.rng, message.vote
    place = (vote.height, vote.round)
    own = means.coalition.make_plain_block(means.liar)
    if message.block is None:
        claimed = rng.randrange(max(1, vote.round))
        digest = compute_digest(own, claimed)
        mine = sign(means.liar, PREPARE, (vote.height, claimed), digest)
        tricks: tuple[Callable[[], RoundChange], ...] = (
            lambda: message._replace(block=own),
            lambda: message._replace(prepares=(mine,)),
            lambda: RoundChange(sign(means.liar, ROUND_CHANGE, place, digest, claimed), own, ()),
            lambda: RoundChange(
                sign(means.liar, ROUND_CHANGE, place, digest, claimed), own, (mine,)
            ),
            lambda: RoundChange(
                sign(means.liar, ROUND_CHANGE, place, digest, claimed),
                own,
                tuple(
                    Vote(PREPARE, vote.height, claimed, digest, NO_ROUND, key, rng.randbytes(64))
                    for key in means.liar.ledger.validators.keys
                ),
            ),
        )
        return rng.choice(tricks)()
    prepared, block = vote.prepared_round, message.block
    later = (prepared + rng.randint(1, 2)) % 2**31
    return rng.choice(
        (
            lambda: message._replace(prepares=spoil_quorum(means, message.prepares)),
            lambda: message._replace(prepares=spoil_quorum(means, message.prepares)),
            lambda: message._replace(prepares=()),
            lambda: message._replace(block=own),
            lambda: message._replace(
                block=own,
                vote=sign(means.liar, ROUND_CHANGE, place, compute_digest(own, prepared), prepared),
            ),
            lambda: message._replace(
                vote=sign(means.liar, ROUND_CHANGE, place, compute_digest(block, later), later)
            ),
            lambda: message._replace(vote=sign(means.liar, ROUND_CHANGE, place, NO_DIGEST)),
            lambda: message._replace(
                vote=sign(
                    means.liar,
                    ROUND_CHANGE,
                    (vote.height, prepared),
                    vote.digest,
                    prepared,
                )
            ),
        )
    )()
