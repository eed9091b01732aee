"""One validator of the benchmark `chain`, in its own process: a node on loopback, disk and TLS on.

Run by `chain` as `chain_node.py DIRECTORY NUMBER BLOCK_INTERVAL_MS`. It prints its registration in
hex; reads the genesis and everybody's registrations in hex, one a line, from stdin; prints `ready`
when the node runs, and its figures as JSON when stdin ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import resource
import sys
import time
from pathlib import Path

from chainlite import keys
from chainlite.consensus.node import Node, Parts
from chainlite.consensus.wal import VoteLog
from chainlite.ledger.store import create
from chainlite.net import tls
from chainlite.net.mesh import Mesh
from chainlite.net.registration import (
    Address,
    Registration,
    decode_registration,
    encode_registration,
    sign_registration,
)
from chainlite.net.transport import PeerId
from docklock.chain.bodies import Bodies
from docklock.chain.collector import calm_collector

HOST = "127.0.0.1"
NETWORK = hashlib.sha256(b"benchmark chain").digest()


def make_key(number: int) -> keys.KeyPair:
    return keys.make_key_pair(hashlib.sha256(b"benchmark validator %d" % number).digest())


class Peer:
    """A node on the mesh: who it is and how it is reached."""

    def __init__(self, directory: Path, key: keys.KeyPair, name: str) -> None:
        self.key = key
        self.peer = PeerId(key.public)
        certificate = tls.make_certificate(directory / f"{name}.pem", self.peer)
        self.certificate = certificate
        self.mesh = Mesh(self.peer, NETWORK, certificate, (HOST, 0), random.Random(key.public))

    def register(self) -> Registration:
        address = Address(HOST, self.mesh.port)
        unsigned = Registration(
            NETWORK, self.peer, int(time.time()), self.certificate.der, (address,), "bench"
        )
        return sign_registration(unsigned, self.key)

    def meet(self, lines: list[str]) -> None:
        for line in lines:
            other = decode_registration(bytes.fromhex(line), NETWORK)
            if other.node != self.peer:
                self.mesh.add_peer(other)


def get_now_ms() -> int:
    return time.time_ns() // 1_000_000


async def read_line(reader: asyncio.StreamReader) -> str:
    return (await reader.readline()).decode().strip()


async def open_stdin() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=1 << 26)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return reader


async def run(directory: Path, number: int) -> None:
    stdin = await open_stdin()
    peer = Peer(directory, make_key(number), f"validator-{number}")
    await peer.mesh.start()
    print(encode_registration(peer.register()).hex(), flush=True)
    genesis = bytes.fromhex(await read_line(stdin))
    peer.meet((await read_line(stdin)).split())
    store = create(directory / f"chain-{number}.db", genesis)
    votes = VoteLog(directory / f"votes-{number}", store.ledger.chain_id)
    node = Node(Parts(store, peer.mesh, votes), peer.key, get_now_ms)
    bodies = Bodies(node, peer.key.public, str(directory / f"bodies-{number}"), print)
    bodies.may_say = True
    node.on_block = lambda executed, _: bodies.upon_block(executed.txs)
    node.start()
    await bodies.start()
    calm_collector()
    print("ready", flush=True)
    await read_line(stdin)
    used = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "height": node.height, "halted": node.halted, "waits_for": node.waits_for,
        "cpu_s": used.ru_utime + used.ru_stime, "memory_mb": used.ru_maxrss / 1000,
        "mempool": len(node.mempool),
    }  # fmt: skip
    node.close()
    await bodies.close()
    await peer.mesh.close()
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2])))
