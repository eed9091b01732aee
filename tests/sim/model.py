"""QBFT as its specification says it: slow, and written apart from chainlite.consensus.qbft.

A node keeps every message that it received and asks the predicates of the Dafny text over all of
them, each time anew. Here: the state of one height and those predicates; not here: what an
implementation did and whether it may (lockstep). Nothing is imported from qbft, and nobody who
wrote this has read it; of chainlite only the words that both speak: messages, events, blocks.

Where the specification is a relation, a predicate takes `strict`. Loose (False) asks what a node
may do, over all that it may have kept. Strict asks what it must do, over what it must have kept;
`Seen.certain` and `get_votes` say what that is. What lies between is a freedom, and each is named
where it is given: FREEDOM.

Source: Consensys qbft-formal-spec-and-verification, dafny/spec/L1/node.dfy and
node_auxiliary_functions.dfy, whose names are kept; EEA QBFT v1; and where this chain departs from
them on purpose, DEPARTURE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import NamedTuple

from chainlite import domains, keys
from chainlite.consensus import messages as m
from chainlite.consensus.events import Start
from chainlite.consensus.messages import Vote
from chainlite.ledger.block import Block
from chainlite.ledger.header import Seals, compute_seal_digest, encode_commit

AHEAD_MAX_MS = 2000
BUFFER_ROUNDS = 14
"""Rounds of one signer and kind that a node must keep, whatever else that signer says."""
IsValid = Callable[[Block], bool]


def f(size: int) -> int:
    """node_auxiliary_functions.dfy: f."""
    return (size - 1) // 3


def quorum(size: int) -> int:
    """node_auxiliary_functions.dfy: quorum."""
    return (size * 2 - 1) // 3 + 1


def get_signers(votes: object) -> set[bytes]:
    return {vote.signer for vote in votes}


class Seen(NamedTuple):
    """A message that the node received at this height, or before it.

    FREEDOM: buffers for future heights are bounded, so what came early may be gone (not certain).
    """

    message: m.Message
    certain: bool
    early: bool = False


class Height:
    """What a node knows at one height: NodeState without the blocks before."""

    def __init__(self, chain_id: bytes, key: bytes | None, start: Start) -> None:
        self.chain_id = chain_id
        self.id = key
        self.parent = start.parent
        self.parent_hash = start.parent_hash
        self.height = start.parent.height + 1
        self.set = start.validators
        self.validators = sorted(start.validators.keys)
        self.quorum = quorum(len(self.validators))
        self.received: list[Seen] = []
        self.sent: list[m.Message] = []
        self.round = 0
        self.accepted: Block | None = None
        self.known: list[tuple[int, Block]] = []
        self.prepared_round: int | None = None
        self.prepared_block: Block | None = None
        self.decided: Block | None = None
        self.is_due = False
        self.wanted: set[int] = set()
        self.is_valid: IsValid = lambda _: False
        self.now_ms = 0

    # Words

    @property
    def is_validator(self) -> bool:
        """node.dfy, NodeNextSubStep: current.id in validators(current.blockchain)."""
        return self.id in self.validators

    def proposer(self, round: int) -> bytes:
        """Next in the order after the previous block's proposer, plus the round.

        DEPARTURE: the Dafny text takes the previous proposer's place in the previous set. Sets
        change; the order of the keys does not, so here it is the next key of this set.
        """
        after = [place for place, key in enumerate(self.validators) if key > self.parent.proposer]
        first = after[0] if after else 0
        return self.validators[(first + round) % len(self.validators)]

    def digest(self, block: Block, round: int) -> bytes:
        """digest(replaceRoundInBlock(block, round)): here a digest of the hash and the round."""
        return compute_seal_digest(self.chain_id, block.hash, round)

    # What was received

    def get_messages(self, kind: type, *, strict: bool) -> Iterator[m.Message]:
        for seen in self.received:
            if isinstance(seen.message, kind) and (seen.certain or not strict):
                yield seen.message

    def get_votes(self, kind: int, *, strict: bool) -> list[Vote]:
        """The votes of validators of this height.

        FREEDOM: of two conflicting votes a node may count either, both or none: their signer is
        Byzantine, and no rule may need him. Strict: neither.
        FREEDOM: buffers are bounded by signer; whoever spoke in more rounds than BUFFER_ROUNDS may
        have pushed out what he said before.
        FREEDOM: a prepare inside another message is as signed as one alone; it may be counted.
        """
        votes = []
        for seen in self.received:
            if isinstance(seen.message, m.NewBlock) or (strict and not seen.certain):
                continue
            every = [seen.message.vote] if strict else list(m.get_votes(seen.message))
            votes += [vote for vote in every if vote.kind == kind]
        votes = [v for v in votes if v.height == self.height and v.signer in self.validators]
        if not strict:
            return votes
        every = self.get_all_votes()
        rounds: dict[bytes, set[int]] = {}
        for vote in every:
            if vote.kind == kind:
                rounds.setdefault(vote.signer, set()).add(vote.round)
        votes = [v for v in votes if len(rounds[v.signer]) <= BUFFER_ROUNDS]
        return [v for v in votes if not any(is_conflicting(v, w) for w in every)]

    def get_all_votes(self) -> list[Vote]:
        return [vote for seen in self.received for vote in m.get_votes(seen.message)]

    def valid_prepares(self, round: int, digest: bytes, *, strict: bool) -> list[Vote]:
        """validPreparesForHeightRoundAndDigest."""
        votes = self.get_votes(m.PREPARE, strict=strict)
        return [vote for vote in votes if (vote.round, vote.digest) == (round, digest)]

    def valid_commits(self, round: int, digest: bytes, *, strict: bool) -> list[Vote]:
        """validCommitsForHeightRoundAndDigest; the signature of a commit is its seal."""
        votes = self.get_votes(m.COMMIT, strict=strict)
        return [vote for vote in votes if (vote.round, vote.digest) == (round, digest)]

    def get_own(self, kind: int, round: int) -> list[Vote]:
        """What this node said; after a restart what it had recorded too."""
        own = [said.vote for said in self.sent if not isinstance(said, m.NewBlock)]
        return [vote for vote in own if (vote.kind, vote.round) == (kind, round)]

    # Blocks

    def is_next(self, block: Block) -> bool:
        """What every block of this height must be, whoever proposes it and when."""
        header = block.header
        return (
            header.height == self.height
            and header.previous == self.parent_hash
            and header.timestamp_ms > self.parent.timestamp_ms
            and self.is_valid(block)
        )

    def validate_fresh_block(self, block: Block, round: int, *, strict: bool) -> bool:
        """validateNonPreparedBlock.

        FREEDOM: of its own block a node need not ask whether it is ahead of its clock: it comes
        after its parent, which may be ahead already where this clock is slow.
        """
        is_own = not strict and block.header.proposer == self.id
        is_due = block.header.timestamp_ms <= self.now_ms + AHEAD_MAX_MS
        is_in_turn = block.header.proposer == self.proposer(round)
        return self.is_next(block) and is_in_turn and (is_due or is_own)

    # ROUND-CHANGE

    def is_valid_round_change(self, vote: Vote, round: int) -> bool:
        """validRoundChange: of the signed part alone."""
        if vote.kind != m.ROUND_CHANGE or vote.height != self.height or vote.round != round:
            return False
        if (vote.prepared_round == m.NO_ROUND) != (vote.digest == m.NO_DIGEST):
            return False
        prepared_before = vote.prepared_round == m.NO_ROUND or vote.prepared_round < round
        return prepared_before and vote.signer in self.validators

    def is_justified(self, change: m.RoundChange) -> bool:
        """Whether a ROUND-CHANGE carries the block that it names and the quorum that prepared it.

        DEPARTURE: in the Dafny text the leader takes prepares from what it received by itself;
        here a ROUND-CHANGE brings them.
        FREEDOM: one that does not may be dropped whole, or its signed part be counted.
        """
        vote = change.vote
        if not self.is_valid_round_change(vote, vote.round):
            return False
        if vote.prepared_round == m.NO_ROUND:
            return change.block is None and not change.prepares
        if change.block is None or not self.is_next(change.block):
            return False
        if self.digest(change.block, vote.prepared_round) != vote.digest:
            return False
        return self.is_prepared_by(change.prepares, vote.prepared_round, vote.digest, strict=True)

    def is_prepared_by(
        self, prepares: tuple[Vote, ...], round: int, digest: bytes, *, strict: bool
    ) -> bool:
        """A quorum of distinct validators' prepares and nothing else among them.

        DEPARTURE: the Dafny text counts signed prepares, which are a set; these come in a list, so
        signers are counted. FREEDOM: more than a quorum, or one twice, may be refused.
        """
        wanted = (m.PREPARE, self.height, round, digest)
        if any((v.kind, v.height, v.round, v.digest) != wanted for v in prepares):
            return False
        signers = get_signers(prepares)
        if not signers <= set(self.validators) or len(signers) < self.quorum:
            return False
        return not strict or len(prepares) == self.quorum

    def get_round_changes(self, *, strict: bool) -> list[Vote]:
        """receivedSignedRoundChangesForCurrentHeight..., strict: those that are justified.

        DEPARTURE: the Dafny text forgets to ask here whether the signer is a validator.
        """
        if not strict:
            votes = self.get_votes(m.ROUND_CHANGE, strict=False)
            return [vote for vote in votes if self.is_valid_round_change(vote, vote.round)]
        sure = self.get_votes(m.ROUND_CHANGE, strict=True)
        changes = self.get_messages(m.RoundChange, strict=True)
        return [c.vote for c in changes if c.vote in sure and self.is_justified(c)]

    def get_pulls(self, *, strict: bool) -> set[int]:
        """Rounds that f + 1 validators pull this node to.

        FREEDOM: which f + 1 of the votes for higher rounds are taken; the new round is the lowest
        of those taken.
        """
        later = [v for v in self.get_round_changes(strict=strict) if v.round > self.round]
        enough = f(len(self.validators)) + 1
        return {
            vote.round
            for vote in later
            if len(get_signers(v for v in later if v.round >= vote.round)) >= enough
        }

    # PROPOSAL

    def is_proposal_justification(
        self,
        round_changes: tuple[Vote, ...],
        prepares: tuple[Vote, ...],
        round: int,
        block: Block,
        *,
        strict: bool,
    ) -> bool:
        """isProposalJustification.

        DEPARTURE: a re-proposed block is asked of is_valid too, and must follow the parent: in the
        Dafny text a digest is of the whole block, here it is of the header, and a quorum that
        prepared the header does not vouch for whatever lists come with it now.
        FREEDOM: a re-proposed block of a time that is still ahead here, justifications in round 0,
        prepares where nothing was prepared, more than a quorum, a signer twice.
        """
        if round == 0:
            needless = strict and (round_changes or prepares)
            return not needless and self.validate_fresh_block(block, round, strict=strict)
        if len(get_signers(round_changes)) < self.quorum:
            return False
        if strict and len(round_changes) != self.quorum:
            return False
        if not all(self.is_valid_round_change(vote, round) for vote in round_changes):
            return False
        prepared = [vote for vote in round_changes if vote.prepared_round != m.NO_ROUND]
        if not prepared:
            fresh = self.validate_fresh_block(block, round, strict=strict)
            return fresh and not (strict and prepares)
        if not self.is_next(block):
            return False
        if strict and block.header.timestamp_ms > self.now_ms + AHEAD_MAX_MS:
            return False
        highest = max(vote.prepared_round for vote in prepared)
        return any(
            vote.prepared_round == highest
            and vote.digest == self.digest(block, highest)
            and self.is_prepared_by(prepares, highest, vote.digest, strict=strict)
            for vote in prepared
        )

    def is_valid_proposal(self, message: m.Proposal, *, strict: bool) -> bool:
        """isValidProposal.

        DEPARTURE: a proposal of a higher round is taken also where none of this round was: with
        the Dafny text's condition a node that missed one proposal would refuse the next.
        """
        vote = message.vote
        is_open = vote.round > self.round or (vote.round == self.round and self.accepted is None)
        return is_open and self.is_good_proposal(message, strict=strict)

    def is_good_proposal(self, message: m.Proposal, *, strict: bool) -> bool:
        """Of isValidProposal all that does not depend on the round that this node is in."""
        vote = message.vote
        return (
            vote.height == self.height
            and vote.signer == self.proposer(vote.round)
            and vote.digest == self.digest(message.block, vote.round)
            and self.is_proposal_justification(
                message.round_changes, message.prepares, vote.round, message.block, strict=strict
            )
        )

    # Final

    def get_blocks(self) -> list[Block]:
        """Every block of this height that came in any message.

        FREEDOM: which of them a node keeps beside those that it accepted.
        """
        blocks = [block for _, block in self.known]
        if self.prepared_block is not None:
            blocks.append(self.prepared_block)
        for seen in self.received:
            block = getattr(seen.message, "block", None)
            if block is not None:
                blocks.append(block)
        return blocks

    def is_final(self, block: Block, seals: Seals) -> bool:
        """ValidNewBlock: a quorum of distinct seals of this height's validators."""
        places = [p for p in range(8 * len(seals.bitmap)) if seals.bitmap[p // 8] >> p % 8 & 1]
        if len(places) < self.quorum or len(places) != len(seals.signatures):
            return False
        if places[-1] >= len(self.validators):
            return False
        digest = self.digest(block, seals.round)
        signed = encode_commit(self.chain_id, self.height, seals.round, digest)
        return self.is_next(block) and all(
            keys.is_signed(self.validators[place], domains.SIGN_COMMIT, signed, signature)
            for place, signature in zip(places, seals.signatures, strict=True)
        )

    def get_finals(self) -> list[tuple[int, Block]]:
        """Blocks that must be final by now: accepted in some round, committed by a quorum in it.

        DEPARTURE: the Dafny text looks at the current round only. A quorum of commits is what
        NEW-BLOCK needs, whatever round this node is in.
        FREEDOM: after a restart a block is known by what was recorded: in the round it was
        prepared in last, not in the rounds before.
        """
        known = list(self.known)
        if self.prepared_block is not None and self.prepared_round is not None:
            known.append((self.prepared_round, self.prepared_block))
        return [
            (place, block)
            for place, block in known
            if len(get_signers(self.valid_commits(place, self.digest(block, place), strict=True)))
            >= self.quorum
        ]


def is_conflicting(one: Vote, other: Vote) -> bool:
    """Whether an honest signer gives at most one of the two."""
    same = (one.signer, one.kind, one.height, one.round)
    if same != (other.signer, other.kind, other.height, other.round):
        return False
    return (one.digest, one.prepared_round) != (other.digest, other.prepared_round)


def get_conflicts(votes: list[Vote]) -> set[bytes]:
    """Whom these votes convict."""
    return {one.signer for one, other in combinations(votes, 2) if is_conflicting(one, other)}
