"""A validator says which hosts' bodies it holds, which makes anchors available: a batch a block.

Not here: verifying and keeping bodies (chainlite.ledger.availability), when an anchor counts as
available (chainlite.ledger.rules). Invariants: an anchor is acknowledged only with the root that is
held, durably; one transaction of a node's is under way at a time, with all that is due; what is
lost is said again. Source: CHAIN.md, "Transactions, mempool, state".
"""

from __future__ import annotations

import asyncio

from chainlite.lean import TYPE_CHECKING
from chainlite.ledger import operations as ops
from chainlite.ledger import records
from chainlite.ledger.rules import get_acknowledged, get_points

if TYPE_CHECKING:
    from chainlite.consensus.node import Node
    from chainlite.ledger.availability import Availability
    from chainlite.ledger.offer import Ack
    from chainlite.ledger.state import Executed

BATCH_MAX = 1_024
"""Hosts in one transaction."""
AGAIN_S = 5.0
"""A transaction that is in no block after so long is not waited for."""


class Keeping:
    """Acknowledgements of one node; belongs to its event loop."""

    def __init__(self, node: Node, availability: Availability) -> None:
        """`availability`'s `upon_held` and the node's `on_block` are to call the two below."""
        self._node = node
        self._availability = availability
        self._due: dict[bytes, None] = dict.fromkeys(availability.get_hosts())
        self._under_way = b""
        self._timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Say nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def upon_held(self, ack: Ack) -> None:
        """A host is held further than before."""
        self._due[ack.host] = None
        self._say()

    def upon_block(self, executed: Executed) -> None:
        """A block is final: its anchors may be held, its transactions may be this node's."""
        for tx in executed.txs:
            if tx.hash == self._under_way:
                self._under_way = b""
            if any(isinstance(operation, ops.Anchor) for operation in tx.operations):
                self._due[tx.sender] = None
        self._say()

    def _say(self) -> None:
        node = self._node
        if self._under_way or not self._due or not node.is_voter or node.halted:
            return
        hosts = list(self._due)[:BATCH_MAX]
        for host in hosts:
            del self._due[host]
        operations = [found for host in hosts if (found := self._find(host)) is not None]
        if operations:
            self._under_way = node.submit_own(operations)
            self.close()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(AGAIN_S, self._again, hosts)
        elif self._due:
            self._say()

    def _find(self, host: bytes) -> ops.Available | None:
        """The newest anchor of a host that is held here and that this node has not yet said."""
        record = self._node.ledger.find(records.HOST + host)
        if not isinstance(record, records.Host):
            return None
        said = max(record.available, get_acknowledged(record, self._node.public))
        for size, root in reversed(list(get_points(record))):
            if size <= said:
                return None
            if self._availability.find_root(host, size) == root:
                return ops.Available(host, size, root)
        return None

    def _again(self, hosts: list[bytes]) -> None:
        self._under_way = b""
        self._due.update(dict.fromkeys(hosts))
        self._say()
