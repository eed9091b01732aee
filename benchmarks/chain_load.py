"""Hosts that anchor as quickly as they are let, for the benchmark `chain`.

Run by `chain` as `chain_load.py DIRECTORY GENESIS_HEX single|batch SECONDS`: it prints its
registration on the mesh, reads the validators' from stdin, registers its hosts on the chain, prints
`registered`, signs enough transactions, and sends them, each host its own, to the validators in
turn, as many as the client's count, on stdin, leaves room for (OUTSTANDING). What is refused for
want of room is sent again.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections import deque
from pathlib import Path

from chain_node import Peer, open_stdin, read_line

from chainlite import keys, merkle
from chainlite.consensus.wire import FULL, decode_verdicts, encode_transactions
from chainlite.errors import StateError
from chainlite.ledger import operations as ops
from chainlite.ledger.genesis import compute_chain_id
from chainlite.ledger.tx import sign_tx
from chainlite.net.registration import encode_registration
from chainlite.net.transport import Channel, PeerId

HOSTS = 1_000
BATCH = 64
RATE_PER_S = {"single": 7_500, "batch": 60_000}
IN_FLIGHT = 4
SEND = 50
OUTSTANDING = {"single": 1_500, "batch": 60}
"""Transactions that were sent and that the client has not yet seen final."""


class Tree:
    """A log that grows by a leaf at a time: its root and the proof from the size before."""

    def __init__(self) -> None:
        self.leaves: list[bytes] = []

    def grow(self) -> tuple[int, bytes, bytes]:
        before = len(self.leaves)
        self.leaves.append(hashlib.sha256(before.to_bytes(8, "big")).digest())
        size = before + 1

        def read(level: int, number: int) -> bytes:
            return merkle.compute_root(self.leaves[number << level : (number + 1) << level])

        proof = merkle.compute_consistency(before, size, read) if before else ()
        return size, merkle.compute_root(self.leaves), b"".join(proof)


def make_anchors(count: int) -> list[ops.Anchor]:
    """The same growing log for every host: what is signed differs by host and nonce."""
    tree = Tree()
    return [ops.Anchor(*tree.grow()) for _ in range(count)]


class Load:
    """The hosts, and their connection to the validators."""

    def __init__(self, peer: Peer, chain_id: bytes) -> None:
        self.peer, self.chain_id = peer, chain_id
        self.keys = [
            keys.make_key_pair(hashlib.sha256(b"benchmark host %d" % number).digest())
            for number in range(HOSTS)
        ]
        self.validators: list[PeerId] = []
        self.sent = self.committed = 0
        self.outstanding = 0
        self.changed = asyncio.Event()

    async def send(self, validator: PeerId, encoded: list[bytes]) -> list[bytes]:
        """Those that there was no room for."""
        try:
            answer = await self.peer.mesh.request(
                validator, Channel.TRANSACTIONS, encode_transactions(encoded), 30.0
            )
        except StateError:
            return encoded
        verdicts = decode_verdicts(answer)
        return [tx for tx, verdict in zip(encoded, verdicts, strict=True) if verdict.kind == FULL]

    async def register(self) -> None:
        waiting = [
            sign_tx(key, self.chain_id, 0, [ops.Register("bench", bytes(32))]).encoded
            for key in self.keys
        ]
        while waiting:
            waiting = await self.send(self.validators[0], waiting[:500]) + waiting[500:]
        # An anchor is taken only from a host that the state has: asked until the first is.
        first = sign_tx(self.keys[-1], self.chain_id, 1, [make_anchors(1)[0]]).encoded
        while True:
            answer = await self.peer.mesh.request(
                self.validators[0], Channel.TRANSACTIONS, encode_transactions([first]), 30.0
            )
            if decode_verdicts(answer)[0].kind in (0, 1):
                return
            await asyncio.sleep(0.1)

    async def send_all(self, validator: PeerId, waiting: deque[bytes]) -> None:
        while waiting:
            while self.sent - self.committed > self.outstanding:
                self.changed.clear()
                await self.changed.wait()
            encoded = [waiting.popleft() for _ in range(min(SEND, len(waiting)))]
            self.sent += len(encoded)
            refused = await self.send(validator, encoded)
            waiting.extendleft(reversed(refused))
            self.sent -= len(refused)
            if refused:
                await asyncio.sleep(0.01)

    def hear(self, committed: str) -> None:
        """What the client has counted so far: so much more may be sent."""
        self.committed = int(committed)
        self.changed.set()


async def run(directory: Path, genesis: bytes, kind: str, seconds: float) -> None:
    stdin = await open_stdin()
    peer = Peer(directory, keys.make_key_pair(bytes(31) + b"l"), "load")
    await peer.mesh.start()
    print(encode_registration(peer.register()).hex(), flush=True)
    lines = (await read_line(stdin)).split()
    load = Load(peer, compute_chain_id(genesis))
    peer.meet(lines)
    while len(peer.mesh.peers()) < len(lines):
        await asyncio.sleep(0.05)
    load.validators = sorted(peer.mesh.peers())
    await load.register()
    count = int(RATE_PER_S[kind] * seconds)
    waiting: list[deque[bytes]] = [deque() for _ in load.validators]
    if kind == "single":
        rounds = count // (HOSTS - 1) + 1
        anchors = make_anchors(rounds)
        for nonce, anchor in enumerate(anchors, 1):
            for number, key in enumerate(load.keys[:-1]):
                tx = sign_tx(key, load.chain_id, nonce, [anchor])
                waiting[number % len(waiting)].append(tx.encoded)
    else:
        for number in range(count // BATCH):
            key = load.keys[number % (HOSTS - 1)]
            digests = [
                hashlib.sha256(b"%d %d" % (number, place)).digest() for place in range(BATCH)
            ]
            operations = [ops.Statement(digest) for digest in digests]
            tx = sign_tx(key, load.chain_id, 1 + number // (HOSTS - 1), operations)
            waiting[number % (HOSTS - 1) % len(waiting)].append(tx.encoded)
    print("registered", flush=True)
    load.hear(await read_line(stdin))
    load.sent = load.committed
    load.outstanding = OUTSTANDING[kind]
    senders = [
        load.send_all(validator, queue)
        for validator, queue in zip(load.validators, waiting, strict=True)
        for _ in range(IN_FLIGHT)
    ]
    sending = asyncio.gather(*senders)
    while line := await read_line(stdin):
        load.hear(line)
    sending.cancel()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), bytes.fromhex(sys.argv[2]), sys.argv[3], float(sys.argv[4])))
