"""One run: virtual time, the network between the nodes, and the real protocol in each of them.

Not here: which faults happen (plan), what is checked (watch). Invariants: one seed gives one run,
event for event: all chance comes from one random.Random, time is a heap of (ms, number), and no
set is ever iterated. Signatures are real; a verdict is remembered by bytes, as it is the same for
every node. A run ends when, after the faults, every honest node has decided two more heights, or
fails when that takes longer than the timeouts allow.
"""

from __future__ import annotations

import heapq
import random
from typing import TYPE_CHECKING, Any, NamedTuple

from chainlite import keys
from chainlite.consensus.messages import NewBlock, check_signatures, decode_message
from chainlite.errors import SpecError
from tests.sim import realchain, toychain
from tests.sim.liars import Coalition, Liar
from tests.sim.lockstep import Lockstep
from tests.sim.node import Node
from tests.sim.watch import Violation, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chainlite.consensus.equivocation import Equivocation
    from chainlite.consensus.events import Effect, Event
    from chainlite.consensus.messages import Message
    from chainlite.ledger.block import Block
    from tests.sim.plan import Plan, Window
    from tests.sim.toychain import Ledger

    Protocol = Any
    """A module with make_state, step and compute_timeout_ms: qbft, a mutant of it, or eip650."""

KEYS = tuple(keys.make_key_pair(bytes([number + 1]) * 32) for number in range(9))
CHAIN_ID = toychain.CHAIN_ID
STEPS_MAX = 60_000
"""Events in one run: a run with more is a storm, and fails."""
HEIGHTS_AFTER = 2
"""Heights that every honest node decides once the faults have stopped."""
GRACE_MS = 4_000
"""For polls, restarts and slow messages, beyond what the rounds' timers may take."""
SLOW_AFTER_MS = 60
CRASH_WAIT_MS = 60


class Result(NamedTuple):
    """What a run came to."""

    heights: int
    steps: int
    rounds_max: int
    healed_ms: int
    ended_ms: int


class World:
    """A run in progress."""

    def __init__(
        self,
        plan: Plan,
        protocol: Protocol,
        write: Callable[[str], object] | None = None,
        *,
        lockstep: bool = False,
    ) -> None:
        self.plan = plan
        self.protocol = protocol
        self.chain_id = CHAIN_ID
        self.rng = random.Random(plan.seed ^ 0x5EED)
        self.now_ms = 0
        self.chain: Any = realchain if plan.is_real else toychain
        """Whose ledger and mempool: a module with extend, build and Pool."""
        self.sent = [0] * toychain.HOSTS
        """By host: transactions that its client has sent."""
        self.healed = False
        self.steps = 0
        self.rounds_max = 0
        self._write = write
        self._heap: list[tuple[int, int, Callable[..., object], tuple[Any, ...]]] = []
        self._scheduled = 0
        self._decoded: dict[bytes, Message | None] = {}
        self._signed: dict[tuple[bytes, bytes, bytes, bytes], bool] = {}
        self._extended: dict[tuple[bytes, bytes], Ledger | None] = {}
        self.watch = Watch(self)
        self.nodes: list[Node] = []
        self.coalition = Coalition(self)
        self._models: dict[tuple[int, int], Lockstep] | None = {} if lockstep else None
        self._make_nodes()

    def _make_nodes(self) -> None:
        plan = self.plan
        publics = tuple(KEYS[number].public for number in range(plan.size))
        changes = tuple(b"+" + KEYS[number].public for number in plan.joins)
        changes += tuple(b"-" + KEYS[number].public for number in plan.leaves)
        genesis: Any
        if plan.is_real:
            genesis, changes = realchain.make_genesis(publics), ()
        else:
            genesis = toychain.make_genesis(publics, changes)
        for number in range(plan.size + plan.spares):
            kind = Liar if number in plan.liars else Node
            self.nodes.append(kind(self, number, KEYS[number], genesis))
        self._changes = changes
        self._numbers = {KEYS[node.number].public: node.number for node in self.nodes}

    # Time

    def at(self, delay_ms: int, call: Callable[..., object], *arguments: Any) -> None:
        """Call it so much later."""
        self._scheduled += 1
        entry = (self.now_ms + delay_ms, self._scheduled, call, arguments)
        heapq.heappush(self._heap, entry)

    def run(self) -> Result:
        """To the end; Violation if an invariant does not hold."""
        plan = self.plan
        for node in self.nodes:
            self.at(self.rng.randrange(0, 20), node.start)
        for crash in plan.crashes:
            self.at(crash.at_ms, self._light_fuse, crash)
        for change in self._changes:
            self.at(self.rng.randrange(0, plan.faults_ms), self._submit, change)
        self.at(plan.client_ms, self._client)
        self.at(plan.faults_ms, self._heal)
        deadline: int | None = None
        goal = 0
        while True:
            self.now_ms, _, call, arguments = heapq.heappop(self._heap)
            call(*arguments)
            self.steps += 1
            if self.healed and deadline is None:
                goal = max(node.ledger.header.height for node in self._honest()) + HEIGHTS_AFTER
                deadline = self.now_ms + self._compute_patience_ms()
            if deadline is not None:
                if self._is_done(goal):
                    break
                if self.now_ms > deadline:
                    self.watch.fail("liveness", f"no height {goal} by {deadline} ms")
            if self.steps > STEPS_MAX:
                self.watch.fail("storm", f"more than {STEPS_MAX} events")
        self.watch.upon_end()
        return Result(goal, self.steps, self.rounds_max, plan.faults_ms, self.now_ms)

    def _honest(self) -> Iterator[Node]:
        return (node for node in self.nodes if node.honest)

    def _is_done(self, goal: int) -> bool:
        return all(node.up and node.ledger.header.height >= goal for node in self._honest())

    def _compute_patience_ms(self) -> int:
        """How long two decisions may take from here: all timers of the rounds that may be lost.

        Rounds that are lost: those in which nodes are now, one for each faulty leader and one for
        each leader that is not yet caught up; for the second height from round 0 on.
        """
        plan = self.plan
        round_now = max(node.timer[1] for node in self._honest())
        lost = len(plan.liars) + (plan.bad_clock is not None) + 3
        slow = 0
        while self.protocol.compute_timeout_ms(plan.base_timeout_ms, slow) < 6 * plan.delays_ms[1]:
            slow += 1
            if slow > 16:
                break
        return (
            GRACE_MS
            + self._sum_timeouts(max(round_now, slow) + lost)
            + self._sum_timeouts(slow + lost)
        )

    def _sum_timeouts(self, rounds: int) -> int:
        base = self.plan.base_timeout_ms
        return sum(min(base << number, 30_000) for number in range(rounds + 1))

    # Faults

    def _light_fuse(self, crash: Any) -> None:
        node = self.nodes[crash.node]
        if node.up:
            node.fuse, node.effects_left = crash, crash.effects
            self.at(CRASH_WAIT_MS, self._crash, node, node.life, crash)

    def _crash(self, node: Node, life: int, crash: Any) -> None:
        if node.up and node.life == life:
            node.crash(crash.fate, crash.down_ms, None)

    def _heal(self) -> None:
        self.healed = True
        self._log("-- the faults stop --")
        for node in self.nodes:
            node.fuse = None
        if self.plan.liars_after != "lie on":
            self.coalition.stop(silent=self.plan.liars_after == "say nothing")

    # Network

    def send(self, sender: int, receiver: int, data: bytes) -> None:
        """One message on its way, or not."""
        plan, rng = self.plan, self.rng
        if not self.healed and self._is_lost(sender, receiver, data):
            return
        low, high = plan.delays_ms
        self.at(rng.randint(low, high), self.deliver, sender, receiver, data)
        if not self.healed and plan.duplicate and rng.random() < plan.duplicate:
            self.at(rng.randint(low, 10 * high), self.deliver, sender, receiver, data)

    def _is_lost(self, sender: int, receiver: int, data: bytes) -> bool:
        if self.plan.drop and self.rng.random() < self.plan.drop:
            return True
        if self.plan.liars_reach and not (
            self.nodes[sender].honest and self.nodes[receiver].honest
        ):
            return False
        return any(
            window.start_ms <= self.now_ms < window.end_ms
            and window.groups[sender] != window.groups[receiver]
            and self._is_meant(window, data)
            for window in self.plan.windows
        )

    def _is_meant(self, window: Window, data: bytes) -> bool:
        """Whether a window takes messages of this kind: all, or those whose tag it names."""
        return not window.kinds or data[:1] in [bytes([0x80 + kind]) for kind in window.kinds]

    def deliver(self, sender: int, receiver: int, data: bytes) -> None:
        """Bytes arrive, if anybody is there."""
        if self.nodes[receiver].up:
            self.nodes[receiver].receive(sender, data)

    def decode(self, data: bytes) -> Message | None:
        """The message, if its bytes are canonical and all its votes signed; once for all nodes."""
        if data in self._decoded:
            return self._decoded[data]
        message: Message | None = None
        try:
            message = decode_message(data)
            check_signatures(message, self.chain_id, self.is_signed)
        except SpecError:
            message = None
        self._decoded[data] = message
        if message is not None:
            self.watch.upon_known(message)
        return message

    def is_signed(self, public: bytes, tag: bytes, message: bytes, signature: bytes) -> bool:
        """As keys.is_signed; the same question is asked once."""
        question = (public, tag, message, signature)
        if question not in self._signed:
            self._signed[question] = _is_signed(*question)
        return self._signed[question]

    def extend(self, ledger: Ledger, block: Block) -> Ledger | None:
        """As the chain's extend, once for all nodes."""
        question = (ledger.hash, block.encoded)
        if question not in self._extended:
            self._extended[question] = self.chain.extend(ledger, block)
        return self._extended[question]

    def get_number(self, public: bytes) -> int | None:
        return self._numbers.get(public)

    # Clients

    def _client(self) -> None:
        host = self.rng.randrange(toychain.HOSTS)
        if self.plan.is_real:
            again = self.rng.random() < 0.3  # a client repeats what may have been lost
            number = max(0, self.sent[host] - 1) if again else self.sent[host]
            self.sent[host] = max(self.sent[host], number + 1)
            self._submit(realchain.make_transaction(host, number))
        else:
            self._submit(toychain.encode_anchor(host, self.now_ms + 1))
        if not self.healed:
            self.at(self.plan.client_ms, self._client)

    def _submit(self, transaction: bytes) -> None:
        all_hear = self.healed or self.plan.profile == "calm"
        for node in self.nodes:
            if node.up and (all_hear or self.rng.random() < 0.8):
                node.submit(transaction)

    # What nodes report

    def upon_step(self, node: Node, event: Event, now_ms: int, effects: tuple[Effect, ...]) -> None:
        """After every step of the protocol, before its effects."""
        self.watch.upon_step(node, event, effects)
        if self._models is None or not node.honest:
            return
        life = (node.number, node.life)
        if life not in self._models:
            self._models[life] = Lockstep(self.chain_id, node.key.public)
        try:
            self._models[life].check(event, now_ms, node.is_valid, node.state, effects)
        except AssertionError as difference:
            self.watch.fail("lockstep", str(difference))

    def upon_accuse(self, node: Node, evidence: Equivocation) -> None:
        """A node's evidence goes into the real ledger: the liar is removed by it."""
        if self.plan.is_real and node.honest:
            transaction = node.pool.accuse(node.key, evidence, node.get_now_ms())
            for other in self.nodes:
                if other.up and other is not node:
                    self.at(self.rng.randint(1, 20), other.submit, transaction)

    def upon_height(self, node: Node) -> None:
        self._log(f"node {node.number} begins height {node.ledger.height}")

    def log(self, node: Node, text: str, message: Message | None = None) -> None:
        """A line of the trace, if somebody reads it."""
        if self._write is not None:
            what = f" {describe(message)}" if message is not None else ""
            self._log(f"node {node.number} {text}{what}")

    def _log(self, text: str) -> None:
        if self._write is not None:
            self._write(f"{self.now_ms:6} ms  {text}")


_is_signed = keys.is_signed


def describe(message: Message) -> str:
    """One message in one line."""
    name = type(message).__name__
    if isinstance(message, NewBlock):
        return f"{name} height {message.block.header.height} round {message.seals.round}"
    vote = message.vote
    prepared = "" if vote.prepared_round == 0xFFFFFFFF else f" prepared {vote.prepared_round}"
    return f"{name} height {vote.height} round {vote.round} {vote.digest.hex()[:8]}{prepared}"


def simulate(
    plan: Plan,
    protocol: Protocol,
    write: Callable[[str], object] | None = None,
    *,
    lockstep: bool = False,
) -> Result:
    """Run a plan. Violation says what did not hold; `write` gets the trace line by line.

    With `lockstep`, every honest node's steps are also held against the reference model.
    """
    world = World(plan, protocol, write, lockstep=lockstep)
    keys.is_signed, before = world.is_signed, keys.is_signed  # a NEW-BLOCK's seals: asked once
    try:
        return world.run()
    finally:
        keys.is_signed = before


__all__ = ["Result", "Violation", "World", "describe", "simulate"]
