"""Anti-entropy over real connections: who was killed catches up; a fork's evidence is kept."""

from __future__ import annotations

import asyncio
from pathlib import Path

from chainlite import fork
from chainlite.net.gossiping import Gossiping
from chainlite.net.mesh import Mesh
from tests.net.logs import MemoryStore, Writer, make_item
from tests.net.nodes import WAIT_S, Identity, make_mesh

BODY_BYTES = 60_000


class Member:
    """A node that gossips, and keeps its store when it is closed and made again."""

    def __init__(self, identity: Identity, store: MemoryStore, port: int = 0) -> None:
        self.identity, self.store = identity, store
        self.mesh: Mesh = make_mesh(identity, port)
        self.forks: list[bytes] = []
        self.changed = asyncio.Event()
        self.gossiping = Gossiping(self.mesh, store, self._upon_fork, self._upon_grown)

    def _upon_fork(self, _: str, data: bytes) -> None:
        self.forks.append(data)
        self.changed.set()

    def _upon_grown(self, _: str) -> None:
        self.changed.set()

    async def start(self) -> None:
        await self.mesh.start()
        self.gossiping.start()

    async def close(self) -> None:
        await self.gossiping.close()
        await self.mesh.close()

    def count(self, origin: str) -> int:
        return self.store.get_held(origin).size

    async def until_has(self, origin: str, count: int) -> None:
        async with asyncio.timeout(WAIT_S):
            while self.count(origin) < count:
                self.changed.clear()
                await self.changed.wait()


def introduce(*members: Member) -> None:
    for one in members:
        registration = one.identity.register(one.mesh.port)
        for other in members:
            if other is not one:
                other.mesh.add_peer(registration)


def test_a_peer_that_was_away_catches_up_and_goes_on(tmp_path: Path) -> None:
    async def whole() -> None:
        writer = Writer(0)
        identities = [Identity(tmp_path, number) for number in range(3)]
        members = [Member(one, MemoryStore([writer])) for one in identities]
        try:
            for one in members:
                await one.start()
            introduce(*members)
            items = [make_item(number, size=BODY_BYTES) for number in range(150)]
            members[0].store.write(writer, items[:5])
            members[0].gossiping.tell_local(writer.origin)
            for one in members[1:]:
                await one.until_has(writer.origin, 5)

            port = members[2].mesh.port
            await members[2].close()
            members[0].store.write(writer, items[5:100])
            members[0].gossiping.tell_local(writer.origin)
            await members[1].until_has(writer.origin, 100)
            members[2] = Member(identities[2], members[2].store, port)
            await members[2].start()
            introduce(*members)
            await members[2].until_has(writer.origin, 100)
            members[0].store.write(writer, items[100:])
            members[0].gossiping.tell_local(writer.origin)
            for one in members[1:]:
                await one.until_has(writer.origin, 150)
                assert one.store.logs[writer.origin].items == items
                assert one.store.taken == {(writer.origin, n): 1 for n in range(150)}
        finally:
            for one in members:
                await one.close()

    asyncio.run(whole())


def test_a_fork_is_seen_and_its_evidence_kept(tmp_path: Path) -> None:
    async def whole() -> None:
        writer = Writer(0)
        stores = [MemoryStore([writer]) for _ in range(2)]
        stores[0].write(writer, [make_item(n) for n in range(20)])
        stores[1].write(writer, [make_item(n, salt=b"other " * (n > 10)) for n in range(30)])
        members = [Member(Identity(tmp_path, n), store) for n, store in enumerate(stores)]
        try:
            for one in members:
                await one.start()
            introduce(*members)
            async with asyncio.timeout(WAIT_S):
                for one in members:
                    while not one.forks:
                        one.changed.clear()
                        await one.changed.wait()
            for one in members:
                forked = fork.check_fork(one.forks[0])
                assert (forked.first.size, forked.second.size) == (20, 30)
                assert one.store.forks == set(one.forks)
                assert not one.store.taken
        finally:
            for one in members:
                await one.close()

    asyncio.run(whole())


def test_a_body_that_is_wrong_is_blamed_on_who_served_it(tmp_path: Path) -> None:
    async def whole() -> None:
        writer = Writer(0)
        stores = [MemoryStore([writer]) for _ in range(2)]
        stores[0].write(writer, [make_item(n) for n in range(20)])
        log = stores[0].logs[writer.origin]
        log.items[4] = log.items[4]._replace(body=b"rotten")
        members = [Member(Identity(tmp_path, n), store) for n, store in enumerate(stores)]
        try:
            for one in members:
                await one.start()
            introduce(*members)
            figures = members[1].mesh.figures().peers
            bad = members[0].identity.peer
            async with asyncio.timeout(WAIT_S):
                while not figures[bad].misdeeds:
                    await asyncio.sleep(0.01)
            assert figures[bad].last_misdeed == "a body is not what its leaf commits to"
            assert members[1].count(writer.origin) == 0
        finally:
            for one in members:
                await one.close()

    asyncio.run(whole())
