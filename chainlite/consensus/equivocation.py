"""Two votes of one validator that an honest one never gives: they convict it by themselves.

Not here: who collects them (qbft), what follows (chainlite.ledger). Invariants: both votes are of
one kind, signer, height and round and differ in what they say; both signatures hold; the smaller
encoding comes first, so that one pair has one encoding.
Source: EEA QBFT v1, "Message validation"; layout: README.md of this room, "Equivocation".
"""

from __future__ import annotations

from chainlite import domains
from chainlite.codec import Reader, encode_head
from chainlite.consensus.messages import KINDS, Vote, encode_vote, is_vote_signed, read_vote
from chainlite.errors import SpecError
from chainlite.lean import NamedTuple

VERSION = 1


class Equivocation(NamedTuple):
    """Two conflicting votes, the one with the smaller bytes first."""

    first: Vote
    second: Vote

    @property
    def signer(self) -> bytes:
        """Whom it convicts: a public key."""
        return self.first.signer


def make_equivocation(one: Vote, other: Vote) -> Equivocation:
    """The evidence that two conflicting votes are, in its one order."""
    first, second = sorted((one, other), key=encode_vote)
    return Equivocation(first, second)


def is_conflict(one: Vote, other: Vote) -> bool:
    """Whether one signer said two things where an honest one says one."""
    place = (one.kind, one.height, one.round, one.signer)
    if place != (other.kind, other.height, other.round, other.signer):
        return False
    return (one.digest, one.prepared_round) != (other.digest, other.prepared_round)


def check_equivocation(evidence: Equivocation, chain_id: bytes) -> None:
    """SpecError unless it convicts its signer on this chain."""
    if not is_conflict(evidence.first, evidence.second):
        raise SpecError("equivocation: the two votes do not conflict")
    for vote in evidence:
        if not is_vote_signed(vote, chain_id):
            raise SpecError(f"equivocation: a {KINDS[vote.kind]} that its signer did not sign")


def encode_equivocation(evidence: Equivocation) -> bytes:
    """Tag, version, and the two votes."""
    head = encode_head(domains.EQUIVOCATION, VERSION)
    return head + encode_vote(evidence.first) + encode_vote(evidence.second)


def decode_equivocation(data: bytes) -> Equivocation:
    """The evidence that these bytes are; SpecError for any other bytes. Checks no signature."""
    reader = Reader(data, "equivocation")
    reader.read_head(domains.EQUIVOCATION, VERSION)
    kind = data[3] if len(data) > 3 and data[3] < len(KINDS) else 0
    evidence = Equivocation(read_vote(reader, kind), read_vote(reader, kind))
    reader.finish()
    if not encode_vote(evidence.first) < encode_vote(evidence.second):
        reader.refuse("the votes do not ascend")
    return evidence
