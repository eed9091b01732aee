"""What an honest node owes, given what it has received: votes, decisions, rounds, accusations.

Not here: what it may not do (watch). Only what came from honest nodes since the height began is
counted, so that no liar's flood or double vote excuses anything or demands too much; a node may
know more than is counted here, from before. Rules: EEA QBFT v1, as CHAIN.md sums it up; written
apart from chainlite.consensus. Invariant: `check` is asked after all effects of a step are done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chainlite.consensus import events
from chainlite.consensus.messages import (
    COMMIT,
    PREPARE,
    PROPOSAL,
    Commit,
    NewBlock,
    Prepare,
    Proposal,
    RoundChange,
    Vote,
)
from tests.sim import rules

if TYPE_CHECKING:
    from chainlite.consensus.events import Effect, Event
    from chainlite.consensus.messages import Message
    from tests.sim.node import Node
    from tests.sim.watch import Watch

ROUNDS_KEPT = 16
"""Messages of one kind, signer and height that a node may keep."""
ROUNDS_SURE = 8
"""So many surely fit, beside what was kept from before the height began."""
EARLY_SURE = 4
"""So many votes of one signer for the next height are surely kept."""
HOARD_EVERY = 8
"""After so many messages of liars the node's buffers are looked at."""


class Duties:
    """Of one node at one height, in one life."""

    def __init__(self, watch: Watch, node: Node) -> None:
        self.watch = watch
        self.node = node
        self.quorum = rules.compute_quorum(node.ledger)
        self.faults = (len(node.ledger.validators.keys) - 1) // 3
        self.is_member = node.key.public in node.ledger.validators
        self.proposals: dict[int, Proposal] = {}
        """By round: what an honest leader proposed, valid and in time."""
        self.said: dict[tuple[int, int], bytes] = {}
        """By kind and round: the digest of this node's own votes."""
        self.prepares: dict[bytes, list[bytes]] = {}
        self.commits: dict[bytes, list[bytes]] = {}
        self.changes: dict[bytes, list[int]] = {}
        """By honest signer: the rounds it asked for."""
        self.asked = watch.get_asked(node)
        """By signer, honest or not: the highest round that it asked this node for."""
        self.first: dict[tuple[int, int, bytes], bytes] = {}
        self.owed: list[bytes] = []
        self.built: list[int] = []
        self.bound: list[int] = []
        """Rounds for which an honest round change shows a prepared block."""
        self.timed_out: list[int] = []
        self.decided = False
        self.lies = 0

    def upon_event(self, event: Event) -> None:
        """What the node is about to be fed."""
        if isinstance(event, events.RoundTimeout):
            self.timed_out.append(event.round + 1)
        if not isinstance(event, events.Received) or isinstance(event.message, NewBlock):
            return
        message = event.message
        vote, ledger = message.vote, self.node.ledger
        if not self.watch.is_honest(vote.signer):
            self.lies += 1
        if vote.height != ledger.height or vote.signer not in ledger.validators:
            return
        if not self.watch.is_honest(vote.signer):
            self._suspect(vote)
        elif vote.signer != self.node.key.public and self.watch.is_genuine(message):
            self._note(message)

    def upon_early(self, messages: list[Message]) -> None:
        """What came from honest nodes before the height began."""
        kept: dict[bytes, int] = {}
        for message in messages:
            assert not isinstance(message, NewBlock)
            signer = message.vote.signer
            kept[signer] = kept.get(signer, 0) + 1
            known = signer in self.node.ledger.validators and self.watch.is_genuine(message)
            if known and kept[signer] <= EARLY_SURE:
                self._note(message)

    def upon_said(self, message: Message) -> None:
        """The node has said this, now or before a restart."""
        assert not isinstance(message, NewBlock)
        vote = message.vote
        self.said[vote.kind, vote.round] = vote.digest
        if isinstance(message, Proposal):
            self.proposals.setdefault(vote.round, message)
        else:
            self._note(message)

    def _note(self, message: Any) -> None:
        vote: Vote = message.vote
        if isinstance(message, Prepare):
            _add(self.prepares, vote.digest, vote.signer)
        elif isinstance(message, Commit):
            _add(self.commits, vote.digest, vote.signer)
        elif isinstance(message, RoundChange):
            _add(self.changes, vote.signer, vote.round)
            if message.block is not None:
                self.bound.append(vote.round)
        elif vote.round not in self.proposals:
            header, now_ms = message.block.header, self.node.get_now_ms()
            fits = header.timestamp_ms <= now_ms + rules.CLOCK_AHEAD_MS
            world, ledger = self.watch.world, self.node.ledger
            if (
                fits
                and rules.find_fault(world, ledger, message) is None
                and world.extend(ledger, message.block) is not None
                and vote.round >= self.get_round()
            ):
                self.proposals[vote.round] = message

    def _suspect(self, vote: Vote) -> None:
        """Two votes that convict, of kinds that are always kept: the node owes an accusation."""
        if vote.kind not in (PREPARE, COMMIT):
            return
        place = (vote.kind, vote.round, vote.signer)
        rounds = [key for key in self.first if (key[0], key[2]) == (vote.kind, vote.signer)]
        if self.first.setdefault(place, vote.digest) == vote.digest or len(rounds) >= ROUNDS_SURE:
            return
        if vote.signer not in self.owed and not self.decided:
            self.owed.append(vote.signer)

    def upon_effects(self, event: Event, effects: tuple[Effect, ...]) -> None:
        """What the step wants done."""
        for effect in effects:
            if isinstance(effect, events.Build):
                self.built.append(effect.round)
                if effect.round in self.bound:
                    self._fail("builds a block where it must propose one that was prepared")
            elif isinstance(effect, events.Append):
                self.decided = True
        restarts = isinstance(event, events.Start) and bool(event.recorded.messages)
        if (isinstance(event, events.Resend) or restarts) and not self.decided:
            here = max(round_of for _, round_of in self.said) if restarts else self.get_round()
            mine = [kind for kind, round_of in self.said if round_of == here]
            committed = [round_of for kind, round_of in self.said if kind == COMMIT]
            again = [
                effect.message.vote.kind
                for effect in effects
                if isinstance(effect, events.Broadcast)
                and not isinstance(effect.message, NewBlock)
                and effect.message.vote.round == here
            ]
            if not set(mine) <= set(again):
                self._fail("does not repeat what it said in its round")
            commits = [
                effect.message.vote.round
                for effect in effects
                if isinstance(effect, events.Broadcast) and isinstance(effect.message, Commit)
            ]
            if committed and max(committed) not in commits:
                self._fail("does not repeat its last commit")

    def get_round(self) -> int:
        """The round of the node's timer."""
        height, current, _, _ = self.node.timer
        return current if height == self.node.ledger.height else 0

    def _fail(self, text: str) -> None:
        self.watch.fail("duty", f"node {self.node.number} in round {self.get_round()} {text}")

    def check(self) -> None:
        """After a step and all its effects."""
        if self.decided:
            return
        node, current = self.node, self.get_round()
        if self.lies >= HOARD_EVERY:
            self.lies = 0
            hoard = find_hoard(node.state)
            if hoard is not None:
                self._fail(f"hoards {hoard}")
        self._check_accusations()
        ahead = [key for key, asked in self.changes.items() if max(asked) > current]
        if len([key for key in ahead if key != node.key.public]) > self.faults:
            self._fail("does not follow f + 1 honest validators to a later round")
        for number, proposal in self.proposals.items():
            digest = proposal.vote.digest
            if len(self.commits.get(digest, ())) >= self.quorum:
                self._fail(f"has a quorum of commits of round {number} and does not decide")
            if not self.is_member or number < current:
                continue
            if number > current or (PREPARE, number) not in self.said:
                self._fail(f"does not prepare the valid proposal of round {number}")
            enough = len(self.prepares.get(digest, ())) >= self.quorum
            mine = self.said[PREPARE, number] == digest and (COMMIT, number) not in self.said
            if enough and mine:
                self._fail("does not commit to what a quorum has prepared")
        self._check_leader(current)

    def _check_accusations(self) -> None:
        for signer in self.owed:
            if not self.watch.was_accused(self.node, signer):
                self._fail("does not accuse a signer of two conflicting votes")
        self.owed.clear()

    def _check_leader(self, current: int) -> None:
        node = self.node
        if current == 0 or rules.compute_proposer(node.ledger, current) != node.key.public:
            return
        arrived = [key for key, asked in self.changes.items() if current in asked]
        idle = current not in self.built and (PROPOSAL, current) not in self.said
        if len(arrived) >= self.quorum and idle and current not in self.proposals:
            self._fail("leads it, has a quorum of round changes, and proposes nothing")

    def has_reason(self, target: int) -> bool:
        """Whether it may ask for this round: its time was up, or f + 1 asked for it or a later."""
        keys = self.node.ledger.validators.keys
        others = [key for key in keys if self.asked.get(key, 0) >= target]
        timed_out = target in self.timed_out and self._is_accompanied(target - 1)
        return timed_out or len(others) > self.faults

    def _is_accompanied(self, place: int) -> bool:
        """Whether a quorum was in this round or later: heard one by one, or shown by its leader."""
        others = [key for key, asked in self.asked.items() if asked >= place]
        others = [key for key in others if key != self.node.key.public]
        shown = (PREPARE, place) in self.said
        return place == 0 or shown or len(others) + self.is_member >= self.quorum


def _add(found: dict[bytes, list[Any]], key: bytes, value: Any) -> None:
    values = found.setdefault(key, [])
    if value not in values:
        values.append(value)


def find_hoard(state: object) -> str | None:
    """Whose messages of one kind and height a node keeps too many of, if anybody's."""
    kept: dict[tuple[int, int, bytes], list[int]] = {}
    _collect(state, kept)
    for (kind, height, signer), rounds in kept.items():
        if len(rounds) > ROUNDS_KEPT:
            return f"{len(rounds)} of kind {kind}, height {height}, {signer.hex()[:8]}"
    return None


def _collect(value: Any, kept: dict[tuple[int, int, bytes], list[int]]) -> None:
    if isinstance(value, Proposal | Prepare | Commit | RoundChange):
        vote = value.vote
        rounds = kept.setdefault((vote.kind, vote.height, vote.signer), [])
        if vote.round not in rounds:
            rounds.append(vote.round)
    elif isinstance(value, dict):
        for inner in value.values():
            _collect(inner, kept)
    elif isinstance(value, tuple):
        for inner in value:
            _collect(inner, kept)
