"""Final blocks from nodes of which none is believed, over real connections."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from chainlite import domains, keys
from chainlite.consensus.serving import Serving
from chainlite.consensus.wire import decode_want, encode_blocks
from chainlite.errors import SpecError, StateError
from chainlite.ledger.block import decode_block, make_block
from chainlite.ledger.genesis import decode_genesis
from chainlite.ledger.store import Store
from chainlite.net import tls
from chainlite.net.mesh import Mesh
from chainlite.net.registration import Address, Registration, sign_registration
from chainlite.net.transport import Channel, PeerId
from chainlite.proofs.light_client import LightClient, NotFinal
from chainlite.proofs.light_source import get_trusted
from chainlite.proofs.trusted import trust_genesis
from tests.consensus.nodes import HOST, NETWORK
from tests.proofs.test_light_source import NOW_MS, Made

WAIT_S = 10.0
FULL = 2
"""A block with transactions."""
Twist = Callable[[list[tuple[bytes, bytes]]], list[tuple[bytes, bytes]]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """A chain whose validators changed five times."""
    done = Made(tmp_path_factory.mktemp("chain") / "chain.db")
    yield done
    done.store.close()


class Node:
    """A registered node that answers as one with this store, twisted or not."""

    def __init__(self, work: Path, number: int, store: Store, twist: Twist | None = None) -> None:
        self.key = keys.make_key_pair(bytes([200 + number]) * 32)
        self.peer = PeerId(self.key.public)
        directory = tempfile.mkdtemp(dir=work)
        self.certificate = tls.make_certificate(Path(directory, "node.pem"), self.peer)
        self.mesh = Mesh(self.peer, NETWORK, self.certificate, (HOST, 0), random.Random(number))
        self.store, self.twist, self.asked = store, twist, list[int]()

    async def start(self) -> Registration:
        await self.mesh.start()
        self.mesh.listen(Channel.SYNC, lambda *_: None, self.answer)
        address = Address(HOST, self.mesh.port)
        unsigned = Registration(NETWORK, self.peer, 1, self.certificate.der, (address,), "test")
        return sign_registration(unsigned, self.key)

    async def answer(self, peer: PeerId, _: Channel, payload: bytes) -> bytes:
        if payload[:1] == domains.WANT_SNAPSHOT:
            return await Serving(self.store).answer(peer, payload)
        start = decode_want(payload).start
        self.asked.append(start)
        found = list(self.store.read_blocks(start, 512))
        return encode_blocks(self.twist(found) if self.twist else found)


def read(
    work: Path, made: Made, twists: list[Twist | None],
    do: Callable[[LightClient, list[Node]], Coroutine[Any, Any, None]],
    trusted_height: int = 0, now_ms: int = NOW_MS,
) -> None:  # fmt: skip
    """A reader who trusts this header, connected to a node for each twist."""

    async def run() -> None:
        nodes = [Node(work, at, made.store, twist) for at, twist in enumerate(twists)]
        me = Node(work, 50, made.store)
        registrations = [await node.start() for node in nodes]
        mine = await me.start()
        try:
            for node, registration in zip(nodes, registrations, strict=True):
                node.mesh.add_peer(mine)
                me.mesh.add_peer(registration)
            async with asyncio.timeout(WAIT_S):
                while len(me.mesh.peers()) < len(nodes):
                    await asyncio.sleep(0.01)
            trusted = get_trusted(made.store, trusted_height)
            await do(LightClient(me.mesh, trusted, lambda: now_ms), nodes)
        finally:
            for node in (*nodes, me):
                await node.mesh.close()

    asyncio.run(run())


def test_every_block_is_shown_however_the_validators_changed(made: Made, tmp_path: Path) -> None:
    top = made.store.height

    async def do(client: LightClient, nodes: list[Node]) -> None:
        for height in (top, 1, *random.Random(1).sample(range(1, top + 1), 9)):
            found = await client.get_block(height)
            assert found.block == made.store.get_block(height)[0]
            assert len(found.signers) >= 3
        count = len(nodes[0].asked)
        assert (await client.get_block(top)).block.header.height == top
        assert len(nodes[0].asked) == count, "what was checked is not asked for again"
        with pytest.raises(NotFinal):
            await client.get_block(top + 1)

    read(tmp_path, made, [None], do)


def test_what_is_trusted_is_where_it_begins_and_must_be_fresh(made: Made, tmp_path: Path) -> None:
    middle = made.store.height // 2

    async def from_middle(client: LightClient, _: list[Node]) -> None:
        with pytest.raises(NotFinal):
            await client.get_block(middle)
        assert (await client.get_block(middle + 1)).block.header.height == middle + 1

    async def stale(client: LightClient, _: list[Node]) -> None:
        with pytest.raises(SpecError, match="stale trust"):
            await client.get_block(1)

    read(tmp_path, made, [None], from_middle, middle)
    period = trust_genesis(decode_genesis(made.store.genesis)).period_ms
    read(tmp_path, made, [None], stale, 0, NOW_MS + period)


def cut_seals(found: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The seals of another block."""
    return [(block, found[-1][1]) for block, _ in found]


def add_transaction(found: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Sealed headers, with a transaction twice."""
    added = []
    for data, seals in found:
        block = decode_block(data)
        more = make_block(block.header, (*block.transactions, *block.transactions), block.poh)
        added.append((more.encoded, seals))
    assert found[0][0] != added[0][0]
    return added


def skip_one(found: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return found[1:]


@pytest.mark.parametrize("twist", [cut_seals, add_transaction, skip_one])
def test_a_node_that_lies_is_blamed_and_another_is_asked(
    made: Made, tmp_path: Path, twist: Twist
) -> None:
    async def alone(client: LightClient, nodes: list[Node]) -> None:
        with pytest.raises(StateError, match="does not hold|no node"):
            await client.get_block(FULL)
        with pytest.raises(StateError, match="no node"):
            await client.get_block(FULL)
        assert nodes[0].asked == [FULL], "it is not asked again"

    async def beside(client: LightClient, _: list[Node]) -> None:
        assert (await client.get_block(FULL)).block == made.store.get_block(FULL)[0]

    read(tmp_path, made, [twist], alone)
    read(tmp_path, made, [twist, None, twist], beside)


def test_a_node_that_is_behind_is_not_the_last_word(made: Made, tmp_path: Path) -> None:
    async def do(client: LightClient, _: list[Node]) -> None:
        assert (await client.get_block(3)).block.header.height == 3

    read(tmp_path, made, [lambda _: [], lambda _: [], None], do)
