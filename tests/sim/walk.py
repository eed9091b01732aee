"""Random walks of a few validators, one of them free to lie, for the model in lock-step.

Not here: networks, disks and clocks that fail as real ones do (the simulator beside this), the
model (model, lockstep). Invariants: one seed is one walk; only keys of this walk sign.
"""

from __future__ import annotations

import random
from typing import Any

from chainlite import keys
from chainlite.consensus import events as e
from chainlite.consensus import messages as m
from chainlite.consensus.validators import NO_PROPOSER, ValidatorSet
from chainlite.errors import SpecError
from chainlite.ledger.block import Block, make_block
from chainlite.ledger.header import (
    Header,
    Seals,
    compute_header_hash,
    compute_seal_digest,
    encode_header,
)
from chainlite.sha2 import sha256
from tests.sim.lockstep import Lockstep
from tests.sim.nearly import Nearly
from tests.sim.words import describe

CHAIN_ID = sha256(b"a walk").digest()
ZERO = bytes(32)
BASE_TIMEOUT_MS = 250


def is_valid(block: Block) -> bool:
    """A ledger's verdict: the header commits to the transactions."""
    return block.header.receipts_root == sha256(b"".join(block.transactions)).digest()


def make_signer(number: int) -> keys.KeyPair:
    return keys.make_key_pair(sha256(b"walker%d" % number).digest())


class Walker:
    """One honest validator: its state, what is on its disk, its timers, its model."""

    def __init__(self, qbft: Any, pair: keys.KeyPair, *, is_observer: bool = False) -> None:
        self.pair = pair
        self.key = None if is_observer else pair
        self.lockstep = Lockstep(CHAIN_ID, None if is_observer else pair.public)
        self.state = qbft.make_state(CHAIN_ID, self.key)
        self.chain: list[tuple[Block, Seals]] = []
        self.recorded = e.Recorded()
        self.inbox: list[m.Message] = []
        self.timer: e.RoundTimeout | None = None
        self.builds: list[e.Build] = []
        self.is_waiting = True


class Walk:
    """Walkers and what may happen to them next."""

    def __init__(self, qbft: Any, seed: int, size: int = 4, lies: float = 0.1) -> None:
        self.qbft = qbft
        self.random = random.Random(seed)
        self.chain_id = CHAIN_ID
        self.pairs = sorted((make_signer(n) for n in range(size)), key=lambda pair: pair.public)
        self.set = ValidatorSet(pair.public for pair in self.pairs)
        self.liar = self.random.randrange(size) if lies else None
        self.lies = lies
        self.now_ms = 1_000_000
        self.genesis = Header(
            0, ZERO, ZERO, ZERO, ZERO, ZERO, self.set.digest, self.now_ms - 5000, NO_PROPOSER
        )
        honest = [pair for place, pair in enumerate(self.pairs) if place != self.liar]
        self.walkers = [Walker(qbft, pair) for pair in honest]
        self.walkers.append(Walker(qbft, make_signer(99), is_observer=True))
        self.said: list[m.Message] = []
        self.blocks: list[Block] = []
        self.trace: list[str] = []
        self.final: dict[int, bytes] = {}
        self.made = 0
        self.nearly = Nearly(self)

    # What happens

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    def step(self) -> None:
        walker = self.random.choice(self.walkers)
        self.now_ms += self.random.choice((0, 0, 1, 5, 20))
        if walker.is_waiting:
            self.feed(walker, self.make_start(walker))
            return
        if self.liar is not None and self.random.random() < self.lies:
            self.lie()
        chance = self.random.random()
        if walker.builds and chance < 0.4:
            build = walker.builds.pop(0)
            block = self.make_block(walker, walker.pair.public, ahead_ms=0)
            self.feed(walker, e.Built(build.round, block))
        elif walker.inbox and chance < 0.85:
            place = self.random.choice((0, self.random.randrange(len(walker.inbox))))
            message = walker.inbox.pop(place)
            if self.random.random() > 0.05:
                self.feed(walker, e.Received(message))
            if self.random.random() < 0.03:
                walker.inbox.append(message)
        elif chance < 0.93:
            self.feed(walker, e.BlockTimeout(self.get_height(walker)))
        elif walker.timer is not None and chance < 0.955:
            self.feed(walker, walker.timer)
        elif chance < 0.965:
            height = max(1, self.get_height(walker) - self.random.randrange(2))
            self.feed(walker, e.RoundTimeout(height, self.random.randrange(3)))
        elif chance < 0.985:
            self.feed(walker, e.Resend())
        elif chance < 0.99 and walker.chain:
            block, seals = self.random.choice(
                self.random.choice(self.walkers).chain or walker.chain
            )
            self.feed(walker, e.Received(m.NewBlock(block, seals)))
        elif chance < 0.995:
            self.restart(walker)

    def restart(self, walker: Walker) -> None:
        observer = walker.key is None
        fresh = Walker(self.qbft, walker.pair, is_observer=observer)
        fresh.chain, fresh.recorded, fresh.inbox = walker.chain, walker.recorded, walker.inbox
        self.walkers[self.walkers.index(walker)] = fresh
        self.trace.append(f"{walker.pair.public.hex()[:8]} restarts")

    def get_height(self, walker: Walker) -> int:
        return len(walker.chain) + 1

    def get_parent(self, walker: Walker) -> tuple[Header, bytes]:
        if walker.chain:
            block = walker.chain[-1][0]
            return block.header, block.hash
        return self.genesis, compute_header_hash(encode_header(self.genesis))

    def make_start(self, walker: Walker) -> e.Start:
        header, block_hash = self.get_parent(walker)
        walker.is_waiting = False
        return e.Start(header, block_hash, self.set, BASE_TIMEOUT_MS, walker.recorded)

    def make_block(self, walker: Walker, proposer: bytes, ahead_ms: int) -> Block:
        header, block_hash = self.get_parent(walker)
        self.made += 1
        transactions = (b"%d" % self.made,)
        time_ms = max(header.timestamp_ms + 1, self.now_ms + ahead_ms)
        root = sha256(b"".join(transactions)).digest()
        made = Header(
            header.height + 1, block_hash, ZERO, ZERO, root, ZERO, ZERO, time_ms, proposer
        )
        return make_block(made, transactions, ())

    # What is done about it

    def feed(self, walker: Walker, event: e.Event) -> None:
        self.trace.append(f"{walker.pair.public.hex()[:8]} {self.now_ms} {describe(event)}")
        del self.trace[:-60]
        now_ms = self.now_ms + (int.from_bytes(walker.pair.public[:1], "big") - 128)
        state, effects = self.qbft.step(walker.state, event, now_ms, is_valid)
        try:
            walker.lockstep.check(event, now_ms, is_valid, state, effects)
        except AssertionError as wrong:
            did = "\n  ".join(repr(effect)[:160] for effect in effects)
            trace = "\n".join(self.trace)
            raise AssertionError(f"{wrong}\ntrace:\n{trace}\neffects:\n  {did}") from wrong
        walker.state = state
        for effect in effects:
            self.do(walker, effect)

    def do(self, walker: Walker, effect: e.Effect) -> None:
        if isinstance(effect, e.Persist):
            old = walker.recorded
            walker.recorded = old._replace(messages=old.messages + effect.messages)
            if effect.block is not None:
                walker.recorded = walker.recorded._replace(
                    block=effect.block, prepares=effect.prepares
                )
        elif isinstance(effect, e.Broadcast):
            self.send(effect.message, walker)
        elif isinstance(effect, e.SetTimer):
            walker.timer = e.RoundTimeout(effect.height, effect.round)
        elif isinstance(effect, e.Build):
            walker.builds.append(effect)
        elif isinstance(effect, e.Append):
            walker.chain.append((effect.block, effect.seals))
            height = effect.block.header.height
            agreed = self.final.setdefault(height, effect.block.hash)
            assert agreed == effect.block.hash, f"two blocks are final at height {height}"
            walker.recorded, walker.builds, walker.timer = e.Recorded(), [], None
            walker.is_waiting = True

    def send(self, message: m.Message, sender: Walker | None) -> None:
        self.said.append(message)
        del self.said[:-200]
        if isinstance(message, m.Proposal):
            self.blocks.append(message.block)
            del self.blocks[:-12]
        for walker in self.walkers:
            if walker is not sender and self.random.random() > 0.03:
                walker.inbox.append(message)
                del walker.inbox[:-60]

    # The one that lies

    def get_liar(self) -> keys.KeyPair:
        assert self.liar is not None
        return self.pairs[self.liar]

    def lie(self) -> None:
        """One message from the validator whose key is the liar's, to some of the others."""
        assert self.liar is not None
        walker = self.random.choice(self.walkers)
        ahead = self.random.choice((0, 0, 0, 0, 1, -1, 2))
        height = max(1, self.get_height(walker) + ahead)
        place = self.random.choice((0, 0, 0, 1, 1, 2, 3))
        message: m.Message | None
        if self.random.random() < 0.5:
            message = self.nearly.make(walker, height)
        else:
            kind = self.random.choice((self.propose, self.vote, self.vote, self.change))
            message = kind(walker, height, place)
        if message is None or not is_readable(message):
            return
        self.said.append(message)
        self.trace.append(f"a lie: {describe(e.Received(message))}")
        for other in self.walkers:
            if self.random.random() < 0.7:
                other.inbox.append(message)

    def sign(self, kind: int, height: int, round: int, digest: bytes, prepared: int) -> m.Vote:
        pair = self.pairs[self.liar or 0]
        return m.sign_vote(pair, CHAIN_ID, kind, height, round, digest, prepared)

    def pick_block(self, walker: Walker) -> Block:
        if self.blocks and self.random.random() < 0.7:
            block = self.random.choice(self.blocks)
        else:
            proposer = self.random.choice(self.pairs).public
            ahead_ms = self.random.choice((0, 0, 0, 1500, 2001, 5000, -9000))
            block = self.make_block(walker, proposer, ahead_ms)
        if self.random.random() < 0.1:
            block = make_block(block.header, (b"other",), ())
        return block

    def collect(self, kind: int, height: int, round: int) -> tuple[m.Vote, ...]:
        """Votes that were really said, perhaps too few, perhaps one of them twice."""
        votes = {vote for said in self.said for vote in m.get_votes(said)}
        place = (kind, height, round)
        chosen = [v for v in votes if (v.kind, v.height, v.round) == place]
        chosen.sort(key=m.encode_vote)
        self.random.shuffle(chosen)
        digest = chosen[0].digest if chosen else b""
        if kind == m.PREPARE:
            chosen = [vote for vote in chosen if vote.digest == digest]
        count = self.set.quorum + self.random.choice((0, 0, 0, 0, 0, -1, 1))
        chosen = chosen[:count]
        if chosen and self.random.random() < 0.1:
            chosen.append(chosen[0])
        return tuple(chosen)

    def propose(self, walker: Walker, height: int, round: int) -> m.Proposal:
        block = self.pick_block(walker)
        changes = self.collect(m.ROUND_CHANGE, height, round) if round else ()
        prepares: tuple[m.Vote, ...] = ()
        if round and self.random.random() < 0.5:
            prepares = self.collect(m.PREPARE, height, self.random.randrange(round))
            for known in self.blocks:
                for vote in prepares[:1]:
                    if compute_seal_digest(CHAIN_ID, known.hash, vote.round) == vote.digest:
                        block = known
        digest = compute_seal_digest(CHAIN_ID, block.hash, round)
        vote = self.sign(m.PROPOSAL, height, round, digest, m.NO_ROUND)
        return m.Proposal(vote, block, changes, prepares)

    def vote(self, walker: Walker, height: int, round: int) -> m.Message:
        block = self.pick_block(walker)
        digest = compute_seal_digest(CHAIN_ID, block.hash, round)
        if self.random.random() < 0.5:
            return m.Prepare(self.sign(m.PREPARE, height, round, digest, m.NO_ROUND))
        return m.Commit(self.sign(m.COMMIT, height, round, digest, m.NO_ROUND))

    def change(self, walker: Walker, height: int, round: int) -> m.RoundChange:
        to = round + self.random.choice((0, 1, 1, 3, 20))
        if self.random.random() < 0.5:
            vote = self.sign(m.ROUND_CHANGE, height, to, m.NO_DIGEST, m.NO_ROUND)
            return m.RoundChange(vote, None, ())
        prepared = self.random.randrange(to + 1)
        block = self.pick_block(walker)
        prepares = self.collect(m.PREPARE, height, prepared)
        digest = compute_seal_digest(CHAIN_ID, block.hash, prepared)
        vote = self.sign(m.ROUND_CHANGE, height, to, digest, prepared)
        return m.RoundChange(vote, block, prepares)


def is_readable(message: m.Message) -> bool:
    """Whether a decoder takes it: a node never sees anything else."""
    try:
        return m.decode_message(m.encode_message(message)) == message
    except SpecError:
        return False
