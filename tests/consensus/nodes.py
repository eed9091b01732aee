"""Validators that run in one event loop, over real connections, with real files."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Callable
from pathlib import Path

from chainlite import keys, merkle
from chainlite.consensus.node import Node, Parts
from chainlite.consensus.wal import VoteLog
from chainlite.consensus.wire import Verdict
from chainlite.ledger import operations as ops
from chainlite.ledger.genesis import Genesis, Member, Parameters, encode_genesis
from chainlite.ledger.store import create, open_store
from chainlite.ledger.tx import Tx, sign_tx
from chainlite.net import tls
from chainlite.net.mesh import Mesh
from chainlite.net.registration import Address, Registration, sign_registration
from chainlite.net.transport import PeerId
from tests.consensus.samples import make_keys

HOST = "127.0.0.1"
NETWORK = hashlib.sha256(b"nodes of a test").digest()
WAIT_S = 30.0
QUICK = Parameters(block_interval_ms=50, base_timeout_ms=250)


def get_now_ms() -> int:
    return time.time_ns() // 1_000_000


class Place:
    """One node over all of its lives: its key, its files, and what runs of it now."""

    def __init__(self, directory: Path, key: keys.KeyPair, genesis: bytes, *, votes: bool) -> None:
        directory.mkdir()
        self.directory, self.key, self.genesis, self.votes = directory, key, genesis, votes
        self.peer = PeerId(key.public)
        self.certificate = tls.make_certificate(directory / "node.pem", self.peer)
        self.serial = 0
        self.skew_ms = 0
        self.node: Node | None = None
        self.mesh: Mesh | None = None

    async def listen(self) -> Registration:
        self.mesh = Mesh(
            self.peer, NETWORK, self.certificate, (HOST, 0), random.Random(self.key.public)
        )
        await self.mesh.start()
        self.serial += 1
        address = Address(HOST, self.mesh.port)
        unsigned = Registration(
            NETWORK, self.peer, self.serial, self.certificate.der, (address,), "test"
        )
        return sign_registration(unsigned, self.key)

    def run(self) -> Node:
        assert self.mesh is not None
        path = self.directory / "chain.db"
        self.store = open_store(path) if path.exists() else create(path, self.genesis)
        log = None
        if self.votes:
            log = VoteLog(self.directory / "votes", self.store.ledger.chain_id)
        key = self.key if self.votes else None
        self.log = log
        self.node = Node(
            Parts(self.store, self.mesh, log), key, lambda: get_now_ms() + self.skew_ms
        )
        self.node.start()
        return self.node

    async def stop(self) -> None:
        """As a kill would: nothing is written any more, nobody is told."""
        assert self.node is not None
        assert self.mesh is not None
        self.node.close()
        await self.mesh.close()
        self.store.tables.db.close()
        if self.log is not None:
            self.log.close()
        self.node = self.mesh = None


class Net:
    """Validators, and followers behind them in `places`."""

    def __init__(
        self, work: Path, count: int, followers: int = 0, parameters: Parameters = QUICK
    ) -> None:
        pairs = make_keys(count + followers)
        random.Random(count).shuffle(pairs)
        validators = sorted(pairs[:count], key=lambda pair: pair.public)
        members = tuple(Member(pair.public, "op", "host:1", bytes(32)) for pair in validators)
        genesis = encode_genesis(Genesis("test", get_now_ms(), parameters, members))
        self.places = [
            Place(work / f"node-{number}", pair, genesis, votes=number < count)
            for number, pair in enumerate([*validators, *pairs[count:]])
        ]
        self.count = count
        self.registrations: dict[int, Registration] = {}

    async def start(self, *numbers: int) -> None:
        """Start these, or all; whoever runs hears where they are."""
        numbers = numbers or tuple(range(len(self.places)))
        for number in numbers:
            self.registrations[number] = await self.places[number].listen()
        for number, place in enumerate(self.places):
            if place.mesh is not None:
                for other, registration in self.registrations.items():
                    if other != number:
                        place.mesh.add_peer(registration)
        for number in numbers:
            self.places[number].run()

    async def stop(self, *numbers: int) -> None:
        for number in numbers:
            await self.places[number].stop()

    async def close(self) -> None:
        for place in self.places:
            if place.node is not None:
                await place.stop()

    @property
    def nodes(self) -> list[Node]:
        return [place.node for place in self.places if place.node is not None]

    async def until(self, holds: Callable[[], bool], limit_s: float = WAIT_S) -> None:
        """Wait until it holds; looked at 100 times a second."""
        async with asyncio.timeout(limit_s):
            while not holds():
                await asyncio.sleep(0.01)

    async def rise(self, blocks: int = 3) -> int:
        """All that run get so many blocks further; the height that all have."""
        goal = max(node.height for node in self.nodes) + blocks
        await self.until(lambda: all(node.height >= goal for node in self.nodes))
        return goal

    def check_one_history(self) -> None:
        """All stores have the same block at every height that two of them have."""
        known: dict[int, bytes] = {}
        for node in self.nodes:
            for height in range(node.height + 1):
                found = node.get_hash(height)
                assert known.setdefault(height, found) == found

    def check_state_roots(self) -> None:
        """All that run have one state at the height that the lowest of them has."""
        height = min(node.height for node in self.nodes)
        roots = {node.read(height).block.header.state_root for node in self.nodes}
        assert len(roots) == 1
        for node in self.nodes:
            assert node.ledger.state_root == node.ledger.head.state_root


class Host:
    """A host that registers and anchors a log that grows by a leaf at a time."""

    def __init__(self, chain_id: bytes, number: int) -> None:
        self.key = keys.make_key_pair(hashlib.sha256(b"host %d" % number).digest())
        self.chain_id = chain_id
        self.nonce = 0
        self.leaves: list[bytes] = []

    @property
    def name(self) -> bytes:
        return keys.compute_host_id(self.key.public)

    def sign(self, *operations: ops.Operation) -> Tx:
        tx = sign_tx(self.key, self.chain_id, self.nonce, operations)
        self.nonce += 1
        return tx

    def register(self) -> Tx:
        return self.sign(ops.Register("op", bytes(32)))

    def anchor(self) -> Tx:
        before = len(self.leaves)
        self.leaves.append(hashlib.sha256(before.to_bytes(8, "big")).digest())

        def read(level: int, number: int) -> bytes:
            return merkle.compute_root(self.leaves[number << level : (number + 1) << level])

        proof = merkle.compute_consistency(before, before + 1, read) if before else ()
        return self.sign(ops.Anchor(before + 1, merkle.compute_root(self.leaves), b"".join(proof)))


async def submit(node: Node, *txs: Tx) -> list[Verdict]:
    return await node.submit([tx.encoded for tx in txs])
