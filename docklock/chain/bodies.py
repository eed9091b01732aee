"""The BODIES channel of a node: what hosts offer is kept, what the chain says of a host is told.

Not here: verifying and keeping (chainlite.ledger.availability, in a process of its own that begins
with the first offer), what is said of it on the chain (chainlite.consensus.keeping), who offers
(docklock.submitter, doors). Invariant: only a validator or an archive keeps anything.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, cast

from chainlite import domains
from chainlite.consensus.keeping import Keeping
from chainlite.errors import PeerError, SpecError, StateError
from chainlite.ledger import records
from chainlite.ledger.availability import Availability
from chainlite.ledger.host_status import decode_want_host, encode_host_status, find_host_status
from chainlite.ledger.offer import Ack, encode_ack
from chainlite.net.transport import Channel

if TYPE_CHECKING:
    from collections.abc import Callable

    from chainlite.consensus.node import Node
    from chainlite.ledger.genesis import Member
    from chainlite.ledger.state import Executed
    from chainlite.net.transport import PeerId


class Bodies:
    """What one node does about bodies; belongs to its event loop."""

    def __init__(self, node: Node, key: bytes, directory: str, tell: Callable[[str], None]) -> None:
        """`key` is the node's public one, `directory` where bodies lie; `tell` hears of damage."""
        self._node, self._key, self._directory, self._tell = node, key, directory, tell
        self._availability: Availability | None = None
        self._keeping: Keeping | None = None
        self._opening: asyncio.Task[Availability] | None = None

    async def start(self) -> None:
        """Listen; go on with what is held from before."""
        self._node.transport.listen(Channel.BODIES, None, self._upon_request)
        if os.path.isdir(self._directory):
            await self._open()

    async def close(self) -> None:
        """Keep no more."""
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()
        if self._keeping is not None:
            self._keeping.close()
        if self._availability is not None:
            await self._availability.close()

    @property
    def receipts(self) -> int:
        """Receipts that were verified and kept since the start."""
        return self._availability.receipts if self._availability else 0

    def upon_block(self, executed: Executed) -> None:
        """A block is final."""
        if self._keeping is not None:
            self._keeping.upon_block(executed)

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
        if self._opening is None or (self._opening.done() and self._opening.exception()):
            self._opening = asyncio.ensure_future(self._begin())
        return await asyncio.shield(self._opening)

    async def _begin(self) -> Availability:
        self._availability = Availability(self._directory, self._tell, self._upon_held)
        await self._availability.start()
        self._keeping = Keeping(self._node, self._availability)
        return self._availability

    def _upon_held(self, ack: Ack) -> None:
        if self._keeping is not None:
            self._keeping.upon_held(ack)

    def _is_archive(self) -> bool:
        archives = cast("tuple[Member, ...]", self._node.ledger.find(records.ARCHIVES_KEY))
        return any(self._key == member.public for member in archives)
