"""What must hold after every step: of the chain, and of everything that an honest node says.

Not here: the protocol; the rules are written again, from CHAIN.md and EEA QBFT v1, on numbers and
bytes alone, so that a mistake in chainlite is not made here too. Invariants that are checked:
no two blocks at a height; no two votes of an honest node for one kind, height and round, over
restarts; what is final stays; every block that is appended has a quorum of seals by that height's
validators; a vote is on disk before it is sent; every vote of an honest node is justified by what
it has seen; an accusation convicts, and never an honest node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from chainlite.consensus import events
from chainlite.consensus.messages import (
    COMMIT,
    NO_ROUND,
    PREPARE,
    ROUND_CHANGE,
    NewBlock,
    Proposal,
    RoundChange,
    encode_message,
    get_votes,
)
from tests.sim import rules, toychain
from tests.sim.duties import Duties

if TYPE_CHECKING:
    from chainlite.consensus.equivocation import Equivocation
    from chainlite.consensus.events import Effect, Event
    from chainlite.consensus.messages import Message, Vote
    from chainlite.ledger.block import Block
    from tests.sim.node import Node
    from tests.sim.world import World

SKEW_MAX_MS = 1_000


class Violation(AssertionError):
    """An invariant does not hold."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name


class Watch:
    """Sees everything; believes nothing."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.strict = not getattr(world.protocol, "ONLY_THE_CHAIN", False)
        """Whether the votes are QBFT's, and are judged by its rules."""
        self.chain: dict[int, Block] = {}
        """By height: what any honest node has appended."""
        self.proposals: dict[bytes, list[Proposal]] = {}
        """By digest: proposals whose signatures hold, from whomever."""
        self._votes: dict[tuple[bytes, int, int, int], tuple[bytes, int]] = {}
        self._newest: dict[int, tuple[int, int]] = {}
        self._committed: dict[tuple[int, int], list[int]] = {}
        self._prepares: dict[tuple[int, int, int, bytes], dict[bytes, Vote]] = {}
        self._accused: dict[tuple[int, int, int, bytes], bool] = {}
        self._duties: dict[int, Duties] = {}
        self._early: dict[tuple[int, int, int], dict[tuple[int, int, bytes], Message]] = {}
        """By node, life and height: what came before its height, the first by kind, round, signer.

        A liar may have sent an honest vote with another block first; then the true one is not owed.
        """
        self._genuine: set[bytes] = set()
        """What honest nodes have said, as bytes; only asked, never iterated."""
        self._asked: dict[tuple[int, int], dict[bytes, int]] = {}

    @property
    def has_accused(self) -> bool:
        """Whether any honest node has convicted a liar."""
        return bool(self._accused)

    def is_honest(self, key: bytes) -> bool:
        """Whether a key is an honest node's."""
        number = self.world.get_number(key)
        return number is not None and self.world.nodes[number].honest

    def is_genuine(self, message: Message) -> bool:
        """Whether an honest node has said just this."""
        return encode_message(message) in self._genuine

    def get_asked(self, node: Node) -> dict[bytes, int]:
        """By signer: the highest round of this height that a node was asked for, in any life."""
        return self._asked.setdefault((node.number, node.ledger.height), {})

    def was_accused(self, node: Node, signer: bytes) -> bool:
        """Whether a node has accused a signer at its height, in this life."""
        return (node.number, node.life, node.ledger.height, signer) in self._accused

    def fail(self, name: str, text: str) -> NoReturn:
        """Violation, with where it was."""
        raise Violation(name, f"{text} (at {self.world.now_ms} ms)")

    def upon_known(self, message: Message) -> None:
        """A message exists whose signatures hold."""
        if isinstance(message, Proposal):
            self.proposals.setdefault(message.vote.digest, []).append(message)
            self.world.coalition.learn(message)
        else:
            self.world.coalition.learn(message)

    def upon_event(self, node: Node, event: Event) -> None:
        """A node is about to be fed an event."""
        if not node.honest or not self.strict:
            return
        if isinstance(event, events.Start):
            self._duties[node.number] = Duties(self, node)
            for message in event.recorded.messages:
                self._duties[node.number].upon_said(message)
            early = self._early.pop((node.number, node.life, node.ledger.height), {})
            self._duties[node.number].upon_early(list(early.values()))
            return
        self._duties[node.number].upon_event(event)
        if isinstance(event, events.Received) and not isinstance(event.message, NewBlock):
            self._see(node, event.message)
            vote, ledger = event.message.vote, node.ledger
            if vote.signer in ledger.validators and vote.height == ledger.height + 1:
                place = (node.number, node.life, vote.height)
                early = self._early.setdefault(place, {})
                early.setdefault((vote.kind, vote.round, vote.signer), event.message)

    def _see(self, node: Node, message: Message) -> None:
        if isinstance(message, RoundChange):
            vote = message.vote
            asked = self._asked.setdefault((node.number, vote.height), {})
            asked[vote.signer] = max(asked.get(vote.signer, 0), vote.round)
        for vote in get_votes(message):
            if vote.kind == PREPARE:
                place = (node.number, vote.height, vote.round, vote.digest)
                self._prepares.setdefault(place, {})[vote.signer] = vote

    def upon_step(self, node: Node, event: Event, effects: tuple[Effect, ...]) -> None:
        """The effects of one step, before they are done."""
        if not node.honest or not self.strict:
            return
        if isinstance(event, events.Received) and not isinstance(event.message, NewBlock):
            vote = event.message.vote
            lagging = any(isinstance(effect, events.Lagging) for effect in effects)
            known = vote.signer in node.ledger.validators and vote.signer != node.key.public
            if lagging != (known and vote.height < node.ledger.height):
                self.fail("lagging", f"node {node.number}: a vote at {vote.height}")
        if sum(isinstance(effect, events.Append) for effect in effects) > 1:
            self.fail("order", f"node {node.number} appends twice in one step")
        self._duties[node.number].upon_effects(event, effects)

    def upon_done(self, node: Node) -> None:
        """All effects of a step are done."""
        if node.honest and self.strict:
            self._duties[node.number].check()

    def upon_persist(self, node: Node, effect: events.Persist) -> None:
        """A record goes to disk; a COMMIT needs what it commits to beside it."""
        if not node.honest or not self.strict:
            return
        for message in effect.messages:
            vote = message.vote
            if vote.kind != COMMIT:
                continue
            block = effect.block
            if block is None or rules.compute_digest(block.header, vote.round) != vote.digest:
                self.fail("record", f"node {node.number} commits and does not record the block")
            if not rules.is_quorum(
                self.world, node.ledger, effect.prepares, PREPARE, vote.round
            ) or any(prepare.digest != vote.digest for prepare in effect.prepares):
                self.fail("record", f"node {node.number} commits and records no quorum")

    def upon_broadcast(self, node: Node, message: Message) -> None:
        """A node says something."""
        if not node.honest or isinstance(message, NewBlock):
            return
        vote, who = message.vote, f"node {node.number}"
        if encode_message(message) not in node.disk.said:
            self.fail("write-ahead", f"{who} says what is not on its disk: kind {vote.kind}")
        if not self.strict:
            self.upon_known(message)
            return
        self._check_once(node, vote)
        if (vote.signer, vote.height) != (node.key.public, node.ledger.height):
            self.fail("order", f"{who} speaks of height {vote.height} at {node.ledger.height}")
        if vote.signer not in node.ledger.validators:
            self.fail("membership", f"{who} votes and is no validator")
        if isinstance(message, Proposal):
            self.upon_known(message)
            self._check_proposal(node, message)
        elif vote.kind == PREPARE:
            self._check_prepare(node, vote)
        elif vote.kind == COMMIT:
            self._check_commit(node, vote)
        elif isinstance(message, RoundChange):
            self._check_round_change(node, message)
        self._see(node, message)
        self._genuine.add(encode_message(message))
        self._duties[node.number].upon_said(message)
        if not isinstance(message, Proposal):
            self.world.coalition.learn(message)

    def _check_once(self, node: Node, vote: Vote) -> None:
        place = (vote.signer, vote.kind, vote.height, vote.round)
        says = (vote.digest, vote.prepared_round)
        if place not in self._votes:
            if (vote.height, vote.round) < self._newest.get(node.number, (0, 0)):
                self.fail("backwards", f"node {node.number} votes in a round that it has left")
            self._newest[node.number] = (vote.height, vote.round)
        if self._votes.setdefault(place, says) != says:
            self.fail("equivocation", f"node {node.number}, kind {vote.kind}, round {vote.round}")

    def _check_proposal(self, node: Node, proposal: Proposal) -> None:
        fault = rules.find_fault(self.world, node.ledger, proposal)
        if fault is None and self.world.extend(node.ledger, proposal.block) is None:
            fault = "its block is not valid"
        if fault is not None:
            self.fail("proposal", f"node {node.number}: {fault}")

    def _check_prepare(self, node: Node, vote: Vote) -> None:
        faults = []
        for proposal in self.proposals.get(vote.digest, ()):
            fault = rules.find_fault(self.world, node.ledger, proposal)
            if fault is None and self.world.extend(node.ledger, proposal.block) is None:
                fault = "its block is not valid"
            faults.append(fault)
        if None not in faults:
            self.fail("prepare", f"node {node.number}: {faults or 'nobody proposed that'}")
        if vote.signer != rules.compute_proposer(node.ledger, vote.round):
            header = self.proposals[vote.digest][0].block.header
            if header.timestamp_ms > node.get_now_ms() + rules.CLOCK_AHEAD_MS:
                self.fail("prepare", f"node {node.number}: a block from the future")

    def _check_commit(self, node: Node, vote: Vote) -> None:
        seen = self._prepares.get((node.number, vote.height, vote.round, vote.digest), {})
        votes = [v for v in seen.values() if v.signer in node.ledger.validators]
        if not rules.is_quorum(self.world, node.ledger, votes, PREPARE, vote.round):
            self.fail("commit", f"node {node.number} has seen no quorum of prepares")
        self._committed.setdefault((node.number, vote.height), []).append(vote.round)

    def _check_round_change(self, node: Node, message: RoundChange) -> None:
        vote, block, who = message.vote, message.block, f"node {node.number}"
        duties = self._duties[node.number]
        if (ROUND_CHANGE, vote.round) not in duties.said and not duties.has_reason(vote.round):
            self.fail("round change", f"{who} asks for round {vote.round} without a reason")
        rounds = self._committed.get((node.number, vote.height), ())
        committed = max((number for number in rounds if number < vote.round), default=-1)
        prepared = -1 if vote.prepared_round == NO_ROUND else vote.prepared_round
        if prepared < committed:
            self.fail("amnesia", f"{who} committed in {committed}, says prepared {prepared}")
        if prepared == -1:
            if block is not None or message.prepares:
                self.fail("round change", f"{who} has prepared nothing, and shows something")
            return
        if block is None or vote.digest != rules.compute_digest(block.header, prepared):
            self.fail("round change", f"{who} shows another block than the one that it names")
        if prepared >= vote.round or not rules.is_quorum(
            self.world, node.ledger, message.prepares, PREPARE, prepared
        ):
            self.fail("round change", f"{who} shows no quorum of prepares")
        if any(prepare.digest != vote.digest for prepare in message.prepares):
            self.fail("round change", f"{who} shows prepares of another block")

    def upon_append(self, node: Node, effect: events.Append) -> None:
        """A block is final for a node."""
        if not node.honest:
            return
        block, seals, ledger = effect.block, effect.seals, node.ledger
        header, who = block.header, f"node {node.number} at height {node.ledger.height}"
        if header.height != ledger.height or header.previous != ledger.hash:
            self.fail("chain", f"{who}: a block that does not follow")
        known = self.chain.setdefault(header.height, block)
        if known.hash != block.hash:
            self.fail("fork", f"{who}: two blocks are final")
        if known.encoded != block.encoded or self.world.extend(ledger, block) is None:
            self.fail("validity", f"{who}: a block that the ledger refuses")
        if header.proposer not in ledger.validators:
            self.fail("validity", f"{who}: a stranger's block")
        latest_ms = toychain.EPOCH_MS + self.world.now_ms + SKEW_MAX_MS + rules.CLOCK_AHEAD_MS
        if not ledger.header.timestamp_ms < header.timestamp_ms <= latest_ms:
            self.fail("time", f"{who}: a time that honest clocks refuse")
        if self.strict:
            self._check_seals(node, effect)
        if self.world.plan.profile == "calm" and seals.round != 0:
            self.fail("calm", f"{who}: decided in round {seals.round} without a fault")
        self.world.rounds_max = max(self.world.rounds_max, seals.round)

    def _check_seals(self, node: Node, effect: events.Append) -> None:
        ledger, seals = node.ledger, effect.seals
        ordered = sorted(ledger.validators.keys)
        bits = int.from_bytes(seals.bitmap, "little")
        signers = [key for place, key in enumerate(ordered) if bits >> place & 1]
        digest = rules.compute_digest(effect.block.header, seals.round)
        signed = toychain.CHAIN_ID + ledger.height.to_bytes(8, "big")
        signed += seals.round.to_bytes(4, "big") + digest
        fine = len(signers) == len(seals.signatures) >= rules.compute_quorum(ledger)
        if not fine or bits >> len(ordered):
            self.fail("seals", f"node {node.number}: no quorum of distinct seals")
        for key, signature in zip(signers, seals.signatures, strict=True):
            if not self.world.is_signed(key, rules.SIGN_TAGS[COMMIT], signed, signature):
                self.fail("seals", f"node {node.number}: a seal that its signer did not make")

    def upon_accuse(self, node: Node, evidence: Equivocation) -> None:
        """A node accuses: the two votes must convict, and not an honest node."""
        if not node.honest:
            return
        one, other = evidence.first, evidence.second
        number = self.world.get_number(one.signer)
        if number is None or self.world.nodes[number].honest:
            self.fail("accusation", f"node {node.number} accuses the honest node {number}")
        same = (one.kind, one.height, one.round, one.signer)
        if same != (other.kind, other.height, other.round, other.signer):
            self.fail("accusation", f"node {node.number}: the two votes are of two places")
        if (one.digest, one.prepared_round) == (other.digest, other.prepared_round):
            self.fail("accusation", f"node {node.number}: the two votes agree")
        once = (node.number, node.life, one.height, one.signer)
        if self._accused.setdefault(once, False):
            self.fail("accusation", f"node {node.number} accuses {number} twice")
        self._accused[once] = True

    def upon_end(self) -> None:
        """Every honest node has one chain, and every anchor of it."""
        for node in self.world.nodes:
            if not node.honest:
                continue
            for sealed in node.disk.blocks:
                if self.chain[sealed.block.header.height].encoded != sealed.block.encoded:
                    self.fail("survival", f"node {node.number} lost a block")
            if self.world.plan.is_real:
                blocks = [sealed.block for sealed in node.disk.blocks]
                lost = self.world.chain.find_lost_anchor(node.ledger, blocks)
                if lost is not None:
                    self.fail("survival", f"node {node.number} lost an anchor: {lost}")
            heights = [sealed.block.header.height for sealed in node.disk.blocks]
            if heights != list(range(1, len(heights) + 1)):
                self.fail("survival", f"node {node.number} has heights {heights}")
