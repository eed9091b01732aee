"""Who is let in: whom the chain names, who is listed, and anybody only where the owner says so."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from chainlite import keys
from chainlite.net import tls
from chainlite.net.mesh import Mesh
from chainlite.net.registration import Address, Registration, sign_registration
from chainlite.net.transport import PeerId
from docklock.chain.devnet import hold_ports
from docklock.chain.introducing import Introducing
from docklock.chain.settings import ANYBODY, NOBODY, NodeSettings

NETWORK = bytes(32)
LIMIT_S = 10.0


class Node:
    """A node that the chain of this test names, or not."""

    def __init__(self, directory: Path, number: int, port: int, settings: NodeSettings) -> None:
        self.key = keys.make_key_pair(bytes([number]) * 32)
        peer = PeerId(self.key.public)
        certificate = tls.make_certificate(directory / f"{number}.pem", peer)
        rng = random.Random(number)
        self.mesh = Mesh(peer, NETWORK, certificate, ("127.0.0.1", port), rng)
        unsigned = Registration(
            NETWORK, peer, 1, certificate.der, (Address("127.0.0.1", port),), "me"
        )
        self.registration = sign_registration(unsigned, self.key)
        self.told: asyncio.Queue[str] = asyncio.Queue()
        self.introducing = Introducing(
            self.mesh, self.registration, certificate, settings,
            lambda key: key in NAMED, self.told.put_nowait,
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        await self.mesh.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.introducing.close()
        await self.mesh.close()

    async def wait_up(self, other: Node) -> None:
        up = asyncio.Event()
        self.mesh.watch(lambda _: up.set(), lambda _: None)
        while other.mesh.me not in self.mesh.peers():
            await asyncio.wait_for(up.wait(), LIMIT_S)
            up.clear()


NAMED = {keys.make_key_pair(bytes([number]) * 32).public for number in (1, 2)}


def run(act: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(4 * LIMIT_S):
            await act()

    asyncio.run(bounded())


@pytest.fixture
def ports() -> Iterator[list[int]]:
    with hold_ports(4) as free:
        yield free


@pytest.mark.parametrize("admit", [NOBODY, ANYBODY])
def test_a_newcomer_is_let_in_where_anybody_is_and_else_not(
    tmp_path: Path, ports: list[int], admit: str
) -> None:
    first, second, third, door = ports
    place = Address("127.0.0.1", door)

    async def act() -> None:
        one = Node(tmp_path, 1, first, NodeSettings(introduce=place, admit=admit))
        two = Node(tmp_path, 2, second, NodeSettings(admit=admit))
        new = Node(tmp_path, 3, third, NodeSettings(introducers=(place,)))
        async with one, two, new:
            one.mesh.add_peer(two.registration)
            two.mesh.add_peer(one.registration)
            await one.introducing.start(())
            await two.introducing.start(())
            await one.wait_up(two)
            for known in (one, two):
                new.mesh.add_peer(known.registration)
            await new.introducing.start(())
            if admit == ANYBODY:
                await new.wait_up(one)
                await new.wait_up(two)  # whom `one` has told
            else:
                said = await asyncio.wait_for(new.told.get(), LIMIT_S)
                assert "no introducer answers" in said
                assert new.mesh.me not in one.mesh.registrations()

    run(act)


def test_who_is_listed_by_one_is_let_in_there_and_by_nobody_else(
    tmp_path: Path, ports: list[int]
) -> None:
    first, second, third, _ = ports

    async def act() -> None:
        one = Node(tmp_path, 1, first, NodeSettings())
        two = Node(tmp_path, 2, second, NodeSettings())
        new = Node(tmp_path, 3, third, NodeSettings())
        async with one, two, new:
            one.mesh.add_peer(two.registration)
            two.mesh.add_peer(one.registration)
            for node in (one, two, new):
                await node.introducing.start(())
            await one.wait_up(two)
            for known in (one, two):
                new.mesh.add_peer(known.registration)
            assert one.introducing.take(new.registration)
            await new.wait_up(one)
            assert new.mesh.me not in two.mesh.registrations()
            one.introducing.forget(new.mesh.me)
            assert one.introducing.take(new.registration), "it is news again"

    run(act)
