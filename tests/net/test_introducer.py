"""Newcomers ask an introducer and are met by all; lists of peers; who lies is not believed."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from chainlite.errors import PeerError, SpecError, StateError
from chainlite.net import introducer, introductions
from chainlite.net.introducer import Introducer, Introductions, ask_introducer
from chainlite.net.introductions import Directory, decode_introduction, encode_introduction
from chainlite.net.mesh import Mesh
from chainlite.net.peers_file import encode_listed, parse_peers
from chainlite.net.registration import Address, Registration
from tests.net.nodes import HOST, NETWORK, WAIT_S, Identity, make_mesh

Admit = Callable[[Registration], bool]


class Member:
    """A node that takes introductions."""

    def __init__(self, identity: Identity, admit: Admit = lambda _: True) -> None:
        self.identity = identity
        self.mesh: Mesh = make_mesh(identity)
        self.introductions = Introductions(self.mesh, NETWORK, Directory(), admit)
        self.ups = 0
        self.changed = asyncio.Event()
        self.mesh.watch(self._upon_up, lambda _: None)
        self.mine: Registration | None = None

    def _upon_up(self, _: object) -> None:
        self.changed.set()

    async def start(self) -> Registration:
        await self.mesh.start()
        self.mine = self.identity.register(self.mesh.port)
        self.introductions.take(self.mine)
        return self.mine

    async def until_up(self, count: int) -> None:
        async with asyncio.timeout(WAIT_S):
            while len(self.mesh.peers()) < count:
                self.changed.clear()
                await self.changed.wait()


@contextlib.asynccontextmanager
async def introducing(member: Member) -> AsyncIterator[Introducer]:
    made = Introducer(member.introductions, NETWORK, member.identity.certificate, (HOST, 0))
    await made.start()
    try:
        yield made
    finally:
        await made.close()


def test_newcomers_meet_all_others_through_one_introducer(tmp_path: Path) -> None:
    async def whole() -> None:
        members = [Member(Identity(tmp_path, number)) for number in range(5)]
        first = await members[0].start()
        try:
            async with introducing(members[0]) as door:
                for one in members[1:]:
                    mine = await one.start()
                    told = await ask_introducer(
                        mine, one.identity.certificate, [first],
                        [Address("no such host", 1), Address("localhost", door.port)],
                    )  # fmt: skip
                    for registration in told:
                        one.introductions.take(registration)
                for one in members:
                    await one.until_up(len(members) - 1)
                assert door.refused == 0
        finally:
            for one in members:
                await one.mesh.close()

    asyncio.run(whole())


def test_who_is_not_admitted_is_told_nothing(tmp_path: Path) -> None:
    async def whole() -> None:
        member, newcomer = Member(Identity(tmp_path, 0), lambda _: False), Identity(tmp_path, 1)
        mine = await member.start()
        try:
            async with introducing(member) as door:
                with pytest.raises(StateError, match="no introducer answers"):
                    await ask_introducer(
                        newcomer.register(9), newcomer.certificate, [mine],
                        [Address(HOST, door.port)],
                    )  # fmt: skip
                assert door.refused == 1
                assert not member.mesh.registrations()
        finally:
            await member.mesh.close()

    asyncio.run(whole())


def test_an_introducer_is_known_by_its_certificate(tmp_path: Path) -> None:
    async def whole() -> None:
        member, newcomer = Member(Identity(tmp_path, 0)), Identity(tmp_path, 1)
        await member.start()
        expected = Identity(tmp_path, 2).register(9)
        try:
            async with introducing(member) as door:
                with pytest.raises(StateError, match="certificate"):
                    await ask_introducer(
                        newcomer.register(9), newcomer.certificate, [expected],
                        [Address(HOST, door.port)],
                    )  # fmt: skip
                assert not member.mesh.registrations()
        finally:
            await member.mesh.close()

    asyncio.run(whole())


def test_what_is_no_introduction_is_refused_and_counted(tmp_path: Path) -> None:
    async def whole() -> None:
        member, stranger = Member(Identity(tmp_path, 0)), Identity(tmp_path, 1)
        await member.start()
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        two = encode_introduction([stranger.register(1), Identity(tmp_path, 2).register(1)])
        try:
            async with introducing(member) as door:
                for count, data in enumerate(
                    (b"garbage", b"", two, bytes(introducer.ASKED_BYTES_MAX + 1))
                ):
                    reader, writer = await asyncio.open_connection(HOST, door.port, ssl=context)
                    writer.write(len(data).to_bytes(4, "big") + data)
                    async with asyncio.timeout(WAIT_S):
                        assert await reader.read() == b""
                    writer.close()
                    assert door.refused == count + 1
                assert not member.mesh.registrations()
        finally:
            await member.mesh.close()

    asyncio.run(whole())


def test_a_peer_that_tells_what_no_node_signed_is_blamed(tmp_path: Path) -> None:
    member = Identity(tmp_path, 0)
    data = encode_introduction([member.register(80)])
    assert decode_introduction(data, NETWORK)[0].node == member.peer
    rng = random.Random(1)
    for _ in range(300):
        wrong = bytearray(data)
        wrong[rng.randrange(len(wrong))] ^= 1 << rng.randrange(8)
        with pytest.raises(PeerError):
            decode_introduction(bytes(wrong), NETWORK)


def test_a_directory_keeps_the_newest_and_tells_it_in_bounded_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(introductions, "TOLD_MAX", 2)
    monkeypatch.setattr(introductions, "DIRECTORY_MAX", 5)
    directory, nodes = Directory(), [Identity(tmp_path, number) for number in range(6)]
    old = [node.register(1) for node in nodes]
    new = [node.register(2) for node in nodes]
    assert [directory.add(one) for one in old] == [True] * 5 + [False]
    assert directory.add(new[0])
    assert not directory.add(old[0])
    assert set(directory.get_all()) == {new[0], *old[1:5]}
    assert [len(page) for page in directory.get_pages()] == [2, 2, 1]
    directory.remove(nodes[1].peer)
    assert directory.add(new[5])
    monkeypatch.setattr(introductions, "INTRODUCTION_BYTES_MAX", 800)
    assert [len(page) for page in directory.get_pages()] == [1] * 5
    assert Directory().get_pages() == [()]


def test_a_list_of_peers_is_read(tmp_path: Path) -> None:
    one, other = Identity(tmp_path, 0).register(80), Identity(tmp_path, 1).register(81)
    text = encode_listed(one) + encode_listed(other)
    text += 'addresses = ["peers.example:7000", "[::1]:7001"]\nintroducer = ["10.0.0.1:7002"]\n'
    found = parse_peers(text.encode(), "peers.toml", NETWORK)
    assert [peer.registration for peer in found] == [one, other]
    assert found[0].get_local() == one
    assert found[1].get_local().addresses == (
        Address("peers.example", 7000), Address("::1", 7001),
    )  # fmt: skip
    assert found[1].introducer == (Address("10.0.0.1", 7002),)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["port = 1"], "line 1: port: unknown key"),
        (["[[peer]]", "name = 'x'"], "line 2: name: unknown key"),
        (["[[peer]]", "", "[[peer]]"], "line 1: registration: want the base64"),
        (["[[peer]]", "registration = 'AA=='"], "line 2: registration: "),
        (["ONE", "ONE"], "line 4: registration: this node is listed already"),
        (["ONE", "addresses = ['host']"], "line 3: addresses: want HOST:PORT"),
        (["ONE", "addresses = ['host:0']"], "line 3: addresses: want HOST:PORT"),
        (["ONE", "addresses = ['::1:80']"], "line 3: addresses: want HOST:PORT"),
        (["ONE", "addresses = ['ho st:80']"], "line 3: addresses: want HOST:PORT"),
        (["ONE", "introducer = 'host:80'"], "line 3: introducer: want at most 8 texts"),
    ],
)
def test_an_error_in_a_list_of_peers_names_line_and_key(
    tmp_path: Path, lines: list[str], why: str
) -> None:
    one = encode_listed(Identity(tmp_path, 0).register(80)).rstrip()
    text = "\n".join(one if line == "ONE" else line for line in lines)
    with pytest.raises(SpecError) as caught:
        parse_peers(text.encode(), "peers.toml", NETWORK)
    assert str(caught.value).startswith(f"peers.toml: {why}")
