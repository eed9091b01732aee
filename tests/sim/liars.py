"""Validators that lie: up to f of them, together, with their own keys and all that anyone said.

Not here: honest nodes (node). A Liar runs the protocol too, so that it is where the others are, but
sends what it says to whom it likes; the Coalition of all liars hears every message in the network
at once and, every few ms, does one of the tricks below. Invariants: it signs with its own keys
only; it takes its chances from the run's one random.Random.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainlite.consensus.messages import (
    COMMIT,
    NO_DIGEST,
    NO_ROUND,
    PREPARE,
    PROPOSAL,
    ROUND_CHANGE,
    Commit,
    NewBlock,
    Prepare,
    Proposal,
    RoundChange,
    Vote,
    encode_message,
    sign_vote,
)
from chainlite.ledger.block import make_block
from chainlite.ledger.header import ROUND_MAX, Seals, compute_seal_digest
from tests.sim import near_misses, toychain
from tests.sim.near_misses import STRANGERS
from tests.sim.node import Node

if TYPE_CHECKING:
    from chainlite.consensus.messages import Message
    from chainlite.ledger.block import Block
    from tests.sim.world import World

HEARD_MAX = 400
"""Messages that the coalition remembers."""
FLOOD = 20
TRICK_MS = (3, 60)
"""Between two tricks during the faults; after them ten times as long."""


def make_message(vote: Vote) -> Message:
    """The plain message of a vote: a ROUND-CHANGE that shows nothing."""
    if vote.kind == ROUND_CHANGE:
        return RoundChange(vote, None, ())
    return Prepare(vote) if vote.kind == PREPARE else Commit(vote)


class Liar(Node):
    """Follows the protocol inwardly; what it says, and to whom, is another matter."""

    honest = False

    def broadcast(self, message: Message) -> None:
        world, rng = self.world, self.world.rng
        coalition = world.coalition
        if coalition.silent:
            return None
        if coalition.stopped or coalition.style == "loyal":
            return super().broadcast(message)
        if coalition.style == "silent" and rng.random() < 0.7:
            return None
        is_first = isinstance(message, Proposal) and message.vote.round == 0
        if is_first and coalition.style != "forger" and rng.random() < 0.6:
            assert isinstance(message, Proposal)
            coalition.split_proposal(self, message)
            return None
        if coalition.style == "forger" or rng.random() < 0.2:
            message = coalition.spoil(self, message)
        for number in range(len(world.nodes)):
            if number != self.number and rng.random() < coalition.generosity:
                world.send(self.number, number, encode_message(message))
        return None


class Coalition:
    """All liars of a run, of one mind."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.stopped = not world.plan.liars
        self.silent = False
        rng = world.rng
        self.style = rng.choice(("wild", "wild", "forger", "silent", "loyal"))
        self.generosity = rng.choice((0.3, 0.7, 1.0))
        if world.plan.profile == "forge":
            self.style, self.generosity = "forger", 1.0
        self.heard: list[Message] = []
        self.proposals: list[Proposal] = []
        self.prepares: dict[bytes, dict[bytes, Vote]] = {}
        self.commits: dict[bytes, dict[bytes, Vote]] = {}
        self.changes: dict[tuple[int, int], dict[bytes, RoundChange]] = {}
        self.newest = (1, 0)
        tricks = (
            self._vote_twice,
            self._vote_twice,
            self._change_round,
            self._change_round,
            self._propose,
            self._propose,
            self._replay,
            self._forge_new_block,
            self._forge_new_block,
            self._spoil,
            self._vote_elsewhere,
            self._flood,
            self._swap_body,
            self._lead_round_0,
        )
        self.tricks = [trick for trick in tricks if rng.random() < 0.7] or [self._replay]
        if not self.stopped and self.style != "loyal":
            world.at(rng.randint(*TRICK_MS), self._do_trick)

    def stop(self, *, silent: bool) -> None:
        """From now on they keep to the protocol, as far as they can, or say nothing at all."""
        self.stopped = True
        self.silent = silent

    def learn(self, message: Message) -> None:
        """Hear a message, wherever it goes."""
        if self.stopped:
            return
        if len(self.heard) >= HEARD_MAX:
            del self.heard[: HEARD_MAX // 2]
            del self.proposals[:-20]
        self.heard.append(message)
        if isinstance(message, NewBlock):
            return
        vote = message.vote
        number = self.world.get_number(vote.signer)
        if number is not None and self.world.nodes[number].honest:
            self.newest = max(self.newest, (vote.height, vote.round))
        if isinstance(message, Proposal):
            self.proposals.append(message)
        elif isinstance(message, RoundChange):
            self.changes.setdefault((vote.height, vote.round), {})[vote.signer] = message
        elif isinstance(message, Prepare):
            self.prepares.setdefault(vote.digest, {})[vote.signer] = vote
        else:
            self.commits.setdefault(vote.digest, {})[vote.signer] = vote
        for prepare in getattr(message, "prepares", ()):
            self.prepares.setdefault(prepare.digest, {})[prepare.signer] = prepare

    # Means

    def _do_trick(self) -> None:
        if self.stopped:
            return
        rng = self.world.rng
        self.world.rng.choice(self.tricks)()
        slower = 10 if self.world.healed else 1
        self.world.at(slower * rng.randint(*TRICK_MS), self._do_trick)

    def _pick(self) -> Node:
        return self.world.nodes[self.world.rng.choice(self.world.plan.liars)]

    def _tell(self, liar: Node, message: Message, *, some: float | None = None) -> None:
        """To each other node with some chance."""
        chance = self.world.rng.choice((0.3, 0.6, 1.0)) if some is None else some
        data = encode_message(message)
        self.world.log(liar, "lies", message)
        for number in range(len(self.world.nodes)):
            if number != liar.number and self.world.rng.random() < chance:
                self.world.send(liar.number, number, data)

    def _sign(
        self,
        liar: Node,
        kind: int,
        height: int,
        round: int,
        digest: bytes,
        prepared_round: int = NO_ROUND,
    ) -> Vote:
        return sign_vote(liar.key, toychain.CHAIN_ID, kind, height, round, digest, prepared_round)

    def _pick_round(self) -> int:
        rng, (_, newest) = self.world.rng, self.newest
        near = (newest, newest + 1, newest + 1, max(0, newest - 1), newest + 2)
        far = (0, newest + 20, 2**31, ROUND_MAX)
        return rng.choice(near) if rng.random() < 0.85 else rng.choice(far)

    def _make_block(self, liar: Node) -> Block:
        """A block of its own, mostly right."""
        rng, ledger = self.world.rng, liar.ledger
        now_ms = toychain.EPOCH_MS + self.world.now_ms
        waiting = liar.pool.take()[rng.randint(0, 1) :]
        time_ms = now_ms - rng.randrange(300)
        block = self.world.chain.build(ledger, waiting, time_ms, liar.key.public)
        header = block.header
        fault = rng.randrange(12)
        if fault == 0:
            header = header._replace(previous=rng.randbytes(32))
        elif fault == 1:
            header = header._replace(timestamp_ms=now_ms + rng.choice((4_000, 3_600_000)))
        elif fault == 2:
            header = header._replace(timestamp_ms=ledger.header.timestamp_ms)
        elif fault == 3:
            header = header._replace(proposer=rng.choice(ledger.validators.keys))
        elif fault == 4:
            header = header._replace(next_validators=rng.randbytes(32))
        elif fault == 5:
            header = header._replace(height=header.height + rng.choice((-1, 1)))
        elif fault == 6:
            return make_block(header, (*block.transactions, b"a0:0"), block.poh)
        elif fault == 7:
            header = header._replace(proposer=rng.randbytes(32))
        return make_block(header, block.transactions, block.poh)

    def make_plain_block(self, liar: Node) -> Block:
        """A block of its own that is right."""
        ledger = liar.ledger
        now_ms = toychain.EPOCH_MS + self.world.now_ms - self.world.rng.randrange(200)
        return self.world.chain.build(ledger, liar.pool.take(), now_ms, liar.key.public)

    def spoil(self, liar: Node, message: Message) -> Message:
        """The message with one thing wrong, or as it is."""
        rng = self.world.rng
        means = near_misses.Means(liar, self, rng)
        if isinstance(message, Proposal) and rng.random() < 0.9:
            spoilt = near_misses.spoil_proposal(means, message)
            self.learn(spoilt)
            self.world.log(liar, "forges", spoilt)
            return spoilt
        if isinstance(message, RoundChange) and rng.random() < 0.7:
            self.world.log(liar, "forges", message)
            return near_misses.spoil_round_change(means, message)
        return message

    def split_proposal(self, liar: Node, message: Proposal) -> None:
        """Two blocks in one round: each half of the others is told of one, with votes for it."""
        rng = self.world.rng
        vote = message.vote
        side = [rng.randrange(2) for _ in self.world.nodes]
        for half in range(2):
            block = message.block if half == 0 else self._make_block(liar)
            digest = compute_seal_digest(toychain.CHAIN_ID, block.hash, vote.round)
            said: list[Message] = [
                Proposal(
                    self._sign(liar, PROPOSAL, vote.height, vote.round, digest),
                    block,
                    message.round_changes,
                    message.prepares,
                )
            ]
            for other in self.world.plan.liars:
                friend = self.world.nodes[other]
                prepare = self._sign(friend, PREPARE, vote.height, vote.round, digest)
                commit = self._sign(friend, COMMIT, vote.height, vote.round, digest)
                said += [Prepare(prepare), Commit(commit)]
            for word in said:
                data = encode_message(word)
                for number in range(len(self.world.nodes)):
                    if number != liar.number and side[number] == half:
                        self.world.send(liar.number, number, data)

    # Tricks

    def _vote_twice(self) -> None:
        """Prepare and commit whatever anyone proposed lately, to some."""
        rng = self.world.rng
        for proposal in self.proposals[-3:]:
            vote = proposal.vote
            for number in self.world.plan.liars:
                liar = self.world.nodes[number]
                if rng.random() < 0.7:
                    prepare = self._sign(liar, PREPARE, vote.height, vote.round, vote.digest)
                    self._tell(liar, Prepare(prepare))
                if rng.random() < 0.7:
                    commit = self._sign(liar, COMMIT, vote.height, vote.round, vote.digest)
                    self._tell(liar, Commit(commit))

    def _find_prepared(self, height: int) -> list[tuple[Proposal, tuple[Vote, ...]]]:
        """Proposals of a height with all prepares that exist for them, own ones made up."""
        found = []
        for proposal in self.proposals:
            vote = proposal.vote
            if vote.height != height:
                continue
            prepares = dict(self.prepares.get(vote.digest, {}))
            for number in self.world.plan.liars:
                liar = self.world.nodes[number]
                prepares[liar.key.public] = self._sign(
                    liar, PREPARE, height, vote.round, vote.digest
                )
            found.append((proposal, tuple(prepares.values())))
        return found

    def _make_claim(
        self, liar: Node, height: int
    ) -> tuple[int, bytes, Block | None, tuple[Vote, ...]]:
        """Prepared round, digest, block and prepares: true, relabelled, too short, doubled."""
        rng = self.world.rng
        found = self._find_prepared(height)
        if not found or rng.random() < 0.25:
            return NO_ROUND, NO_DIGEST, None, ()
        proposal, prepares = rng.choice(found[-4:])
        quorum = liar.ledger.validators.quorum
        claimed, digest, block = proposal.vote.round, proposal.vote.digest, proposal.block
        prepares = prepares[-quorum:]
        fault = rng.randrange(10)
        if fault == 0:  # the same prepares, said to be of a later round
            claimed = claimed + rng.randint(1, 2)
            digest = compute_seal_digest(toychain.CHAIN_ID, block.hash, claimed)
        elif fault == 1:
            prepares = prepares[: quorum - 1]
        elif fault == 2:
            prepares = (*prepares[: quorum - 1], *prepares[:1])
        elif fault == 3:  # another block than was prepared
            block = self._make_block(liar)
        elif fault == 4:
            block = self._make_block(liar)
            digest = compute_seal_digest(toychain.CHAIN_ID, block.hash, claimed)
        elif fault == 5:  # its own word, as often as a quorum
            block = self._make_block(liar)
            digest = compute_seal_digest(toychain.CHAIN_ID, block.hash, claimed)
            mine = self._sign(liar, PREPARE, height, claimed, digest)
            prepares = (mine,) * quorum
        elif fault == 6:  # prepared by strangers
            block = self._make_block(liar)
            digest = compute_seal_digest(toychain.CHAIN_ID, block.hash, claimed)
            prepares = self._sign_by_strangers(PREPARE, height, claimed, digest, quorum)
        elif fault == 7:  # in the others' names, not by them
            block = self._make_block(liar)
            digest = compute_seal_digest(toychain.CHAIN_ID, block.hash, claimed)
            prepares = tuple(
                Vote(PREPARE, height, claimed, digest, NO_ROUND, key, rng.randbytes(64))
                for key in liar.ledger.validators.keys[:quorum]
            )
        return claimed, digest, block, prepares

    def _sign_by_strangers(
        self, kind: int, height: int, round: int, digest: bytes, count: int
    ) -> tuple[Vote, ...]:
        return tuple(
            sign_vote(STRANGERS[number], toychain.CHAIN_ID, kind, height, round, digest)
            for number in range(count)
        )

    def _change_round(self) -> None:
        """A ROUND-CHANGE to a near or far round, with a claim that is true or not."""
        liar, (height, _) = self._pick(), self.newest
        target, (prepared, digest, block, prepares) = (
            self._pick_round(),
            self._make_claim(liar, height),
        )
        vote = self._sign(liar, ROUND_CHANGE, height, target, digest, prepared)
        self._tell(liar, RoundChange(vote, block, prepares))

    def _propose(self) -> None:
        """As a leader of a later round, or as none: the wrong block, or the wrong reasons."""
        rng, (height, newest) = self.world.rng, self.newest
        liar = self._pick()
        if liar.ledger.height != height:
            return
        validators, parent = liar.ledger.validators, liar.ledger.header
        target = rng.choice((newest, newest + 1, newest + 2))
        leaders = [
            node
            for node in (self.world.nodes[number] for number in self.world.plan.liars)
            if node.key.public == validators.get_proposer(parent.proposer, target)
        ]
        if leaders:
            liar = leaders[0]
        elif rng.random() < 0.8:
            return
        known = dict(self.changes.get((height, target), {}))
        votes = [change.vote for change in known.values() if change.vote.signer != liar.key.public]
        mine = self._sign(liar, ROUND_CHANGE, height, target, NO_DIGEST)
        # Those who prepared nothing first: perhaps they are a quorum, with a lie or two.
        votes.sort(key=lambda vote: vote.prepared_round != NO_ROUND)
        changes = [mine, *votes][: validators.quorum]
        block, prepares = self._make_block(liar), ()
        fault = rng.randrange(10)
        if fault == 0:
            changes = changes[: validators.quorum - 1]
        elif fault == 1:
            changes = [mine] * validators.quorum
        elif fault == 2:  # who came to an earlier round, or to this one at an earlier height
            other = rng.choice(((height, max(0, target - 1)), (height - 1, target)))
            older = self.changes.get(other, {})
            changes = [mine, *(c.vote for c in older.values())][: validators.quorum]
        elif fault == 9:
            changes = [
                Vote(ROUND_CHANGE, height, target, NO_DIGEST, NO_ROUND, key, rng.randbytes(64))
                for key in validators.keys[: validators.quorum]
            ]
        elif fault == 3:
            changes = [
                *changes[:-1],
                *self._sign_by_strangers(
                    ROUND_CHANGE, height, target, NO_DIGEST, validators.quorum
                ),
            ][: validators.quorum]
        else:
            claim = self._make_claim(liar, height)
            changes, block, prepares = self._reason(liar, fault, height, target, votes, claim)
        digest = compute_seal_digest(toychain.CHAIN_ID, block.hash, target)
        if rng.random() < 0.05:
            digest = rng.randbytes(32)
        proposal = Proposal(
            self._sign(liar, PROPOSAL, height, target, digest), block, tuple(changes), prepares
        )
        self.learn(proposal)
        self._tell(liar, proposal)
        self._tell(liar, Prepare(self._sign(liar, PREPARE, height, target, digest)))

    def _reason(
        self,
        liar: Node,
        fault: int,
        height: int,
        round: int,
        votes: list[Vote],
        claim: tuple[int, bytes, Block | None, tuple[Vote, ...]],
    ) -> tuple[list[Vote], Block, tuple[Vote, ...]]:
        """A quorum with the liar's own claim in it; the block claimed, or another all the same."""
        prepared, digest, block, prepares = claim
        quorum = liar.ledger.validators.quorum
        mine = self._sign(liar, ROUND_CHANGE, height, round, digest, prepared)
        others = [vote for vote in votes if vote.signer != liar.key.public]
        if fault % 2:
            others.reverse()
        changes = [mine, *others][:quorum]
        if fault in (4, 5) or block is None:
            honest = [p.block for p in self.proposals if p.vote.height == height]
            block = self.world.rng.choice([*honest[-2:], self._make_block(liar)])
        if fault == 8:
            prepares = ()
        return changes, block, prepares

    def _replay(self) -> None:
        """Something old, again, to whomever."""
        if self.heard:
            self._tell(self._pick(), self.world.rng.choice(self.heard))

    def _forge_new_block(self) -> None:
        """A block with seals that are too few, of another round, or no seals at all."""
        rng, liar = self.world.rng, self._pick()
        if not self.proposals:
            return
        proposal = rng.choice(self.proposals[-4:])
        vote, validators = proposal.vote, liar.ledger.validators
        seals = {key: v.signature for key, v in self.commits.get(vote.digest, {}).items()}
        for number in self.world.plan.liars:
            friend = self.world.nodes[number]
            commit = self._sign(friend, COMMIT, vote.height, vote.round, vote.digest)
            seals[friend.key.public] = commit.signature
        fault = rng.randrange(6)
        if fault == 0:  # prepares in place of commits
            for key, prepare in self.prepares.get(vote.digest, {}).items():
                seals.setdefault(key, prepare.signature)
        elif fault == 1:
            for key in validators.keys[: validators.quorum]:
                seals.setdefault(key, rng.randbytes(64))
        enough = {2: validators.quorum - 1, 3: validators.weak_quorum}.get(fault, validators.size)
        signers = [key for key in validators.keys if key in seals][:enough]
        bitmap = validators.encode_bitmap(signers)
        signatures = tuple(seals[key] for key in signers)
        if fault == 4:  # one bit, many signatures' worth
            bitmap = bytes([0xFF]) * len(bitmap)
            signatures = tuple((signatures * 8)[: 8 * len(bitmap)])
        block = self._make_block(liar) if rng.random() < 0.2 else proposal.block
        sealed_in = vote.round + (1 if rng.random() < 0.1 else 0)
        self._tell(liar, NewBlock(block, Seals(sealed_in, bitmap, signatures)))

    def _swap_body(self) -> None:
        """A message whose block has the right header and other transactions."""
        found = [m for m in self.heard[-40:] if getattr(m, "block", None) is not None]
        if not found:
            return
        rng, message = self.world.rng, self.world.rng.choice(found)
        block = message.block
        transactions = (*block.transactions[rng.randint(0, 1) :], b"a1:%d" % rng.randrange(10**6))
        other = make_block(block.header, transactions, block.poh)
        self._tell(self._pick(), message._replace(block=other))

    def _spoil(self) -> None:
        """Bytes of a message, changed: garbage, or a message with another field."""
        if not self.heard:
            return
        rng, liar = self.world.rng, self._pick()
        data = bytearray(encode_message(rng.choice(self.heard)))
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        if not data.startswith(b"poll"):
            self.world.send(liar.number, rng.randrange(len(self.world.nodes)), bytes(data))

    def _vote_elsewhere(self) -> None:
        """Votes at other heights and rounds, or as somebody who has no vote."""
        rng, (height, _) = self.world.rng, self.newest
        liar = self._pick()
        strange = rng.random() < 0.3
        forged = rng.random() < 0.3
        for number in range(rng.randint(1, 8)):
            kind = rng.choice((PREPARE, COMMIT, ROUND_CHANGE))
            at = max(0, height + rng.choice((-2, -1, 0, 0, 1, 1, 2, 1_000)))
            digest = NO_DIGEST if kind == ROUND_CHANGE else rng.randbytes(32)
            key = STRANGERS[number] if strange else liar.key
            vote = sign_vote(key, toychain.CHAIN_ID, kind, at, self._pick_round(), digest)
            if forged and self.proposals:
                vote = self._forge_vote(liar)
            self._tell(liar, make_message(vote), some=0.4)

    def _forge_vote(self, liar: Node) -> Vote:
        """A vote for what was proposed last, in another's name."""
        rng, last = self.world.rng, self.proposals[-1].vote
        key = rng.choice(liar.ledger.validators.keys)
        kind = rng.choice((PREPARE, PREPARE, COMMIT, ROUND_CHANGE))
        digest = NO_DIGEST if kind == ROUND_CHANGE else last.digest
        return Vote(kind, last.height, last.round, digest, NO_ROUND, key, rng.randbytes(64))

    def _flood(self) -> None:
        """Many votes of one kind at one height, each in a round of its own, to one node."""
        rng, (height, _) = self.world.rng, self.newest
        liar, kind = self._pick(), rng.choice((PREPARE, COMMIT, ROUND_CHANGE))
        victim, at = rng.randrange(len(self.world.nodes)), height + rng.randint(0, 1)
        digest = NO_DIGEST if kind == ROUND_CHANGE else rng.randbytes(32)
        for _ in range(FLOOD):
            vote = self._sign(liar, kind, at, rng.randrange(2**20), digest)
            self.world.send(liar.number, victim, encode_message(make_message(vote)))

    def _lead_round_0(self) -> None:
        """A proposal of round 0 out of turn, or a second one, or with reasons that it needs not."""
        rng, (height, _) = self.world.rng, self.newest
        liar = self._pick()
        if liar.ledger.height != height:
            return
        block = self._make_block(liar)
        digest = compute_seal_digest(toychain.CHAIN_ID, block.hash, 0)
        changes = tuple(c.vote for c in self.changes.get((height, 1), {}).values())
        vote = self._sign(liar, PROPOSAL, height, 0, digest)
        proposal = Proposal(vote, block, changes if rng.random() < 0.2 else (), ())
        self.learn(proposal)
        self._tell(liar, proposal)
        self._tell(liar, Prepare(self._sign(liar, PREPARE, height, 0, digest)))
