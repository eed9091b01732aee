"""What only Zenoh can do wrong: others' messages in a node's name, old ones, no library."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import sys
from pathlib import Path

import pytest

from chainlite.errors import PeerError, StateError
from chainlite.net import envelope, frames
from chainlite.net.frames import Kind
from chainlite.net.transport import Channel, PeerId
from chainlite.net.zenoh import ZenohTransport
from chainlite.net.zenoh_session import Callbacks, Session, Settings
from tests.net.nodes import HOST, NETWORK, WAIT_S, Identity, Recorded, ZenohNode, find_port


def make_settings(identity: Identity, port: int) -> Settings:
    return Settings(identity.peer, NETWORK, identity.key, identity.certificate, (HOST, port))


def test_without_the_library_the_remedy_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zenoh", None)
    with pytest.raises(StateError, match="pip install"):
        ZenohTransport(make_settings(Identity(tmp_path, 0), 1), random.Random(1))


def test_who_can_reach_nobody_is_told(tmp_path: Path) -> None:
    settings = dataclasses.replace(make_settings(Identity(tmp_path, 0), 1), listen=None)
    with pytest.raises(StateError, match="needs a router"):
        ZenohTransport(settings, random.Random(1))


def test_a_router_that_is_not_there_is_said(tmp_path: Path) -> None:
    async def whole() -> None:
        settings = dataclasses.replace(
            make_settings(Identity(tmp_path, 0), 1), listen=None, routers=(f"tls/{HOST}:1",)
        )
        node = ZenohTransport(settings, random.Random(1))
        async with asyncio.timeout(WAIT_S):
            with pytest.raises(StateError, match="Zenoh cannot open"):
                await node.start()

    asyncio.run(whole())


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    async def whole() -> None:
        first = ZenohNode(Identity(tmp_path, 0), find_port())
        second = ZenohNode(Identity(tmp_path, 1), first.port)
        await first.start()
        try:
            with pytest.raises(StateError, match="Zenoh cannot open"):
                await second.start()
        finally:
            await second.close()
            await first.close()

    asyncio.run(whole())


def test_who_is_not_registered_is_not_let_in(tmp_path: Path) -> None:
    """TLS keeps it out: its liveliness, even, is never heard."""

    async def whole() -> None:
        inside, other, stranger = (Identity(tmp_path, number) for number in range(3))
        node = ZenohNode(inside, find_port())
        node.add_peer(other.register())
        await node.start()
        sessions, alive = list[Session](), dict[PeerId, set[PeerId]]()
        try:
            for who in (stranger, other):
                heard = alive[who.peer] = set()
                callbacks = Callbacks(
                    ignore, lambda peer, *_, heard=heard: heard.add(peer), ignore, ignore
                )
                loop = asyncio.get_running_loop()
                session = Session(make_settings(who, find_port()), bytes(8), (), callbacks, loop)
                sessions.append(session)
                address = f"tls/{HOST}:{node.port}"
                await asyncio.to_thread(session.open, (inside.certificate.der,), (address,))
            async with asyncio.timeout(WAIT_S):
                while inside.peer not in alive[other.peer]:
                    await asyncio.sleep(0.02)
            # Who came after the stranger has met the node; the stranger has not.
            assert inside.peer not in alive[stranger.peer]
            assert stranger.peer not in alive[other.peer]
        finally:
            for session in sessions:
                await asyncio.to_thread(session.close)
            await node.close()

    asyncio.run(whole())


def ignore(*_: object) -> None:
    pass


def make_sealed(sender: Identity, recipient: PeerId, counter: int, payload: bytes) -> bytes:
    frame = frames.encode_frame(Kind.MESSAGE, Channel.CONSENSUS, 0, payload)
    unsigned = envelope.encode_unsigned(sender.peer, b"instance", recipient, counter, frame)
    return envelope.sign_envelope(unsigned, NETWORK, sender.key)


def test_an_envelope_opens_only_as_it_was_signed(tmp_path: Path, seed: int, full: bool) -> None:
    one, other = Identity(tmp_path, 0), Identity(tmp_path, 1)
    data = make_sealed(one, other.peer, 7, b"vote")
    found = envelope.open_envelope(data, NETWORK)
    assert (found.sender, found.recipient, found.counter) == (one.peer, other.peer, 7)
    assert (found.instance, found.frame.payload) == (b"instance", b"vote")
    with pytest.raises(PeerError, match="not signed"):
        envelope.open_envelope(data, bytes(32))
    rng = random.Random(seed)
    for _ in range(20_000 if full else 500):
        wrong = bytearray(data)
        wrong[rng.randrange(len(wrong))] ^= 1 << rng.randrange(8)
        with pytest.raises(PeerError):
            envelope.open_envelope(bytes(wrong), NETWORK)
    for size in range(len(data)):
        with pytest.raises(PeerError):
            envelope.open_envelope(data[:size], NETWORK)


def test_signed_garbage_is_refused_too(tmp_path: Path) -> None:
    one = Identity(tmp_path, 0)
    for frame in (b"x", frames.PING + frames.PING, frames.PING[:-1], bytes(500)):
        unsigned = envelope.encode_unsigned(one.peer, b"instance", envelope.TO_ALL, 1, frame)
        with pytest.raises(PeerError):
            envelope.open_envelope(envelope.sign_envelope(unsigned, NETWORK, one.key), NETWORK)


def test_what_was_delivered_once_is_not_delivered_again(tmp_path: Path) -> None:
    """Nor what is of another instance, for somebody else, or from nobody who is registered."""

    async def whole() -> None:
        me, sender = Identity(tmp_path, 0), Identity(tmp_path, 1)
        node = ZenohNode(me, find_port())
        seen = Recorded(node)
        node.add_peer(sender.register())

        def deliver(data: bytes) -> None:
            node._upon_envelope(envelope.open_envelope(data, NETWORK), len(data))

        greeting = frames.encode_frame(Kind.WELCOME, Channel.CONTROL, 0, b"")
        unsigned = envelope.encode_unsigned(sender.peer, b"instance", me.peer, 1, greeting)
        hello = envelope.sign_envelope(unsigned, NETWORK, sender.key)
        early = make_sealed(sender, me.peer, 2, b"early")
        deliver(early)
        deliver(hello)
        assert not seen.ups  # it has greeted, but nothing says that it is alive
        node._upon_alive(sender.peer, b"instance", True)
        assert seen.ups == [sender.peer]
        data = [make_sealed(sender, me.peer, number, b"%d" % number) for number in range(2, 6)]
        for number in (0, 0, 2, 1, 3, 2, 3):
            deliver(data[number])
        deliver(make_sealed(sender, PeerId(bytes(31) + b"x"), 9, b"for another"))
        deliver(make_sealed(Identity(tmp_path, 5), me.peer, 9, b"of a stranger"))
        assert [payload for _, _, payload in seen.messages] == [b"2", b"4", b"5"]
        node._upon_alive(sender.peer, b"instance", False)
        deliver(make_sealed(sender, me.peer, 10, b"late"))
        deliver(hello)
        assert seen.downs == [sender.peer]
        assert len(seen.messages) == 3
        assert node.peers() == frozenset()

        node._upon_alive(sender.peer, b"instance", True)
        deliver(hello)
        assert len(seen.ups) == 2
        for _ in range(8):
            node.blame(sender.peer, "nonsense")
        assert len(seen.downs) == 2
        deliver(hello)  # who is left alone does not come back by greeting
        assert node.peers() == frozenset()

    asyncio.run(whole())


def test_a_router_carries_what_peers_that_do_not_reach_each_other_say(tmp_path: Path) -> None:
    """The router is a registered certificate that TLS lets in, and no peer."""

    async def whole() -> None:
        import zenoh

        first, second, middle = (Identity(tmp_path, number) for number in range(3))
        port = find_port()
        callbacks = Callbacks(ignore, ignore, ignore, ignore)
        plan = Session(
            make_settings(middle, port), bytes(8), (), callbacks, asyncio.get_running_loop()
        )
        config = plan._configure((first.certificate.der, second.certificate.der), ())
        router = await asyncio.to_thread(
            zenoh.open, zenoh.Config.from_json5(json.dumps(config | {"mode": "router"}))
        )
        nodes = []
        for identity in (first, second):
            settings = dataclasses.replace(
                make_settings(identity, 1), listen=None, routers=(f"tls/{HOST}:{port}",)
            )
            nodes.append(ZenohTransport(settings, random.Random(identity.number)))
        seen = [Recorded(node) for node in nodes]
        for node, other in zip(nodes, (second, first), strict=True):
            node.add_peer(other.register())  # without an address
            node.add_peer(middle.register())
        try:
            for node in nodes:
                await node.start()
            await seen[0].until_up(second.peer)
            await seen[1].until_up(first.peer)
            nodes[0].broadcast(Channel.GOSSIP, b"by way of the router")
            await seen[1].until(lambda: bool(seen[1].messages))
            assert seen[1].messages == [(first.peer, Channel.GOSSIP, b"by way of the router")]
            assert middle.peer not in nodes[0].peers()
        finally:
            for node in nodes:
                await node.close()
            await asyncio.to_thread(router.close)

    asyncio.run(whole())
