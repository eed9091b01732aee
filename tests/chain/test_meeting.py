"""Validators are met by what the chain says of them, and only with the certificate it names."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from chainlite import keys
from chainlite.ledger.genesis import Member
from chainlite.net import tls
from chainlite.net.mesh import Mesh
from chainlite.net.registration import compute_certificate_hash
from chainlite.net.transport import PeerId
from docklock.chain.meeting import Meeting

NETWORK = bytes(32)
LIMIT_S = 10.0


class Node:
    """A mesh of its own, which knows nobody."""

    def __init__(self, directory: Path, number: int) -> None:
        self.key = keys.make_key_pair(bytes([number]) * 32)
        self.certificate = tls.make_certificate(directory / f"{number}.pem", self.key.public)
        self.peer = PeerId(self.key.public)
        rng = random.Random(number)
        self.mesh = Mesh(self.peer, NETWORK, self.certificate, ("127.0.0.1", 0), rng)
        self.told: list[str] = []

    def member(self, digest: bytes = b"") -> Member:
        found = digest or compute_certificate_hash(self.certificate.der)
        return Member(self.peer, "me", f"127.0.0.1:{self.mesh.port}", found)

    def meet(self, members: list[Member]) -> Meeting:
        return Meeting(self.mesh, NETWORK, lambda: members, self.told.append)


async def wait_for_all(*nodes: Node) -> None:
    up = asyncio.Event()

    def look(_: PeerId) -> None:
        if all(len(node.mesh.peers()) == len(nodes) - 1 for node in nodes):
            up.set()

    for node in nodes:
        node.mesh.watch(look, lambda _: None)
    look(nodes[0].peer)
    await asyncio.wait_for(up.wait(), LIMIT_S)


def test_a_genesis_is_enough_to_connect_all(tmp_path: Path) -> None:
    async def run() -> None:
        nodes = [Node(tmp_path, number) for number in (1, 2, 3)]
        for node in nodes:
            await node.mesh.start()
        members = [node.member() for node in nodes]
        meetings = [node.meet(members) for node in nodes]
        for meeting in meetings:
            meeting.look()
        await wait_for_all(*nodes)
        for meeting, node in zip(meetings, nodes, strict=True):
            await meeting.close()
            await node.mesh.close()
            assert node.told == []

    asyncio.run(run())


def test_who_shows_another_certificate_is_not_met_and_told_once(tmp_path: Path) -> None:
    async def run() -> None:
        one, other = Node(tmp_path, 1), Node(tmp_path, 2)
        for node in (one, other):
            await node.mesh.start()
        told = asyncio.Event()
        meeting = Meeting(
            one.mesh,
            NETWORK,
            lambda: [other.member(bytes(32))],
            lambda line: (one.told.append(line), told.set())[0],
        )
        meeting.look()
        meeting.look()
        await asyncio.wait_for(told.wait(), LIMIT_S)
        assert PeerId(other.peer) not in one.mesh.registrations()
        assert len(one.told) == 1 and "another certificate than the chain names" in one.told[0]
        await meeting.close()
        for node in (one, other):
            await node.mesh.close()

    asyncio.run(run())


def test_who_comes_up_later_is_met_then(tmp_path: Path) -> None:
    async def run() -> None:
        one, other = Node(tmp_path, 1), Node(tmp_path, 2)
        await other.mesh.start()
        members = [other.member()]
        port = other.mesh.port
        await other.mesh.close()
        await one.mesh.start()
        meeting = one.meet(members)
        meeting.look()
        rng = random.Random(5)
        other.mesh = Mesh(other.peer, NETWORK, other.certificate, ("127.0.0.1", port), rng)
        await other.mesh.start()
        back = other.meet([one.member()])
        back.look()
        await wait_for_all(one, other)
        for closing in (meeting, back):
            await closing.close()
        for node in (one, other):
            await node.mesh.close()

    asyncio.run(run())
