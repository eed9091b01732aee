"""A validator in the test's own process that keeps what it hears: every vote, every height told.

It is one of the set, since votes go to validators alone, and it is never killed. It also puts
transactions in, so that blocks are full. Not here: processes (validators).
"""

from __future__ import annotations

import asyncio
import time

from chainlite.consensus.equivocation import is_conflict
from chainlite.consensus.messages import NewBlock, Vote, decode_message, get_votes, is_vote_signed
from chainlite.consensus.wire import decode_status
from chainlite.ledger.header import Seals
from chainlite.ledger.state import Executed
from chainlite.net.mesh import Mesh
from chainlite.net.transport import Channel, OnMessage, OnRequest, PeerId
from tests.consensus.nodes import Host
from tests.e2e.own_node import OwnNode
from tests.e2e.validators import Validators

HOSTS = 6
LOAD_EVERY_S = 0.08
HEARD_S = 120.0
"""After long without a quorum a round takes up to 30 s (qbft.TIMEOUT_MAX_MS)."""


class HearingMesh(Mesh):
    """A mesh that shows what comes before the node sees it."""

    heard: OnMessage

    def listen(
        self, channel: Channel, on_message: OnMessage | None = None,
        on_request: OnRequest | None = None,
    ) -> None:  # fmt: skip
        def hear(peer: PeerId, channel: Channel, payload: bytes) -> None:
            self.heard(peer, channel, payload)
            if on_message is not None:
                on_message(peer, channel, payload)

        super().listen(channel, hear, on_request)


class Listener(OwnNode):
    """Validator `number` of the chain; use with `async with`."""

    def __init__(self, validators: Validators, number: int) -> None:
        super().__init__(validators.directories[number], HearingMesh)
        self.validators = validators
        self.votes: dict[tuple[int, int, int, bytes], Vote] = {}
        self.conflicts: list[tuple[Vote, Vote]] = []
        self.told: dict[bytes, int] = {}
        self.went_back: list[tuple[bytes, int, int]] = []
        self.hashes: dict[int, bytes] = {}
        self.spoke: dict[bytes, float] = {}
        """When each validator's own word was last heard, on its present connection."""
        self.mesh.watch(lambda _: None, self._upon_down)
        self.transactions = 0
        self.longest = (0.0, 0, 0)
        """The longest wait for all to be heard: seconds, and its rounds at beginning and end."""
        assert isinstance(self.mesh, HearingMesh)
        self.mesh.heard = self._hear
        self.node.on_block = self._upon_block
        self._load: asyncio.Task[None] | None = None
        self._pending: dict[bytes, Host] = {}

    async def __aexit__(self, *error: object) -> None:
        if self._load is not None:
            self._load.cancel()
            await asyncio.gather(self._load, return_exceptions=True)
        await super().__aexit__(*error)

    # What is heard

    def _hear(self, peer: PeerId, channel: Channel, payload: bytes) -> None:
        if channel is Channel.SYNC:
            height = decode_status(payload).height
            before = self.told.get(peer, 0)
            if height < before:
                self.went_back.append((peer, before, height))
            self.told[peer] = max(height, before)
        elif channel is Channel.CONSENSUS:
            message = decode_message(payload)
            if isinstance(message, NewBlock):
                return
            if message.vote.signer == peer:
                self.spoke[peer] = time.monotonic()
            for vote in get_votes(message):
                self.note(vote)

    def _upon_down(self, peer: PeerId) -> None:
        self.spoke.pop(peer, None)

    def note(self, vote: Vote) -> None:
        """Compare it with what its signer said before."""
        place = (vote.kind, vote.height, vote.round, vote.signer)
        before = self.votes.setdefault(place, vote)
        if is_conflict(before, vote) and all(
            is_vote_signed(one, self.chain_id) for one in (before, vote)
        ):
            self.conflicts.append((before, vote))

    def _upon_block(self, executed: Executed, _seals: Seals) -> None:
        self.hashes[executed.block.header.height] = executed.block.hash
        self.transactions += len(executed.txs)
        for tx in executed.txs:
            self._pending.pop(tx.hash, None)

    def has_heard(self, number: int) -> bool:
        """Whether that validator has said something since it was last started."""
        since = self.validators.spawned.get(number, 0.0)
        return self.spoke.get(self.validators.publics[number], -1.0) > since

    async def until_heard(self, *numbers: int) -> None:
        """Until each of these has said something in its present life."""

        async def heard() -> bool:
            return all(map(self.has_heard, numbers))

        start = time.monotonic()
        round_then = self.node.round
        await self.validators.until(heard, HEARD_S)
        self.longest = max(self.longest, (time.monotonic() - start, round_then, self.node.round))

    # Load

    def start_load(self) -> None:
        self._load = asyncio.ensure_future(self._feed())

    async def _feed(self) -> None:
        hosts = [Host(self.chain_id, number) for number in range(HOSTS)]
        for host in hosts:
            await self._submit(host, register=True)
        turn = 0
        while True:
            await asyncio.sleep(LOAD_EVERY_S)
            host = hosts[turn % HOSTS]
            turn += 1
            if host not in self._pending.values():
                await self._submit(host, register=False)

    async def _submit(self, host: Host, *, register: bool) -> None:
        tx = host.register() if register else host.anchor()
        self._pending[tx.hash] = host
        await self.node.submit([tx.encoded])
