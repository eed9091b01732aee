"""The original Istanbul BFT of EIP-650, to show that the simulator finds what is wrong with it.

Not here: QBFT (chainlite.consensus.qbft), which replaces it. The rules are those of the EIP's text:
a quorum is 2F + 1 of any n; a validator that prepared a block is locked on it for its height and
answers a proposal of another with ROUND-CHANGE; round changes justify nothing. Known failures, both
from Saltini and Hyland-Wood, "Correctness Analysis of Istanbul Byzantine Fault Tolerance"
(arXiv:1901.07160; mended in "IBFT 2.0", arXiv:1909.10194): with n = 5 two quorums of 3 may share no
honest validator, so two blocks are final at one height; and validators that are locked on
different blocks wait for each other for ever. Source: EIP-650 (ethereum/EIPs issue 650),
"State transitions", "Round change flow", "Block locking mechanism".
"""

from __future__ import annotations

from typing import Any, NamedTuple

from chainlite import domains, keys
from chainlite.consensus import events
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
    sign_vote,
)
from chainlite.errors import SpecError
from chainlite.ledger.block import Block
from chainlite.ledger.header import Seals, compute_seal_digest, encode_commit

CLOCK_AHEAD_MS = 2_000
TIMEOUT_MAX_MS = 30_000
ONLY_THE_CHAIN = True
"""For the simulator: these rules are not QBFT's; judge blocks and decisions alone."""


class State(NamedTuple):
    """A validator between two events. `locked` is the block that it prepared at this height."""

    chain_id: bytes
    key: Any
    place: events.Start | None = None
    round: int = 0
    wanted: int = 0
    """The round that this validator asked for; that of `round` when it is in one."""
    running: bool = False
    decided: bool = False
    accepted: Proposal | None = None
    committed: bool = False
    locked: Block | None = None
    inbox: dict[tuple[int, int, bytes], Any] = {}  # noqa: RUF012 - never written to


def make_state(chain_id: bytes, key: Any) -> State:
    return State(chain_id, key)


def compute_timeout_ms(base_timeout_ms: int, round: int) -> int:
    return min(base_timeout_ms << min(round, 16), TIMEOUT_MAX_MS)


def is_accompanied(state: State) -> bool:
    """Its timers run from the start of each round."""
    return True


def step(
    state: State, event: events.Event, now_ms: int, is_valid: Any
) -> tuple[State, tuple[events.Effect, ...]]:
    """What follows from one event."""
    turn = _Turn(state, now_ms, is_valid)
    turn.take(event)
    return turn.state, tuple(turn.effects)


class _Turn:
    """One step: the state as it becomes, and the effects so far."""

    def __init__(self, state: State, now_ms: int, is_valid: Any) -> None:
        self.state = state
        self.now_ms = now_ms
        self.is_valid = is_valid
        self.effects: list[events.Effect] = []

    def set(self, **fields: Any) -> None:
        self.state = self.state._replace(**fields)

    @property
    def place(self) -> events.Start:
        assert self.state.place is not None
        return self.state.place

    @property
    def height(self) -> int:
        return self.place.parent.height + 1

    @property
    def faults(self) -> int:
        return (self.place.validators.size - 1) // 3

    def take(self, event: events.Event) -> None:
        if isinstance(event, events.Start):
            self.state = State(self.state.chain_id, self.state.key, event)
        elif self.state.place is None or self.state.decided:
            if self.state.place is not None and isinstance(event, events.Received):
                self._help(event.message)
        elif isinstance(event, events.BlockTimeout):
            if event.height == self.height and not self.state.running:
                self._enter(0)
        elif isinstance(event, events.Built):
            if event.round == self.state.round and self.state.accepted is None:
                self._propose(self.state.locked or event.block)
        elif isinstance(event, events.RoundTimeout):
            if event.height == self.height:
                self._want(self.state.wanted + 1)
        elif isinstance(event, events.Resend):
            self._resend()
        elif isinstance(event, events.Received):
            self._receive(event.message)

    def _help(self, message: Any) -> None:
        if not isinstance(message, NewBlock) and message.vote.height < self.height:
            self.effects.append(events.Lagging(message.vote.signer, message.vote.height))

    def _receive(self, message: Any) -> None:
        self._help(message)
        if isinstance(message, NewBlock):
            self._take_block(message)
            return
        vote = message.vote
        if vote.height != self.height or vote.signer not in self.place.validators:
            return
        key = (vote.kind, vote.round, vote.signer)
        if key in self.state.inbox or vote.round > self.state.round + 50:
            return
        self._keep(message)
        self._advance()

    def _keep(self, message: Any) -> None:
        vote = message.vote
        key = (vote.kind, vote.round, vote.signer)
        self.set(inbox=self.state.inbox | {key: message})

    def _take_block(self, message: NewBlock) -> None:
        block, seals = message.block, message.seals
        if not self._follows(block):
            return
        try:
            signers = self.place.validators.decode_bitmap(seals.bitmap)
        except SpecError:
            return
        digest = self._compute_digest(block, seals.round)
        signed = encode_commit(self.state.chain_id, self.height, seals.round, digest)
        sealed = len(signers) == len(seals.signatures) > 2 * self.faults and all(
            keys.is_signed(signer, domains.SIGN_COMMIT, signed, signature)
            for signer, signature in zip(signers, seals.signatures, strict=True)
        )
        if sealed and self.is_valid(block):
            self._append(block, seals)

    def _get(self, kind: int, round: int, digest: bytes | None = None) -> list[Any]:
        found = [self.state.inbox.get((kind, round, key)) for key in self.place.validators.keys]
        return [m for m in found if m is not None and digest in (None, m.vote.digest)]

    def _advance(self) -> None:
        state = self.state
        if state.running and state.wanted == state.round:
            self._take_proposal()
            self._take_prepares()
        for number in sorted({key[1] for key in self.state.inbox if key[0] == COMMIT}):
            self._take_commits(number)
        if not self.state.decided:
            self._take_round_changes()

    def _take_proposal(self) -> None:
        state = self.state
        leader = self.place.validators.get_proposer(self.place.parent.proposer, state.round)
        proposal = state.inbox.get((PROPOSAL, state.round, leader))
        if state.accepted is not None or proposal is None:
            return
        block = proposal.block
        fits = (
            self._follows(block)
            and block.header.timestamp_ms <= self.now_ms + CLOCK_AHEAD_MS
            and proposal.vote.digest == self._compute_digest(block, state.round)
            and self.is_valid(block)
        )
        if not fits or (state.locked is not None and state.locked.hash != block.hash):
            self._want(state.round + 1)
            return
        self.set(accepted=proposal)
        self._say(PREPARE, proposal.vote.digest)

    def _follows(self, block: Block) -> bool:
        header, parent = block.header, self.place.parent
        return (
            (header.height, header.previous) == (self.height, self.place.parent_hash)
            and header.timestamp_ms > parent.timestamp_ms
            and header.proposer in self.place.validators
        )

    def _take_prepares(self) -> None:
        state = self.state
        if state.accepted is None or state.committed:
            return
        digest = state.accepted.vote.digest
        if len(self._get(PREPARE, state.round, digest)) > 2 * self.faults:
            self.set(committed=True, locked=state.accepted.block)
            self._say(COMMIT, digest)

    def _take_commits(self, round: int) -> None:
        leader = self.place.validators.get_proposer(self.place.parent.proposer, round)
        proposal = self.state.inbox.get((PROPOSAL, round, leader))
        if proposal is None or self.state.decided or not self.is_valid(proposal.block):
            return
        if not self._follows(proposal.block):
            return
        commits = self._get(COMMIT, round, self._compute_digest(proposal.block, round))
        if len(commits) > 2 * self.faults:
            votes = [commit.vote for commit in commits]
            bitmap = self.place.validators.encode_bitmap(vote.signer for vote in votes)
            seals = Seals(round, bitmap, tuple(vote.signature for vote in votes))
            self._append(proposal.block, seals)

    def _take_round_changes(self) -> None:
        state = self.state
        numbers = sorted({key[1] for key in state.inbox if key[0] == ROUND_CHANGE}, reverse=True)
        for number in numbers:
            count = len(self._get(ROUND_CHANGE, number))
            if number > state.round and count > 2 * self.faults:
                self._enter(number)
                self._advance()
                return
            if number > state.wanted and count > self.faults:
                self._want(number)
                return

    def _enter(self, round: int) -> None:
        """NEW ROUND: its proposer proposes the block that it is locked on, or a new one."""
        self.set(round=round, wanted=round, running=True, accepted=None, committed=False)
        self._set_timer(round)
        leader = self.place.validators.get_proposer(self.place.parent.proposer, round)
        if self.state.key is None or leader != self.state.key.public:
            return
        if self.state.locked is not None:
            self._propose(self.state.locked)
        else:
            self.effects.append(events.Build(self.height, round))

    def _propose(self, block: Block) -> None:
        digest = self._compute_digest(block, self.state.round)
        vote = self._sign(PROPOSAL, self.state.round, digest)
        self._utter(Proposal(vote, block, (), ()))
        self._advance()

    def _want(self, round: int) -> None:
        """ROUND CHANGE: ask for a later round, and wait for 2F + 1 that do."""
        self.set(wanted=round, running=True)
        self._set_timer(round)
        if self._get_said(ROUND_CHANGE, round) is None:
            self._say(ROUND_CHANGE, NO_DIGEST, round)
        self._take_round_changes()

    def _get_said(self, kind: int, round: int) -> Any:
        me = self.state.key.public if self.state.key else b""
        return self.state.inbox.get((kind, round, me))

    def _say(self, kind: int, digest: bytes, round: int | None = None) -> None:
        at = self.state.round if round is None else round
        if self.state.key is None or self.state.key.public not in self.place.validators:
            return
        if self._get_said(kind, at) is not None:
            return
        vote = self._sign(kind, at, digest)
        if kind == ROUND_CHANGE:
            self._utter(RoundChange(vote, None, ()))
        else:
            self._utter(Prepare(vote) if kind == PREPARE else Commit(vote))
        self._advance()

    def _utter(self, message: Any) -> None:
        self.effects.append(events.Persist((message,)))
        self.effects.append(events.Broadcast(message))
        self._keep(message)

    def _sign(self, kind: int, round: int, digest: bytes) -> Vote:
        return sign_vote(
            self.state.key, self.state.chain_id, kind, self.height, round, digest, NO_ROUND
        )

    def _compute_digest(self, block: Block, round: int) -> bytes:
        return compute_seal_digest(self.state.chain_id, block.hash, round)

    def _resend(self) -> None:
        me = self.state.key.public if self.state.key else b""
        for (_, number, signer), message in list(self.state.inbox.items()):
            if signer == me and number >= self.state.round:
                self.effects.append(events.Broadcast(message))

    def _set_timer(self, round: int) -> None:
        delay_ms = compute_timeout_ms(self.place.base_timeout_ms, round)
        self.effects.append(events.SetTimer(self.height, round, delay_ms))

    def _append(self, block: Block, seals: Seals) -> None:
        self.set(decided=True)
        self.effects.append(events.Append(block, seals))
