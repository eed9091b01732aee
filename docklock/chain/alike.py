"""Keepers of one host's bodies keep alike: what one of them missed it asks of the others.

Not here: the exchange (chainlite.net.gossip), verifying and keeping (chainlite.ledger), who offers
first (doors). Invariants: a node asks for hosts alone that have been offered to it, so bodies go to
the f + 1 whom a host has chosen and not to all; a log that has signed two histories is shown to
the chain by whoever votes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from chainlite import checkpoint
from chainlite.ledger import operations as ops
from chainlite.ledger import records
from chainlite.ledger.availability import parse_origin
from chainlite.ledger.body_origins import BodyOrigins
from chainlite.net.gossiping import Gossiping
from chainlite.net.origins import NO_KEYS, LogKeys

if TYPE_CHECKING:
    from collections.abc import Callable

    from chainlite.consensus.node import Node
    from chainlite.ledger.availability import Availability


TELL_EVERY_S = 1.0
"""How often the others are told of one host: they are offered the same at about the same time."""


class _Offered(BodyOrigins):
    """Of all hosts' logs those that were offered here."""

    def get_keys(self, origin: str) -> LogKeys:
        return super().get_keys(origin) if self.get_held(origin).size else NO_KEYS


class Alike:
    """The GOSSIP channel of one node; belongs to its event loop. Made once bodies are kept."""

    def __init__(
        self, node: Node, availability: Availability, forks: str, may_say: Callable[[], bool]
    ) -> None:
        """`forks` is where evidence is kept; `may_say` whether the node votes."""
        self._node, self._may_say = node, may_say
        self._grown: dict[str, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        store = _Offered(availability, self._find_publics, forks)
        self._gossiping = Gossiping(node.transport, store, self._upon_fork, lambda _: None)
        self._gossiping.start()

    def upon_held(self, host: bytes) -> None:
        """A host is held further than before: the others hear of it, soon."""
        self._grown[checkpoint.get_origin(host)] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TELL_EVERY_S, self._tell)

    async def close(self) -> None:
        """End; what was being fetched is asked for again by the next start."""
        if self._timer is not None:
            self._timer.cancel()
        await self._gossiping.close()

    def _tell(self) -> None:
        self._timer = None
        grown, self._grown = self._grown, {}
        for origin in grown:
            self._gossiping.tell_local(origin)

    def _find_publics(self, host: bytes) -> tuple[bytes, ...]:
        """The keys that the chain has of a host, the first one first."""
        find = self._node.ledger.find
        row = find(records.HOST + host)
        if not isinstance(row, records.Host):
            return ()
        found = [find(records.get_key_key(host, number)) for number in range(row.number + 1)]
        return tuple(key.public for key in found if isinstance(key, records.HostKey))

    def _upon_fork(self, origin: str, evidence: bytes) -> None:
        host = parse_origin(origin)
        row = self._node.ledger.find(records.HOST + host) if host is not None else None
        known = isinstance(row, records.Host) and row.status == records.FORKED
        if host is not None and row is not None and not known and self._may_say():
            self._node.submit_own([ops.ForkEvidence(host, evidence)])
