"""The rules of QBFT as numbers and bytes, written again from CHAIN.md and EEA QBFT v1.

Not here: when they are asked (watch, duties). Nothing of chainlite's own rules is called, so that a
mistake there is not made here too; only its types and encodings of headers are used.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from chainlite.consensus.messages import (
    COMMIT,
    NO_ROUND,
    PREPARE,
    PROPOSAL,
    ROUND_CHANGE,
    Proposal,
)
from chainlite.ledger.header import encode_header
from tests.sim import toychain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chainlite.consensus.messages import Vote
    from chainlite.ledger.header import Header
    from tests.sim.toychain import Ledger
    from tests.sim.world import World

CLOCK_AHEAD_MS = 2_000
SIGN_TAGS = {PROPOSAL: b"\x88", PREPARE: b"\x89", COMMIT: b"\x8a", ROUND_CHANGE: b"\x8b"}


def is_signed(world: World, vote: Vote) -> bool:
    """Whether a vote binds tag, chain, height, round, digest, and in a ROUND-CHANGE what else."""
    signed = toychain.CHAIN_ID + vote.height.to_bytes(8, "big") + vote.round.to_bytes(4, "big")
    signed += vote.digest
    if vote.kind == ROUND_CHANGE:
        signed += vote.prepared_round.to_bytes(4, "big")
    return world.is_signed(vote.signer, SIGN_TAGS[vote.kind], signed, vote.signature)


def compute_quorum(ledger: Ledger) -> int:
    """ceil(2n / 3), from the number of validators."""
    return -(-2 * len(ledger.validators.keys) // 3)


def compute_digest(header: Header, round: int) -> bytes:
    """The seal digest: tag, chain, hash of the header, round."""
    block_hash = hashlib.sha256(encode_header(header)).digest()
    return hashlib.sha256(
        b"\x85" + toychain.CHAIN_ID + block_hash + round.to_bytes(4, "big")
    ).digest()


def compute_proposer(ledger: Ledger, round: int) -> bytes:
    """Next after the previous block's proposer, plus the round, modulo n."""
    ordered = sorted(ledger.validators.keys)
    after = [key for key in ordered if key > ledger.header.proposer]
    first = ordered.index(after[0]) if after else 0
    return ordered[(first + round) % len(ordered)]


def is_quorum(world: World, ledger: Ledger, votes: Sequence[Vote], kind: int, round: int) -> bool:
    """Whether these are votes of one kind and round by a quorum of distinct validators, signed."""
    signers = {vote.signer for vote in votes}
    places = {(vote.kind, vote.height, vote.round) for vote in votes}
    return (
        len(signers) == len(votes) >= compute_quorum(ledger)
        and signers <= set(ledger.validators.keys)
        and places == {(kind, ledger.height, round)}
        and all(is_signed(world, vote) for vote in votes)
    )


def find_fault(world: World, ledger: Ledger, proposal: Proposal) -> str | None:
    """Why a proposal may not be prepared, if it may not (time aside)."""
    vote, header = proposal.vote, proposal.block.header
    first = compute_proposer(ledger, vote.round)
    if vote.signer != first:
        return "its signer does not lead the round"
    if vote.digest != compute_digest(header, vote.round):
        return "its digest is another block's or round's"
    if header.height != ledger.height or header.previous != ledger.hash:
        return "its block does not follow the last one"
    if header.timestamp_ms <= ledger.header.timestamp_ms:
        return "its block is not later than the last one"
    if vote.round == 0:
        alone = not proposal.round_changes and not proposal.prepares
        return None if alone and header.proposer == first else "its round 0 is not plain"
    if not is_quorum(world, ledger, proposal.round_changes, ROUND_CHANGE, vote.round):
        return "no quorum has come to its round"
    prepared = [v for v in proposal.round_changes if v.prepared_round != NO_ROUND]
    if not prepared:
        fresh = header.proposer == first and not proposal.prepares
        return None if fresh else "its fresh block is another's"
    highest = max(vote.prepared_round for vote in prepared)
    digest = compute_digest(header, highest)
    if highest >= vote.round or not is_quorum(world, ledger, proposal.prepares, PREPARE, highest):
        return "no quorum shows what was prepared last"
    if any(vote.digest != digest for vote in proposal.prepares) or all(
        (vote.prepared_round, vote.digest) != (highest, digest) for vote in prepared
    ):
        return "its block is not what was prepared last"
    return None
