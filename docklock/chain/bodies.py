"""What a validator does about the bodies of hosts' logs: keep them, and say on the chain it does.

An anchor counts once f + 1 have signed that they hold what it is of. Not here: verifying and
keeping (chainlite.ledger.availability, in a process of its own that begins with the first offer),
what an acknowledgement does (chainlite.ledger.rules), who offers (submitter, doors).
Invariants: nothing is acknowledged that is not durable here under the chain's own root; what waits
to be acknowledged is bounded.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, cast

from chainlite import domains
from chainlite.errors import PeerError, SpecError, StateError
from chainlite.ledger import operations as ops
from chainlite.ledger import records
from chainlite.ledger.availability import Availability
from chainlite.ledger.host_status import decode_want_host, encode_host_status, find_host_status
from chainlite.ledger.offer import Ack, encode_ack
from chainlite.net.transport import Channel
from docklock.chain.alike import Alike

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chainlite.consensus.node import Node
    from chainlite.ledger.genesis import Member
    from chainlite.ledger.tx import Tx
    from chainlite.net.transport import PeerId

PENDING_MAX = 100_000
"""Hosts whose last anchor this node has not yet acknowledged."""
OPERATIONS_MAX = 1_024
"""Acknowledgements in one transaction."""
AGAIN_S = 5.0
"""An acknowledgement that no block has after so long is signed again."""


class Bodies:
    """The BODIES channel of one node; belongs to its event loop."""

    def __init__(self, node: Node, key: bytes, directory: str, tell: Callable[[str], None]) -> None:
        """`key` is the node's public one; it acknowledges only while that may."""
        self._node, self._key, self._directory, self._tell = node, key, directory, tell
        self._availability: Availability | None = None
        self._starting: asyncio.Task[None] | None = None
        self._pending: dict[bytes, tuple[int, bytes]] = {}
        self._said: dict[bytes, tuple[int, float]] = {}
        self._timer: asyncio.Handle | None = None
        self.may_say = False
        """Whether the node votes, and so may acknowledge."""
        self._alike: Alike | None = None

    async def start(self) -> None:
        """Listen; go on with what is held from before."""
        self._node.transport.listen(Channel.BODIES, None, self._upon_request)
        if os.path.isdir(self._directory):
            await self._open()
        self._look()

    async def close(self) -> None:
        """Keep no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._alike is not None:
            await self._alike.close()
        if self._availability is not None:
            await self._availability.close()

    @property
    def receipts(self) -> int:
        """Receipts that were verified and kept since the start."""
        return self._availability.receipts if self._availability else 0

    def upon_block(self, txs: Sequence[Tx]) -> None:
        """Note the anchors of a final block's transactions, and acknowledge what is held."""
        if self._availability is None:
            return  # nothing is held yet; `_open` notes what the chain has by then
        for tx in txs:
            for operation in tx.operations:
                if isinstance(operation, ops.Anchor):
                    self._note(tx.sender, operation.size, operation.root)
                    self._schedule()

    async def take(self, offer: bytes) -> Ack:
        """Verify and keep an offer; errors as Availability's."""
        if self._key not in self._node.validators and not self._is_archive():
            raise StateError("this node keeps no bodies: it is no validator and no archive")
        return await (await self._open()).take(offer)

    async def _upon_request(self, _: PeerId, __: Channel, payload: bytes) -> bytes:
        if payload[:1] == domains.OFFER:
            return encode_ack(await self.take(payload))
        try:
            host = decode_want_host(payload)
        except SpecError as error:
            raise PeerError(str(error)) from None
        return encode_host_status(find_host_status(self._node.ledger, host))

    async def _open(self) -> Availability:
        """The keeper of bodies, which begins with the first that asks."""
        if self._availability is None:
            self._availability = Availability(self._directory, self._tell, self._upon_held)
            for key, row in self._node.ledger.get_items():
                if isinstance(row, records.Host) and row.size > row.available:
                    self._note(key[len(records.HOST) :], row.size, row.root)
            self._starting = asyncio.ensure_future(self._availability.start())
        assert self._starting is not None
        await asyncio.shield(self._starting)
        if self._alike is None:
            forks = f"{self._directory}/forks"
            self._alike = Alike(self._node, self._availability, forks, lambda: self.may_say)
        return self._availability

    def _is_archive(self) -> bool:
        archives = cast("tuple[Member, ...]", self._node.ledger.find(records.ARCHIVES_KEY))
        return any(self._key == member.public for member in archives)

    def _note(self, host: bytes, size: int, root: bytes) -> None:
        if host in self._pending or len(self._pending) < PENDING_MAX:
            self._pending[host] = (size, root)

    def _upon_held(self, ack: Ack) -> None:
        if ack.host in self._pending:
            self._schedule()
        if self._alike is not None:
            self._alike.upon_held(ack.host)

    def _schedule(self) -> None:
        """Look at the end of this turn of the loop: what comes together is signed together."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        """Acknowledge what the chain has anchored and this node holds; look again later."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(AGAIN_S, self._look)
        if not self.may_say or self._node.halted or self._availability is None:
            return
        now_s = loop.time()
        found = []
        for host, (size, root) in list(self._pending.items()):
            if self._is_settled(host, size):
                continue
            said_size, said_s = self._said.get(host, (0, 0.0))
            if said_size >= size and now_s - said_s < AGAIN_S:
                continue
            found += self._availability.make_available([(host, size, root)])
            if found and found[-1].host == host:
                self._said[host] = (size, now_s)
            if len(found) >= OPERATIONS_MAX:
                self._schedule()
                break
        if found:
            self._node.submit_own(found)

    def _is_settled(self, host: bytes, size: int) -> bool:
        """Whether the chain counts this anchor as available, so that nothing more is to be said."""
        row = self._node.ledger.find(records.HOST + host)
        if not isinstance(row, records.Host) or row.available < size:
            return False
        del self._pending[host]
        self._said.pop(host, None)
        return True
