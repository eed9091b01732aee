"""A chain in this process that a submitter can be let at: a real ledger, real stores of bodies.

Not here: consensus; each `step` is a block that all nodes take (tests/ledger/samples.Chain).
"""

from __future__ import annotations

from pathlib import Path

from chainlite.errors import StateError
from chainlite.ledger import operations as ops
from chainlite.ledger import records
from chainlite.ledger.body_store import BodyStore
from chainlite.ledger.host_status import HostStatus, find_host_status
from chainlite.ledger.offer import Ack
from chainlite.ledger.tx import decode_tx, is_tx_signed
from tests.ledger.samples import VALIDATOR_KEYS, Chain


class Node:
    """One validator's door: what it is handed lies in `pool` until the next block."""

    def __init__(self, chain: Chain, number: int, directory: Path) -> None:
        self.chain, self.key = chain, VALIDATOR_KEYS[number]
        self.store = BodyStore(str(directory))
        self.pool: list[bytes] = []
        self.offers: list[bytes] = []
        self.acks: list[Ack] = []
        self.is_away = False

    @property
    def node(self) -> bytes:
        return self.key.public

    async def get_status(self, host: bytes) -> HostStatus:
        self.check()
        return find_host_status(self.chain.ledger, host)

    async def submit(self, tx: bytes) -> bytes:
        self.check()
        decoded = decode_tx(tx)
        assert is_tx_signed(decoded)
        self.pool.append(tx)
        return decoded.hash

    async def offer(self, data: bytes) -> Ack:
        self.check()
        self.offers.append(data)
        ack = self.store.take(data)
        self.acks.append(ack)
        return ack

    def check(self) -> None:
        if self.is_away:
            raise StateError("away")


class Nodes:
    """Four validators, one ledger."""

    def __init__(self, directory: Path, **parameters: int) -> None:
        self.chain = Chain(**parameters)
        self.all = [Node(self.chain, n, directory / str(n)) for n in range(4)]

    def step(self) -> int:
        """A block of what was handed in; then one of what the validators hold. Its height."""
        txs = [decode_tx(data) for node in self.all for data in node.pool]
        if txs:
            self.chain.take(*txs)
        said = []
        for node in self.all:
            node.pool.clear()
            held = [ops.Available(*one) for one in self.find_anchors(node)]
            if held:
                said.append(self.chain.sign(node.key, *held))
        if said:
            self.chain.step(*said)
        return self.chain.ledger.height

    def find_anchors(self, node: Node) -> list[tuple[bytes, int, bytes]]:
        """The anchors of the chain that are not available yet and whose bodies the node holds."""
        found = []
        for key, row in self.chain.ledger.get_items():
            if isinstance(row, records.Host) and row.size > row.available:
                host = key[len(records.HOST) :]
                if row.size <= node.store.get_size_root(host)[0]:
                    found.append((host, row.size, node.store.reader.compute_root(host, row.size)))
        return found

    def close(self) -> None:
        for node in self.all:
            node.store.close()
