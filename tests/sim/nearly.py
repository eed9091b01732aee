"""Messages of one that lies which would be right but for one thing: what a checker must look at.

Not here: votes without sense (walk). A third of what is made is right in all: the liar is a
validator, and what he says in his turn must be taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainlite.consensus import messages as m
from chainlite.ledger.block import Block, make_block
from chainlite.ledger.header import compute_seal_digest

if TYPE_CHECKING:
    from tests.sim.walk import Walk, Walker

Votes = tuple[m.Vote, ...]


class Nearly:
    """Makes them out of what was really said."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self.random = walk.random

    def make(self, walker: Walker, height: int) -> m.Message | None:
        """A proposal or a round change for this height, if enough was said for one."""
        if self.random.random() < 0.5:
            return self.propose(walker, height)
        return self.change(walker, height)

    def spoil(self, votes: Votes) -> Votes:
        """One too few, one twice, one of another, or as they are."""
        if not votes:
            return votes
        place = self.random.randrange(len(votes))
        odd = [
            votes[:place] + votes[place + 1 :],
            (*votes, votes[place]),
            (*votes[:place], votes[place - 1], *votes[place + 1 :]),
            (*votes[:place], self.resign(votes[place]), *votes[place + 1 :]),
        ]
        return self.random.choice(odd)

    def resign(self, vote: m.Vote) -> m.Vote:
        """The same by the liar, in another round or for another block."""
        changed = self.random.choice((0, 1, 2))
        other = vote.round + 1 if changed == 0 else vote.round
        digest = bytes(32) if changed == 1 else vote.digest
        height = vote.height + 1 if changed == 2 else vote.height
        return self.walk.sign(vote.kind, height, other, digest, vote.prepared_round)

    def get_block(self, digest: bytes, sealed_in: int) -> Block | None:
        for block in self.walk.blocks:
            if compute_seal_digest(self.walk.chain_id, block.hash, sealed_in) == digest:
                return block
        return None

    def get_changes(self, height: int) -> dict[int, dict[bytes, m.RoundChange]]:
        """By round and signer what was said of going there."""
        found: dict[int, dict[bytes, m.RoundChange]] = {}
        for said in self.walk.said:
            if isinstance(said, m.RoundChange) and said.vote.height == height:
                found.setdefault(said.vote.round, {})[said.vote.signer] = said
        return found

    def propose(self, walker: Walker, height: int) -> m.Proposal | None:
        walk = self.walk
        liar, parent = walk.get_liar(), walk.get_parent(walker)[0]
        for number, changes in sorted(self.get_changes(height).items(), reverse=True):
            if walk.set.get_proposer(parent.proposer, number) != liar.public:
                continue
            chosen = list(changes.values())
            self.random.shuffle(chosen)
            chosen = chosen[: walk.set.quorum]
            if len(chosen) == walk.set.quorum:
                return self.propose_in(walker, height, number, chosen)
        return None

    def propose_in(
        self, walker: Walker, height: int, number: int, chosen: list[m.RoundChange]
    ) -> m.Proposal:
        walk = self.walk
        changes: Votes = tuple(said.vote for said in chosen)
        prepared = [said for said in chosen if said.block is not None]
        prepared.sort(key=lambda said: said.vote.prepared_round)
        block = walk.make_block(walker, walk.get_liar().public, ahead_ms=0)
        prepares: Votes = ()
        if prepared:
            best = self.random.choice((prepared[-1], prepared[-1], prepared[0]))
            assert best.block is not None
            block, prepares = best.block, best.prepares
        part = self.random.randrange(9)
        if part == 0:
            changes = self.spoil(changes)
        elif part == 1:
            prepares = self.spoil(prepares)
        elif part == 2:
            block = walk.pick_block(walker)
        elif part == 3:
            block = make_block(block.header, (b"other",), ())
        elif part == 4:
            prepares = ()
        elif part == 5:
            ahead_ms = self.random.choice((-90_000, 2500, 9000))
            block = walk.make_block(walker, walk.get_liar().public, ahead_ms)
        sealed = number + 1 if part == 6 and self.random.random() < 0.5 else number
        digest = compute_seal_digest(walk.chain_id, block.hash, sealed)
        vote = walk.sign(m.PROPOSAL, height, number, digest, m.NO_ROUND)
        walk.blocks.append(block)
        return m.Proposal(vote, block, changes, prepares)

    def change(self, walker: Walker, height: int) -> m.RoundChange | None:
        """A round change with a quorum that really prepared, which the liar may complete."""
        walk = self.walk
        groups: dict[tuple[int, bytes], dict[bytes, m.Vote]] = {}
        for said in walk.said:
            for vote in m.get_votes(said):
                if vote.kind == m.PREPARE and vote.height == height:
                    groups.setdefault((vote.round, vote.digest), {})[vote.signer] = vote
        for (number, digest), votes in sorted(groups.items(), reverse=True):
            block = self.get_block(digest, number)
            if block is None or len(votes) + 1 < walk.set.quorum:
                continue
            own = walk.sign(m.PREPARE, height, number, digest, m.NO_ROUND)
            chosen = list((votes | {own.signer: own}).values())
            self.random.shuffle(chosen)
            return self.change_with(walker, block, tuple(chosen[: walk.set.quorum]))
        return None

    def change_with(self, walker: Walker, block: Block, prepares: Votes) -> m.RoundChange:
        walk, first = self.walk, prepares[0]
        to = first.round + self.random.choice((1, 1, 1, 2, 0))
        digest, prepared, shown = first.digest, first.round, block
        part = self.random.randrange(7)
        if part == 0:
            prepares = self.spoil(prepares)
        elif part == 1:
            shown = make_block(block.header, (b"other",), ())
        elif part == 2:
            shown = walk.pick_block(walker)
        elif part == 3:
            prepared += 1
            digest = compute_seal_digest(walk.chain_id, block.hash, prepared)
        elif part == 4:
            prepares = ()
        vote = walk.sign(m.ROUND_CHANGE, first.height, to, digest, prepared)
        return m.RoundChange(vote, shown, prepares)
