"""A validator or a follower at work: the step function, driven by a clock, a disk and a network.

Not here: the rules (qbft), transactions on their way in (intake), how laggards are led (following),
who makes the parts (the composition root: docklock.agent and the command line). All of it belongs
to one event loop. Invariants: effects are done one after another, and one that fails holds all
after it until it succeeds, so no vote is sent that is not on disk and no height begins whose parent
is not; a node that sees a quorum behind two histories, or behind what does not follow from its
state, halts and says so. Source: README.md of this room, "A node".
"""

from __future__ import annotations

import asyncio
from collections import deque

from chainlite import keys
from chainlite.consensus import qbft
from chainlite.consensus.equivocation import encode_equivocation
from chainlite.consensus.events import (
    Accuse,
    Append,
    BlockTimeout,
    Broadcast,
    Build,
    Built,
    Lagging,
    Persist,
    Received,
    Resend,
    RoundTimeout,
    SetTimer,
    Start,
)
from chainlite.consensus.following import Following, is_body_of
from chainlite.consensus.intake import Intake
from chainlite.consensus.messages import (
    Commit,
    NewBlock,
    Prepare,
    Proposal,
    decode_message,
    encode_message,
    get_votes,
    is_vote_signed,
)
from chainlite.consensus.pace import Pace
from chainlite.consensus.wire import (
    Verdict,
)
from chainlite.errors import PeerError, SpecError, StateError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.ledger import operations as ops
from chainlite.ledger.tx import sign_tx
from chainlite.net.transport import Channel, PeerId

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chainlite.consensus.equivocation import Equivocation
    from chainlite.consensus.events import Effect, Event
    from chainlite.consensus.messages import Message, Vote
    from chainlite.consensus.validators import ValidatorSet
    from chainlite.consensus.wal import VoteLog
    from chainlite.ledger.block import Block
    from chainlite.ledger.header import Seals
    from chainlite.ledger.state import Executed
    from chainlite.ledger.store import Store
    from chainlite.net.transport import Transport

GATHER_MS = 20
"""Between the times of two blocks with transactions: what comes meanwhile shares the next one."""
RETRY_S = 0.5
"""What the disk did not take is tried again after so long."""
VERDICTS_MAX = 64
"""Verdicts on blocks of one height that are kept; the oldest goes, and is found again if asked.

Never a refusal: who offers many false blocks would keep out the true one that comes after them.
"""
CHECKED_MAX = 4_096
"""Votes of one height whose signatures are remembered."""
LEAD_EVERY_S = 0.1
"""How often one laggard is sent a block that it did not ask for."""
EVENTS_MAX = 10_000
ACCUSED_KEPT = 64
HASHES_KEPT = 1_024
"""Hashes of final blocks at hand: every peer tells of each height."""


class Parts(NamedTuple):
    """What a node is made of; `votes` is None for one that only follows."""

    store: Store
    transport: Transport
    votes: VoteLog | None


class Node:
    """One node of one chain."""

    def __init__(
        self, parts: Parts, key: keys.Signer | None, get_now_ms: Callable[[], int]
    ) -> None:
        """`key` is the validator's; `get_now_ms` is Unix time."""
        self.store, self.transport, self._votes = parts
        self.ledger = self.store.ledger
        self._key = key
        self._get_now_ms = get_now_ms
        self._state = qbft.make_state(self.ledger.chain_id, key)
        self._events: deque[Event] = deque()
        self._effects: deque[Effect] = deque()
        self._judged: dict[bytes, Executed | None] = {}
        self._checked: set[Vote] = set()
        self._pace = Pace()
        self._round_ms = 0
        self._led: dict[bytes, float] = {}
        self._hashes: dict[int, bytes] = {}
        self._stale = False
        self._gathers = False
        self._unarmed: SetTimer | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._busy = False
        self.waits_for = ""
        """Why nothing goes on just now: a disk that is full."""
        self.halted = ""
        """Why nothing ever goes on: more than f validators lied, or this state is wrong."""
        self.accused: deque[Equivocation] = deque(maxlen=ACCUSED_KEPT)
        self.on_block: Callable[[Executed, Seals], None] = lambda _, __: None
        self.intake = Intake(self.ledger, self.transport, self._upon_ready, get_now_ms)
        self.mempool = self.intake.mempool
        self.following = Following(self)

    # Life

    def start(self) -> None:
        """Take part, from the last block on disk; the transport is started by its owner."""
        self.transport.listen(Channel.CONSENSUS, self._upon_consensus)
        self.transport.watch(self._upon_up, lambda _: None)
        self.intake.start()
        self.following.start()
        self._begin(recover=True)

    def begin_voting(self, key: keys.Signer, votes: VoteLog) -> None:
        """From now on vote with this key; not from within an event. TamperError: votes are spoilt.

        For who was made without a key, and has found that it is not behind its own votes.
        """
        self._key, self._votes = key, votes
        self._state = qbft.make_state(self.ledger.chain_id, key)
        self._events.clear()
        self._effects.clear()
        self._begin(recover=True)

    def close(self) -> None:
        """No more is done; what is on disk is whole at any moment."""
        for timer in self._timers.values():
            timer.cancel()
        self.halted = self.halted or "closed"
        self.intake.close()

    def halt(self, why: str) -> None:
        """Say why, and vote no more."""
        self.close()
        self.halted = why

    @property
    def height(self) -> int:
        """That of the last final block."""
        return self.ledger.height

    @property
    def round(self) -> int:
        """The round of the height being decided."""
        return self._state.round

    @property
    def validators(self) -> ValidatorSet:
        """Those of the height being decided."""
        return self.ledger.get_validators(self.ledger.height + 1)

    @property
    def public(self) -> bytes:
        """This node's key as a validator; none for one that only follows."""
        return self._key.public if self._key is not None else b""

    @property
    def is_voter(self) -> bool:
        """Whether it is a validator of the height being decided."""
        return self.public in self.validators

    def get_base_timeout_ms(self) -> int:
        """Round 0's timeout now."""
        return self._pace.compute_base_timeout_ms(self.ledger.parameters.base_timeout_ms)

    def get_durations_ms(self) -> list[int]:
        """How long the rounds that decided the last heights took."""
        return self._pace.get_durations_ms()

    # Events in

    def feed(self, event: Event) -> None:
        """One event, and all that follows from it."""
        if self.halted or len(self._events) >= EVENTS_MAX:
            return
        self._events.append(event)
        self._work()

    def _work(self) -> None:
        if self._busy or self.waits_for or self.halted:
            return
        self._busy = True
        try:
            while not self.halted and (self._effects or self._events):
                if not self._effects:
                    event = self._events.popleft()
                    self._state, effects = qbft.step(
                        self._state, event, self._get_now_ms(), self.is_valid
                    )
                    self._effects.extend(effects)
                    continue
                try:
                    self._do(self._effects[0])
                except StateError as error:
                    self._wait(error)
                    return
                self._effects.popleft()
            self._arm()
        finally:
            self._busy = False

    def _wait(self, error: StateError) -> None:
        """The disk did not take it: nothing after it may happen, so all waits for the disk."""
        self.waits_for = str(error)
        self._set_timer("retry", RETRY_S, self._retry)

    def _retry(self) -> None:
        self.waits_for = ""
        self._work()

    def _upon_consensus(self, _: PeerId, __: Channel, payload: bytes) -> None:
        try:
            message = decode_message(payload)
            self.receive(message)
        except SpecError as error:
            raise PeerError(str(error)) from None
        block = None if isinstance(message, Prepare | Commit) else message.block
        if block is not None and self._is_false(block):
            raise PeerError("a block that does not follow from the state here")

    def _is_false(self, block: Block) -> bool:
        """Whether it was judged at this height, and does not follow."""
        return block.encoded in self._judged and self._judged[block.encoded] is None

    def receive(self, message: Message) -> None:
        """A message from outside; SpecError if it is not signed as it says."""
        if isinstance(message, NewBlock):
            if message.block.header.height == self.height + 1:
                self.feed(Received(message))
            return
        if not self._is_wanted(message.vote):
            return
        if isinstance(message, Proposal) and self._is_ahead_and_wrong(message):
            raise SpecError("a proposal whose block has other transactions than its header")
        for vote in get_votes(message):
            if vote in self._checked:
                continue
            if not is_vote_signed(vote, self.ledger.chain_id):
                raise SpecError(f"a vote that {vote.signer.hex()[:16]} did not sign")
            if len(self._checked) < CHECKED_MAX:
                self._checked.add(vote)
        self.feed(Received(message))

    def _is_ahead_and_wrong(self, proposal: Proposal) -> bool:
        """Of the next height no state can judge a block yet; its header can."""
        is_ahead = proposal.vote.height > self.height + 1
        return is_ahead and not is_body_of(proposal.block, self.intake.find)

    def _is_wanted(self, vote: Vote) -> bool:
        """Whether a step would look at it: dropped before its signatures cost anything."""
        if vote.signer not in self.validators or self.waits_for or self.halted:
            return False
        if vote.height <= self.height:
            self._lead(vote.signer, vote.height)
            return False
        known = self._state.inbox.get((vote.kind, vote.round, vote.signer))
        return not (vote.height == self.height + 1 and known and known.vote == vote)

    # Effects

    def _do(self, effect: Effect) -> None:
        if isinstance(effect, Broadcast):
            self._broadcast(effect.message)
        elif isinstance(effect, Persist):
            if self._votes is not None:
                self._votes.write(effect)
        elif isinstance(effect, SetTimer):
            self._cancel_timer("round")
            self._unarmed, self._round_ms = effect, self._get_now_ms()
            self._set_resend()
        elif isinstance(effect, Append):
            self._append(effect.block, effect.seals)
        elif isinstance(effect, Build):
            self._build(effect)
        elif isinstance(effect, Lagging):
            self._lead(effect.signer, effect.height)
        elif isinstance(effect, Accuse):
            self._accuse(effect)

    def _broadcast(self, message: Message) -> None:
        payload = encode_message(message)
        for peer in self.transport.peers():
            if peer in self.validators:
                self.transport.send(peer, Channel.CONSENSUS, payload)

    def _build(self, effect: Build) -> None:
        parent = self.ledger.head
        time_ms = max(self._get_now_ms(), parent.timestamp_ms + 1)
        assert self._key is not None
        waiting = self.mempool.take(self.ledger.parameters.registrations_per_block)
        block, executed = self.ledger.propose(parent, time_ms, self._key.public, waiting)
        self.mempool.remove(executed.refused)
        self._stale = not block.transactions
        self._judged[block.encoded] = executed
        self._events.appendleft(Built(effect.round, block))

    def is_valid(self, block: Block) -> bool:
        """Whether a block follows from this state; judged once, by its bytes."""
        if block.encoded in self._judged:
            return self._judged[block.encoded] is not None
        while len(self._judged) >= VERDICTS_MAX:
            del self._judged[next(iter(self._judged))]
        try:
            executed = self.ledger.check(block, self.intake.find)
            self.intake.note_signed(executed.txs)
        except SpecError:
            executed = None
        self._judged[block.encoded] = executed
        return executed is not None

    def _append(self, block: Block, seals: Seals) -> None:
        """Final: the disk first, then the state, then the next height."""
        executed = self._judged.get(block.encoded) or self.ledger.check(block, self.intake.find)
        self.store.append(executed, seals)
        self.intake.upon_block(executed.txs)
        if seals.round == self._state.round:  # what earlier rounds waited in vain says nothing
            self._pace.note(self._get_now_ms() - self._round_ms)
        self._hashes[self.height] = block.hash
        self._hashes.pop(self.height - HASHES_KEPT, None)
        self.following.tell()
        self.on_block(executed, seals)
        self._begin(recover=False)

    def _begin(self, *, recover: bool) -> None:
        """The height after the ledger's begins."""
        for name in ("round", "resend", "due"):
            self._cancel_timer(name)
        self._unarmed = None
        self._judged.clear()
        self._checked.clear()
        ledger = self.ledger
        start = Start(ledger.head, ledger.head_hash, self.validators, self.get_base_timeout_ms())
        if self._votes is not None:
            if recover:
                start = start._replace(recorded=self._votes.read(self.height + 1))
            else:
                self._votes.begin(self.height + 1)
        self._events.appendleft(start)
        self._schedule()
        self._work()

    def _upon_up(self, _: PeerId) -> None:
        """Who comes may lack what was said while it was away."""
        if self._state.timer_runs:
            self.feed(Resend())

    def _lead(self, signer: bytes, height: int) -> None:
        """Send a laggard the block of the height at which it still votes; not too often."""
        now = asyncio.get_running_loop().time()
        if now >= self._led.get(signer, 0) and self.store.base < height <= self.height:
            self._led[signer] = now + LEAD_EVERY_S
            payload = encode_message(self.read(height))
            self.transport.send(PeerId(signer), Channel.CONSENSUS, payload)

    # What is final

    def read(self, height: int) -> NewBlock:
        """A final block and its seals."""
        block, seals = self.store.get_block(height)
        assert seals is not None
        return NewBlock(block, seals)

    def get_hash(self, height: int) -> bytes:
        """The hash of the final block of a height, at most this node's."""
        if height == self.height:
            return self.ledger.head_hash
        recent = self._hashes.get(height)
        return self.store.get_block(height)[0].hash if recent is None else recent

    def find_validators(self, height: int) -> ValidatorSet | None:
        """The validators of a final height, if they are those of the last one or of the next."""
        digest = self.store.get_block(height - 1)[0].header.next_validators
        known = (self.ledger.get_validators(self.height), self.validators)
        return next((validators for validators in known if validators.digest == digest), None)

    def get_fault(self, block: Block) -> str:
        """Why a block does not follow from the state here; empty if it does."""
        try:
            self.ledger.check(block, self.intake.find)
        except SpecError as error:
            return str(error)
        return ""

    # Time

    def _schedule(self) -> None:
        """A block is due when the interval is over; where a transaction waits, GATHER_MS are."""
        after_ms = self.ledger.parameters.block_interval_ms
        self._gathers = self.mempool.is_ready() and not self._stale
        if self._gathers:
            after_ms = min(after_ms, GATHER_MS)
        wait_ms = self.ledger.head.timestamp_ms + after_ms - self._get_now_ms()
        wait_ms = min(max(wait_ms, 0), after_ms)
        event = BlockTimeout(self.height + 1)
        if wait_ms:
            self._set_timer("due", wait_ms / 1000, lambda: self.feed(event))
        else:
            self._cancel_timer("due")
            self._events.append(event)

    def _arm(self) -> None:
        """Start the round's timer, once a quorum is known to have come as far."""
        effect = self._unarmed
        if effect is None or self.halted or not qbft.is_accompanied(self._state):
            return
        self._unarmed = None
        self._round_ms = self._get_now_ms()
        event = RoundTimeout(effect.height, effect.round)
        self._set_timer("round", effect.delay_ms / 1000, lambda: self.feed(event))

    def _set_resend(self) -> None:
        delay_s = self.get_base_timeout_ms() / 1000

        def resend() -> None:
            self.feed(Resend())
            self._set_resend()

        self._set_timer("resend", delay_s, resend)

    def _set_timer(self, name: str, delay_s: float, act: Callable[[], None]) -> None:
        self._cancel_timer(name)
        self._timers[name] = asyncio.get_running_loop().call_later(delay_s, act)

    def _cancel_timer(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    # Transactions

    def _upon_ready(self) -> None:
        """Something waits that could go into a block: one is due as soon as may be."""
        self._stale = False
        if not (self._gathers or self._state.timer_runs or self._busy or self.halted):
            self._schedule()
            self._work()

    async def submit(self, transactions: Sequence[bytes]) -> list[Verdict]:
        """What became of each: it waits for a block, or why it does not."""
        return await self.intake.take(transactions, relay=True)

    def submit_own(self, operations: Sequence[ops.Operation]) -> bytes:
        """Sign operations as this validator, keep them and pass them on; the transaction's hash."""
        assert self._key is not None
        sender = keys.compute_host_id(self._key.public)
        nonce = self.mempool.get_free_nonce(sender, self._key.public)
        tx = sign_tx(self._key, self.ledger.chain_id, nonce, operations)
        self.intake.admit(tx, relay=True)
        return tx.hash

    def _accuse(self, effect: Accuse) -> None:
        """Two votes that convict: into the next blocks, once."""
        evidence = effect.evidence
        self.accused.append(evidence)
        if self.is_voter:
            encoded = encode_equivocation(evidence)
            self.submit_own([ops.VotesEvidence(evidence.signer, encoded)])
