"""One validator in the simulator: its disk, its ledger, its timers, and the real qbft.step.

Not here: the network and time (world), what is checked (watch), a validator that lies (liars).
Invariants: as the real node: effects are done in their order; a Persist is synced before anything
after it; a block is synced before the next height starts; what a crash leaves is what was synced,
and of what was not, all, a torn piece or nothing, as the plan says.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from chainlite.codec import Reader, encode_bytes, encode_u32
from chainlite.consensus import events
from chainlite.consensus.messages import (
    MESSAGE_LIMIT_BYTES,
    PREPARE,
    NewBlock,
    decode_message,
    encode_message,
    encode_vote,
    read_vote,
)
from chainlite.ledger.block import BLOCK_LIMIT_BYTES, decode_block
from tests.sim import toychain

if TYPE_CHECKING:
    from chainlite.consensus.messages import Message
    from chainlite.keys import KeyPair
    from chainlite.ledger.block import Block
    from chainlite.ledger.header import Seals
    from tests.sim.plan import Crash
    from tests.sim.toychain import Ledger
    from tests.sim.world import World

BLOCK_INTERVAL_MS = 300
BLOCKS_SENT_MAX = 8
STUCK_MS = 3_000
"""How long a node waits at a height before it asks others for their blocks."""
POLL_MS = 100
POLL = b"poll"


class Sealed(NamedTuple):
    """A block of the ledger, what sealed it, and the ledger after it."""

    block: Block
    seals: Seals
    after: Ledger


class Disk:
    """What survives: records of own votes of one height, and blocks. Records are framed."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.blocks: list[Sealed] = []
        self.said: set[bytes] = set()
        """Encoded messages that are on disk; only asked, never iterated."""

    def write(self, record: bytes) -> None:
        self.records.append(hashlib.sha256(record).digest()[:8] + record)

    def read(self) -> list[events.Persist]:
        """What was persisted; a last record that is not whole is cut off."""
        whole = [f[8:] for f in self.records if hashlib.sha256(f[8:]).digest()[:8] == f[:8]]
        del self.records[len(whole) :]
        return [decode_record(record) for record in whole]


def encode_record(effect: events.Persist) -> bytes:
    """A Persist as bytes."""
    parts = [encode_u32(len(effect.messages))]
    parts += [encode_bytes(encode_message(message)) for message in effect.messages]
    parts.append(encode_bytes(effect.block.encoded if effect.block else b""))
    parts.append(encode_u32(len(effect.prepares)))
    return b"".join([*parts, *map(encode_vote, effect.prepares)])


def decode_record(data: bytes) -> events.Persist:
    """The Persist that a record's bytes are."""
    reader = Reader(data, "record")
    messages = tuple(
        decode_message(reader.read_bytes(MESSAGE_LIMIT_BYTES)) for _ in range(reader.read_u32())
    )
    encoded = reader.read_bytes(BLOCK_LIMIT_BYTES)
    prepares = tuple(read_vote(reader, PREPARE) for _ in range(reader.read_u32()))
    return events.Persist(messages, decode_block(encoded) if encoded else None, prepares)


class Node:
    """A validator or observer that keeps to the protocol."""

    honest = True

    def __init__(self, world: World, number: int, key: KeyPair, genesis: Ledger) -> None:
        self.world = world
        self.number = number
        self.key = key
        self.genesis = genesis
        self.skew_ms = world.plan.skews_ms[number]
        self.disk = Disk()
        self.ledger = genesis
        self.pool = world.chain.Pool(genesis)
        self.stash: dict[int, bytes] = {}
        """By height: blocks that came before their turn, as the real node's sync keeps them."""
        self.up = False
        self.life = 0
        """Counts starts: what was set going in an earlier life does nothing in this one."""
        self.fuse: Crash | None = None
        self.effects_left = 0
        self.height_ms = 0
        self.timer = (0, 0, 0, 0)
        """Height, round, when it was set, when it runs out; the one timer of qbft."""
        self.unarmed: events.SetTimer | None = None
        """The timer's effect until it runs: until a quorum has come to its round."""
        self.state = world.protocol.make_state(world.chain_id, key)

    # What the world calls

    def start(self) -> None:
        """Begin with what is on disk."""
        world = self.world
        self.up = True
        self.life += 1
        self.fuse = None
        self.stash = {}
        self.timer, self.unarmed = (0, 0, 0, 0), None
        self.state = world.protocol.make_state(world.chain_id, self.key)
        self.ledger = self.disk.blocks[-1].after if self.disk.blocks else self.genesis
        self.pool = world.chain.Pool(self.ledger)
        records = self.disk.read()
        of_height = [record for record in records if self._is_of_height(record)]
        prepared = [record for record in of_height if record.block is not None]
        last = prepared[-1] if prepared else events.Persist(())
        messages = tuple(message for record in of_height for message in record.messages)
        world.log(self, f"starts at height {self.ledger.height} with {len(messages)} votes")
        self._begin(events.Recorded(messages, last.block, last.prepares))

    def receive(self, sender: int, data: bytes) -> None:
        """Bytes from the network."""
        if data.startswith(POLL):
            self._send_blocks(sender, int(data[len(POLL) :]))
            return
        message = self.world.decode(data)
        if message is None:
            return
        if isinstance(message, NewBlock):
            ahead = message.block.header.height - self.ledger.height
            if 0 < ahead <= 2 * BLOCKS_SENT_MAX:
                self.stash.setdefault(message.block.header.height, data)
                return
        self.feed(events.Received(message))

    def submit(self, transaction: bytes) -> None:
        """A client's transaction: a block is due."""
        self.pool.admit(transaction, self.get_now_ms())
        if self.pool.is_ready:
            self.feed(events.BlockTimeout(self.ledger.height))

    def crash(self, fate: str, down_ms: int, doing: events.Effect | None) -> None:
        """Stop here; `doing` is the effect in whose middle it is."""
        self.world.log(self, f"crashes, unsynced writes are {fate}")
        self.up = False
        self.life += 1
        if isinstance(doing, events.Persist) and fate != "lost":
            self._persist(doing)
            if fate == "torn":
                self.disk.records[-1] = self.disk.records[-1][: 9 + len(doing.messages)]
                self.disk.said.difference_update(map(encode_message, doing.messages))
        if isinstance(doing, events.Append) and fate == "kept":
            self.world.watch.upon_append(self, doing)
            self._write_block(doing)
        self.world.at(down_ms, self.start)

    # Steps and effects

    def get_now_ms(self) -> int:
        """Unix time by this node's clock."""
        return toychain.EPOCH_MS + self.world.now_ms + self.skew_ms

    def feed(self, event: events.Event) -> None:
        """One step, and what follows from it."""
        if not self.up:
            return
        now_ms = self.get_now_ms()
        self.world.watch.upon_event(self, event)
        self.state, effects = self.world.protocol.step(self.state, event, now_ms, self.is_valid)
        self.world.upon_step(self, event, now_ms, effects)
        for effect in effects:
            if self.fuse is not None:
                if self.effects_left == 0:
                    self.crash(self.fuse.fate, self.fuse.down_ms, effect)
                    return
                self.effects_left -= 1
            self._do(effect)
        self._arm()
        self.world.watch.upon_done(self)

    def is_valid(self, block: Block) -> bool:
        """The ledger's verdict."""
        return self.world.extend(self.ledger, block) is not None

    def _do(self, effect: events.Effect) -> None:
        world = self.world
        if isinstance(effect, events.Persist):
            self._persist(effect)
        elif isinstance(effect, events.Broadcast):
            self.broadcast(effect.message)
        elif isinstance(effect, events.SetTimer):
            self._set_timer(effect)
        elif isinstance(effect, events.Build):
            world.at(world.rng.choice((0, 1, 3, 20)), self._finish_build, self.life, effect)
        elif isinstance(effect, events.Append):
            self._append(effect)
        elif isinstance(effect, events.Lagging):
            self._send_blocks(world.get_number(effect.signer), effect.height)
        else:
            world.watch.upon_accuse(self, effect.evidence)
            world.upon_accuse(self, effect.evidence)

    def _persist(self, effect: events.Persist) -> None:
        self.world.watch.upon_persist(self, effect)
        self.disk.write(encode_record(effect))
        self.disk.said.update(map(encode_message, effect.messages))

    def broadcast(self, message: Message) -> None:
        """To all others, as the same bytes."""
        world = self.world
        world.watch.upon_broadcast(self, message)
        data = encode_message(message)
        world.log(self, "says", message)
        for number in range(len(world.nodes)):
            if number != self.number:
                world.send(self.number, number, data)

    def _set_timer(self, effect: events.SetTimer) -> None:
        world = self.world
        now = world.now_ms
        self.timer = (effect.height, effect.round, now, now + effect.delay_ms)
        self.unarmed = effect
        world.at(effect.delay_ms // 2, self._resend, self.life, self.timer)

    def _arm(self) -> None:
        """Start the timer, once a quorum is known to have come as far: as the real node does."""
        effect, world = self.unarmed, self.world
        if effect is not None and world.protocol.is_accompanied(self.state):
            self.unarmed = None
            world.at(effect.delay_ms, self._run_out, self.life, self.timer)

    def _run_out(self, life: int, timer: tuple[int, int, int, int]) -> None:
        if (life, timer) == (self.life, self.timer):
            self.world.log(self, f"is out of time in round {timer[1]}")
            self.feed(events.RoundTimeout(timer[0], timer[1]))

    def _resend(self, life: int, timer: tuple[int, int, int, int]) -> None:
        if (life, timer) == (self.life, self.timer):
            self.feed(events.Resend())
            if self.unarmed is not None:
                self.world.at(self.world.plan.base_timeout_ms, self._resend, life, timer)

    def _finish_build(self, life: int, effect: events.Build) -> None:
        if life == self.life and effect.height == self.ledger.height:
            waiting, now_ms = self.pool.take(), self.get_now_ms()
            block = self.world.chain.build(self.ledger, waiting, now_ms, self.key.public)
            self.feed(events.Built(effect.round, block))

    # Blocks

    def _append(self, effect: events.Append) -> None:
        self.world.log(self, f"has height {self.ledger.height} in round {effect.seals.round}")
        self.world.watch.upon_append(self, effect)
        self.timer, self.unarmed = (0, 0, 0, 0), None
        # Not synced yet: a crash until then may lose it.
        self.world.at(self.world.rng.randint(0, 3), self._sync_block, self.life, effect)

    def _sync_block(self, life: int, effect: events.Append) -> None:
        if life != self.life:
            return
        self._write_block(effect)
        self.disk.records.clear()
        self._begin(events.Recorded())

    def _write_block(self, effect: events.Append) -> None:
        after = self.world.extend(self.ledger, effect.block)
        assert after is not None, "qbft asked is_valid"
        self.ledger = after
        self.pool.upon_block(after, effect.block)
        self.disk.blocks.append(Sealed(effect.block, effect.seals, after))

    def _begin(self, recorded: events.Recorded) -> None:
        """The next height."""
        world, ledger = self.world, self.ledger
        self.height_ms = world.now_ms
        world.upon_height(self)
        self.feed(
            events.Start(
                ledger.header,
                ledger.hash,
                ledger.validators,
                world.plan.base_timeout_ms,
                recorded,
            )
        )
        next_block = self.stash.pop(ledger.height, None)
        if next_block is not None:
            world.at(0, world.deliver, self.number, self.number, next_block)
            if not self.stash:
                world.at(10, self._poll, self.life, ledger.height + 1)
        due_ms = 2 if self.pool.is_ready else BLOCK_INTERVAL_MS
        world.at(due_ms, self._block_due, self.life, ledger.height)
        world.at(STUCK_MS, self._poll, self.life, ledger.height)
        if self.key.public not in ledger.validators:
            world.at(BLOCK_INTERVAL_MS, self._poll, self.life, ledger.height)

    def _block_due(self, life: int, height: int) -> None:
        if life == self.life:
            self.feed(events.BlockTimeout(height))

    def _poll(self, life: int, height: int) -> None:
        """Ask somebody for the blocks that are missing here: the real node's sync."""
        world = self.world
        if (life, height) == (self.life, self.ledger.height):
            others = [number for number in range(len(world.nodes)) if number != self.number]
            if others:
                world.send(self.number, world.rng.choice(others), POLL + b"%d" % height)
                world.at(POLL_MS, self._poll, self.life, height)

    def _send_blocks(self, number: int | None, height: int) -> None:
        if number is None or height < 1:
            return
        for sealed in self.disk.blocks[height - 1 : height - 1 + BLOCKS_SENT_MAX]:
            data = encode_message(NewBlock(sealed.block, sealed.seals))
            self.world.send(self.number, number, data)

    def _is_of_height(self, record: events.Persist) -> bool:
        return all(message.vote.height == self.ledger.height for message in record.messages)
