"""Final blocks of a chain, asked of its nodes by who believes none of them.

A block is what a quorum of its validators sealed, with the transactions and ticks that its header
names; the validators are those to whom what is trusted (a genesis, a header checkpoint) leads by
changes that are sealed themselves. Not here: the way to nodes (a transport, which its owner starts
and closes), the state after a block (chainlite.consensus.joining). Invariants: what is returned was
checked; a node that shows what does not hold is blamed and not asked again; one that is silent
costs its turn and a bounded time; what is kept is bounded.
Source: chainlite/proofs/README.md, "Light proof", for whom to believe.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from chainlite.consensus.following import is_body_of
from chainlite.consensus.joining import follow_changes
from chainlite.consensus.snapshot_wire import encode_want_snapshot
from chainlite.consensus.wire import WantBlocks, decode_blocks, encode_want
from chainlite.errors import SpecError, StateError, TamperError
from chainlite.net.transport import Channel, Unanswered
from chainlite.proofs.light import check_sealed
from chainlite.proofs.light_make import trim_seals
from chainlite.proofs.trusted import check_fresh

if TYPE_CHECKING:
    from collections.abc import Callable

    from chainlite.consensus.messages import NewBlock
    from chainlite.consensus.snapshot_wire import WantSnapshot
    from chainlite.ledger.block import Block
    from chainlite.ledger.header import Seals
    from chainlite.net.transport import PeerId, Transport
    from chainlite.proofs.trusted import Trusted

ANSWER_S = 10.0
PEERS_ASKED_MAX = 4
KEPT_MAX = 1024
KEPT_BYTES_MAX = 16 << 20
"""Of blocks that came together; the oldest go first."""
STEPS_MAX = 1024
"""Sets of validators that are remembered."""
WAITING_MAX = 32


class FinalBlock(NamedTuple):
    """A block that was checked, its seals, and who of its validators signed them."""

    block: Block
    seals: Seals
    signers: tuple[bytes, ...]


class NotFinal(StateError):
    """No node has shown a block of this height."""


class LightClient:
    """One reader of a chain; belongs to the event loop of its transport."""

    def __init__(
        self, transport: Transport, trusted: Trusted, get_now_ms: Callable[[], int]
    ) -> None:
        self._transport, self._get_now_ms = transport, get_now_ms
        self._steps = [trusted]
        self._kept: dict[int, FinalBlock] = {}
        self._kept_bytes = 0
        self._liars: set[PeerId] = set()
        self._turn, self._waiting = asyncio.Lock(), 0

    @property
    def chain_id(self) -> bytes:
        """Of the chain that it reads."""
        return self._steps[0].chain_id

    async def get_block(self, height: int) -> FinalBlock:
        """The final block of a height.

        NotFinal: there is none yet, or it is not after what is trusted. StateError: no node
        answers, or too many ask. SpecError: what is trusted is stale.
        """
        if height <= self._steps[0].height:
            raise NotFinal(f"block {height} is not after the one that is trusted here")
        check_fresh(self._steps[0], self._get_now_ms())
        found = self._kept.get(height)
        if found is not None:
            return found
        if self._waiting >= WAITING_MAX:
            raise StateError("too many blocks are asked for at once")
        self._waiting += 1
        try:
            async with self._turn:
                return self._kept.get(height) or await self._fetch(height)
        finally:
            self._waiting -= 1

    async def _fetch(self, height: int) -> FinalBlock:
        peers = sorted(self._transport.peers() - self._liars)[:PEERS_ASKED_MAX]
        why: StateError = StateError("no node of the chain is connected")
        for peer in peers:
            try:
                await self._fetch_from(peer, height)
                why = NotFinal(f"block {height} is not final yet")
            except Unanswered as error:
                why = error
            except (SpecError, TamperError) as error:
                self._liars.add(peer)
                self._transport.blame(peer, str(error))
                why = StateError(f"a node showed what does not hold: {error}")
            if height in self._kept:
                return self._kept[height]
        raise why

    async def _fetch_from(self, peer: PeerId, height: int) -> None:
        """Keep what a peer has from this height on, as far as all of it holds."""
        asked = encode_want(WantBlocks(height))
        found = decode_blocks(await self._transport.request(peer, Channel.SYNC, asked, ANSWER_S))
        for expected, message in enumerate(found, height):
            if message.block.header.height != expected or not is_body_of(message.block):
                raise SpecError("not the block that was asked for, or not its transactions")
            self._keep(expected, await self._check(peer, message))

    async def _check(self, peer: PeerId, message: NewBlock) -> FinalBlock:
        """The block; TamperError where no quorum of those who decide has sealed it."""
        height = message.block.header.height
        trusted = max(
            (step for step in self._steps if step.height < height), key=lambda step: step.height
        )
        try:
            return self._judge(message, trusted)
        except (SpecError, TamperError):  # then the validators are others by now

            async def ask(want: WantSnapshot) -> bytes:
                request = encode_want_snapshot(want)
                return await self._transport.request(peer, Channel.SYNC, request, ANSWER_S)

            step = await follow_changes(ask, trusted, height, self._get_now_ms)
            found = self._judge(message, step)
            if step.height > trusted.height and len(self._steps) < STEPS_MAX:
                self._steps.append(step)
            return found

    def _judge(self, message: NewBlock, trusted: Trusted) -> FinalBlock:
        """With the seals of a quorum, and no more, as in a light proof."""
        seals = trim_seals(message.seals, trusted.validators)
        signers = check_sealed(message.block.header, seals, trusted, self._get_now_ms())
        return FinalBlock(message.block, seals, signers)

    def _keep(self, height: int, found: FinalBlock) -> None:
        before = self._kept.pop(height, None)
        self._kept[height] = found
        self._kept_bytes += _measure(found) - (_measure(before) if before else 0)
        while len(self._kept) > KEPT_MAX or self._kept_bytes > KEPT_BYTES_MAX:
            oldest = next(iter(self._kept))
            self._kept_bytes -= _measure(self._kept.pop(oldest))


def _measure(found: FinalBlock) -> int:
    return len(found.block.encoded)
