"""Which proposals and round changes a validator may believe, and what justifies its own.

Not here: when they are asked for (qbft), signatures (messages: all are checked before). Invariants:
every quorum here is of distinct validators of the height; the block of a round after the first is
that of the highest prepared round among a quorum of round changes, shown by a quorum of prepares,
or there is none. Source: EEA QBFT v1, "Proposal justification"; Consensys
qbft-formal-spec-and-verification, node_auxiliary_functions.dfy (isProposalJustification,
isHighestPrepared, validRoundChange).
"""

from __future__ import annotations

from chainlite.consensus.messages import (
    NO_ROUND,
    PREPARE,
    ROUND_CHANGE,
    Proposal,
    RoundChange,
    Vote,
)
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.ledger.header import compute_seal_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from chainlite.consensus.validators import ValidatorSet
    from chainlite.ledger.block import Block
    from chainlite.ledger.header import Header

    IsValid: TypeAlias = Callable[[Block], bool]

CLOCK_AHEAD_MS = 2_000
"""How far another validator's clock may be ahead of this one's."""


class Place(NamedTuple):
    """What is decided: the height after `parent`, by these validators."""

    chain_id: bytes
    parent: Header
    parent_hash: bytes
    validators: ValidatorSet

    @property
    def height(self) -> int:
        """The height that is decided."""
        return self.parent.height + 1

    def get_proposer(self, round: int) -> bytes:
        """Whose turn it is in a round."""
        return self.validators.get_proposer(self.parent.proposer, round)

    def compute_digest(self, block: Block, round: int) -> bytes:
        """What votes of a round name the block by."""
        return compute_seal_digest(self.chain_id, block.hash, round)


class Justification(NamedTuple):
    """What a leader's proposal carries: `block` is the one that it must propose, if any."""

    round_changes: tuple[Vote, ...]
    prepares: tuple[Vote, ...]
    block: Block | None


def is_valid_proposal(
    place: Place, proposal: Proposal, now_ms: int, is_valid_block: IsValid
) -> bool:
    """Whether a proposal of this height may be prepared in its round."""
    vote, block = proposal.vote, proposal.block
    if vote.signer != place.get_proposer(vote.round):
        return False
    if vote.digest != place.compute_digest(block, vote.round):
        return False
    if block.header.timestamp_ms > now_ms + CLOCK_AHEAD_MS:
        return False
    return _continues(place, block) and _is_justified(place, proposal) and is_valid_block(block)


def is_well_formed(chain_id: bytes, proposal: Proposal) -> bool:
    """Whether its vote is for its block, with no justification in round 0: so much is known early.

    Whether the block's lists are those of its header is not (following.is_body_of).
    """
    vote, block = proposal.vote, proposal.block
    return (
        vote.digest == compute_seal_digest(chain_id, block.hash, vote.round)
        and vote.height == block.header.height
        and (vote.round > 0 or not (proposal.round_changes or proposal.prepares))
    )


def is_valid_round_change(place: Place, message: RoundChange, is_valid_block: IsValid) -> bool:
    """Whether the signer has shown what it says to have prepared."""
    vote, block = message.vote, message.block
    if vote.prepared_round == NO_ROUND:
        return block is None and not message.prepares
    if block is None or vote.prepared_round >= vote.round:
        return False
    if vote.digest != place.compute_digest(block, vote.prepared_round):
        return False
    return (
        _continues(place, block)
        and _is_prepared(place, message.prepares, vote.prepared_round, vote.digest)
        and is_valid_block(block)
    )


def justify(place: Place, received: Sequence[RoundChange]) -> Justification | None:
    """What the round changes of one round, all valid and of distinct signers, let its leader say.

    None until they are a quorum. The one that prepared last is always among the chosen.
    """
    if len(received) < place.validators.quorum:
        return None
    ordered = sorted(received, key=lambda message: place.validators.get_place(message.vote.signer))
    highest = max(ordered, key=_get_prepared_round)
    chosen = [highest, *(message for message in ordered if message is not highest)]
    votes = tuple(message.vote for message in chosen[: place.validators.quorum])
    return Justification(votes, highest.prepares, highest.block)


def _get_prepared_round(message: RoundChange) -> int:
    return -1 if message.vote.prepared_round == NO_ROUND else message.vote.prepared_round


def _continues(place: Place, block: Block) -> bool:
    """Whether the block comes right after the parent, made by one of this height's validators."""
    header = block.header
    return (
        header.height == place.height
        and header.previous == place.parent_hash
        and header.timestamp_ms > place.parent.timestamp_ms
        and header.proposer in place.validators
    )


def _is_justified(place: Place, proposal: Proposal) -> bool:
    """Whether a quorum has come to this round, and the block is one that it may have."""
    vote, block = proposal.vote, proposal.block
    fresh = block.header.proposer == place.get_proposer(vote.round)
    if vote.round == 0:
        return fresh and not proposal.round_changes and not proposal.prepares
    changes = proposal.round_changes
    if not _is_quorum(place, changes, ROUND_CHANGE, vote.round):
        return False
    prepared = [change for change in changes if change.prepared_round != NO_ROUND]
    if not prepared:
        return fresh and not proposal.prepares
    if any(change.prepared_round >= vote.round for change in prepared):
        return False
    highest = max(prepared, key=lambda change: change.prepared_round)
    # The digest has the round in it: compared as it was in the round in which it was prepared.
    digest = place.compute_digest(block, highest.prepared_round)
    return highest.digest == digest and _is_prepared(
        place, proposal.prepares, highest.prepared_round, digest
    )


def _is_prepared(place: Place, prepares: Sequence[Vote], round: int, digest: bytes) -> bool:
    return _is_quorum(place, prepares, PREPARE, round) and all(
        vote.digest == digest for vote in prepares
    )


def _is_quorum(place: Place, votes: Sequence[Vote], kind: int, round: int) -> bool:
    """Whether these are votes of one kind and round by a quorum of distinct validators."""
    signers = {vote.signer for vote in votes}
    return (
        len(signers) == len(votes) >= place.validators.quorum
        and all(signer in place.validators for signer in signers)
        and all(
            (vote.kind, vote.height, vote.round) == (kind, place.height, round) for vote in votes
        )
    )
