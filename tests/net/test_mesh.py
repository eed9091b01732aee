"""What only the mesh can do wrong: certificates, greetings, connections, bytes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import ssl
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from chainlite.errors import SpecError, StateError
from chainlite.net import frames, tls
from chainlite.net.frames import Greeting, Kind
from chainlite.net.mesh import Mesh
from chainlite.net.transport import (
    HANDSHAKES_MAX,
    PAYLOAD_BYTES_MAX,
    QUEUE_BYTES_MAX,
    REQUESTS_IN_FLIGHT_MAX,
    Channel,
    PeerId,
)
from tests.net.nodes import HOST, NETWORK, WAIT_S, Identity, Recorded, make_mesh

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def running(identity: Identity, port: int = 0, *, seed: int = 1) -> AsyncIterator[Recorded]:
    mesh = make_mesh(identity, port, seed=seed)
    seen = Recorded(mesh)
    await mesh.start()
    try:
        yield seen
    finally:
        await mesh.close()


def get_port(seen: Recorded) -> int:
    assert isinstance(seen.transport, Mesh)
    return seen.transport.port


@contextlib.asynccontextmanager
async def connected(
    who: Identity, seen: Recorded, context: ssl.SSLContext | None = None
) -> AsyncIterator[Streams]:
    """A client that speaks TLS as `who`, and whatever it likes inside."""
    context = context or make_client_context(who)
    reader, writer = await asyncio.open_connection(HOST, get_port(seen), ssl=context)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def make_client_context(who: Identity) -> ssl.SSLContext:
    context = tls.make_context(who.certificate, [], server_side=False)
    context.verify_mode = ssl.CERT_NONE
    return context


async def until_hung_up(reader: asyncio.StreamReader) -> bytes:
    """What came before the other side hung up."""
    data = bytearray()
    async with asyncio.timeout(WAIT_S):
        try:
            while part := await reader.read(65536):
                data += part
        except (ssl.SSLError, OSError):
            pass
    return bytes(data)


def greet(who: Identity, network: bytes = NETWORK, node: PeerId | None = None) -> bytes:
    return frames.encode_greeting(Greeting(network, node or who.peer, b"instance"))


def run_pair(
    directory: Path, body: Callable[[Recorded, Identity, Identity], Awaitable[None]]
) -> None:
    """A mesh, its identity, and another identity, registered with it, that a test plays."""

    async def whole() -> None:
        # The mesh has the smaller key: it welcomes.
        mine, other = sorted((Identity(directory, 0), Identity(directory, 1)), key=get_key)
        async with running(mine) as seen:
            seen.transport.add_peer(other.register())
            await body(seen, mine, other)

    asyncio.run(whole())


def get_key(identity: Identity) -> bytes:
    return identity.peer


def test_an_unregistered_certificate_is_refused(tmp_path: Path) -> None:
    async def body(seen: Recorded, mine: Identity, other: Identity) -> None:
        stranger = Identity(tmp_path, 2)
        async with connected(stranger, seen) as (reader, writer):
            writer.write(greet(stranger))
            assert await until_hung_up(reader) == b""
        figures = seen.transport.figures()
        assert figures.strangers == 1
        assert "TLS" in figures.last_stranger
        assert not seen.ups

    run_pair(tmp_path, body)


def test_a_certificate_that_a_registered_one_signed_is_refused(tmp_path: Path) -> None:
    """A trust anchor that is an authority vouches for others as far as OpenSSL is concerned."""
    from tests.net.authority import make_authority

    async def whole() -> None:
        mine, other = Identity(tmp_path, 0), Identity(tmp_path, 1)
        authority, leaf = make_authority(tmp_path)
        other.certificate = authority
        async with running(mine) as seen:
            assert seen.transport.add_peer(other.register())
            other.certificate = leaf
            async with connected(other, seen) as (reader, writer):
                writer.write(greet(other))
                assert await until_hung_up(reader) == b""
            assert "another certificate" in seen.transport.figures().last_stranger

    asyncio.run(whole())


def test_no_certificate_is_refused(tmp_path: Path) -> None:
    async def body(seen: Recorded, mine: Identity, other: Identity) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        async with connected(other, seen, context) as (reader, writer):
            writer.write(greet(other))
            assert await until_hung_up(reader) == b""
        assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in seen.transport.figures().last_stranger

    run_pair(tmp_path, body)


def test_tls_1_2_is_refused(tmp_path: Path) -> None:
    async def body(seen: Recorded, mine: Identity, other: Identity) -> None:
        context = make_client_context(other)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, OSError)):
            async with connected(other, seen, context):
                pass
        await seen.until(lambda: True)
        assert seen.transport.figures().strangers == 1
        assert "PROTOCOL" in seen.transport.figures().last_stranger

    run_pair(tmp_path, body)


def test_a_greeting_as_another_node_is_refused(tmp_path: Path) -> None:
    async def body(seen: Recorded, mine: Identity, other: Identity) -> None:
        for greeting in (greet(other, node=PeerId(bytes(32))), greet(other, network=bytes(32))):
            async with connected(other, seen) as (reader, writer):
                writer.write(greeting)
                await until_hung_up(reader)
            last = seen.transport.figures().peers[other.peer].last_misdeed
            assert last == "a greeting of another node or network"
        assert seen.transport.figures().peers[other.peer].misdeeds == 2
        assert not seen.ups

    run_pair(tmp_path, body)


def test_a_node_that_answers_at_anothers_address_is_not_taken_for_it(tmp_path: Path) -> None:
    async def whole() -> None:
        dialler, wanted, found = (Identity(tmp_path, number) for number in range(3))
        async with running(found) as there, running(dialler) as here:
            there.transport.add_peer(dialler.register())
            here.transport.add_peer(found.register())  # it is known, but not as `wanted`
            here.transport.add_peer(wanted.register(get_port(there)))
            async with asyncio.timeout(WAIT_S):
                while not here.transport.figures().strangers:
                    await asyncio.sleep(0.01)
            assert "another certificate" in here.transport.figures().last_stranger
            assert not here.ups

    asyncio.run(whole())


def test_nothing_is_delivered_before_the_welcome(tmp_path: Path) -> None:
    async def body(seen: Recorded, mine: Identity, other: Identity) -> None:
        message = frames.encode_frame(Kind.MESSAGE, Channel.CONSENSUS, 0, b"early")
        for early in (message, message + greet(other), greet(other) + frames.WELCOME):
            async with connected(other, seen) as (reader, writer):
                writer.write(early)
                await until_hung_up(reader)
        assert not seen.messages
        assert seen.transport.figures().peers[other.peer].misdeeds == 3

    run_pair(tmp_path, body)


def test_garbage_inside_tls_is_counted_and_ends_the_connection(tmp_path: Path) -> None:
    async def body(seen: Recorded, mine: Identity, other: Identity) -> None:
        head = frames.HEAD
        for count, garbage in enumerate(
            (
                head.pack(PAYLOAD_BYTES_MAX + 1, Kind.MESSAGE, Channel.BODIES, 0),
                head.pack(0, 99, Channel.BODIES, 0),
                head.pack(0, Kind.MESSAGE, 99, 0),
                head.pack(0, Kind.MESSAGE, Channel.BODIES, 7),
                head.pack(0, Kind.REQUEST, Channel.BODIES, 0),
                head.pack(1, Kind.PING, Channel.CONTROL, 0) + b"x",
                head.pack(0, Kind.WELCOME, Channel.CONTROL, 0),
            )
        ):
            async with connected(other, seen) as (reader, writer):
                writer.write(greet(other))
                await seen.until(lambda count=count: len(seen.ups) == count + 1)
                writer.write(garbage)
                await until_hung_up(reader)
            assert seen.transport.figures().peers[other.peer].misdeeds == count + 1
            assert len(seen.downs) == count + 1

    run_pair(tmp_path, body)


def test_who_repeats_misdeeds_is_not_let_in_again(tmp_path: Path) -> None:
    async def body(seen: Recorded, mine: Identity, other: Identity) -> None:
        async with connected(other, seen) as (reader, writer):
            writer.write(greet(other))
            await seen.until_up(other.peer)
            unasked = frames.encode_frame(Kind.ANSWER, Channel.SYNC, 1, b"")
            writer.write(unasked * 100)
            await until_hung_up(reader)
        assert seen.transport.figures().peers[other.peer].misdeeds == 8
        async with connected(other, seen) as (reader, writer):
            writer.write(greet(other))
            assert await until_hung_up(reader) == b""
        assert seen.ups == seen.downs == [other.peer]

    run_pair(tmp_path, body)


def test_bytes_that_are_not_tls_are_counted_as_a_strangers(tmp_path: Path, seed: int) -> None:
    async def body(seen: Recorded, mine: Identity, other: Identity) -> None:
        rng = random.Random(seed)
        for count in range(20):
            reader, writer = await asyncio.open_connection(HOST, get_port(seen))
            writer.write(b"GET / HTTP/1.1\r\n\r\n" if not count else rng.randbytes(4000))
            await until_hung_up(reader)
            writer.close()
            assert seen.transport.figures().strangers == count + 1

    run_pair(tmp_path, body)


def test_handshakes_are_bounded_in_number(tmp_path: Path) -> None:
    async def body(seen: Recorded, mine: Identity, other: Identity) -> None:
        silent = [
            await asyncio.open_connection(HOST, get_port(seen)) for _ in range(HANDSHAKES_MAX)
        ]
        reader, writer = await asyncio.open_connection(HOST, get_port(seen))
        assert await until_hung_up(reader) == b""
        assert seen.transport.figures().last_stranger == "too many handshakes at once"
        for _, one in (*silent, (reader, writer)):
            one.close()
            await one.wait_closed()
        async with connected(other, seen) as (_, writer):
            writer.write(greet(other))
            await seen.until_up(other.peer)

    run_pair(tmp_path, body)


def send_five(mesh: Mesh, peer: PeerId) -> None:
    """The moment that the peer is up."""
    for number in range(5):
        mesh.send(peer, Channel.GOSSIP, b"%d" % number)


def ignore(_: PeerId) -> None:
    pass


def test_two_that_dial_at_once_have_one_connection_and_lose_nothing(
    tmp_path: Path, full: bool
) -> None:
    async def whole(round_number: int) -> None:
        identities = identities_made
        ports = []
        for _ in identities:  # so that both know the other's port before they start
            with socket.socket() as probe:
                probe.bind((HOST, 0))
                ports.append(probe.getsockname()[1])
        meshes = [
            make_mesh(one, port, seed=round_number)
            for one, port in zip(identities, ports, strict=True)
        ]
        seen = [Recorded(mesh) for mesh in meshes]
        meshes[0].add_peer(identities[1].register(ports[1]))
        meshes[1].add_peer(identities[0].register(ports[0]))
        for mesh in meshes:
            mesh.watch(lambda peer, mesh=mesh: send_five(mesh, peer), ignore)
        try:
            await asyncio.gather(*[mesh.start() for mesh in meshes])
            for one in seen:
                await one.until(lambda one=one: len(one.messages) >= 5)
                assert [m[2] for m in one.messages] == [b"0", b"1", b"2", b"3", b"4"]
                assert len(one.ups) == 1
                assert not one.downs
        finally:
            for mesh in meshes:
                await mesh.close()

    identities_made = [Identity(tmp_path, number) for number in range(2)]
    for round_number in range(200 if full else 20):
        asyncio.run(whole(round_number))


def test_a_new_life_of_a_peer_replaces_the_connection_of_the_old(tmp_path: Path) -> None:
    async def body(seen: Recorded, mine: Identity, other: Identity) -> None:
        async with connected(other, seen) as (first, writer):
            writer.write(greet(other))
            await seen.until_up(other.peer)
            async with connected(other, seen) as (_, again):
                again.write(frames.encode_greeting(Greeting(NETWORK, other.peer, b"new life")))
                await seen.until(lambda: len(seen.ups) == 2)
                await until_hung_up(first)
                again.write(frames.encode_frame(Kind.MESSAGE, Channel.SYNC, 0, b"here"))
                await seen.until(lambda: bool(seen.messages))
        assert seen.messages == [(other.peer, Channel.SYNC, b"here")]

    run_pair(tmp_path, body)


def test_a_new_life_is_welcome_also_where_this_side_had_dialled(tmp_path: Path) -> None:
    async def body(seen: Recorded, mine: Identity, other: Identity) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(greet(other))
            hung_up.append(await until_hung_up(reader))
            writer.close()

        hung_up = list[bytes]()
        context = tls.make_context(other.certificate, [mine.certificate.der], server_side=True)
        server = await asyncio.start_server(answer, HOST, 0, ssl=context)
        try:
            seen.transport.add_peer(other.register(server.sockets[0].getsockname()[1]))
            await seen.until_up(other.peer)
            async with connected(other, seen) as (reader, writer):
                writer.write(greet(other))  # of the same life: what stands, stands
                assert frames.WELCOME not in await until_hung_up(reader)
                assert (len(seen.ups), len(seen.downs), len(hung_up)) == (1, 0, 0)
            async with connected(other, seen) as (_, writer):
                writer.write(frames.encode_greeting(Greeting(NETWORK, other.peer, b"new life")))
                await seen.until(lambda: len(seen.ups) == 2)
                assert len(seen.downs) == 1
                writer.write(frames.encode_frame(Kind.MESSAGE, Channel.SYNC, 0, b"here"))
                await seen.until(lambda: bool(seen.messages))
        finally:
            server.close()

    run_pair(tmp_path, body)


def test_requests_that_wait_for_answers_are_bounded(tmp_path: Path) -> None:
    async def body(seen: Recorded, mine: Identity, other: Identity) -> None:
        async def answer(peer: PeerId, channel: Channel, payload: bytes) -> bytes:
            await asyncio.Event().wait()
            return b""

        seen.transport.listen(Channel.SYNC, None, answer)
        async with connected(other, seen) as (reader, writer):
            writer.write(greet(other))
            await seen.until_up(other.peer)
            for number in range(1, REQUESTS_IN_FLIGHT_MAX + 2):
                writer.write(frames.encode_frame(Kind.REQUEST, Channel.SYNC, number, b""))
            parser, found = frames.FrameReader(), list[frames.Frame]()
            async with asyncio.timeout(WAIT_S):
                while not any(frame.kind == Kind.REFUSAL for frame in found):
                    found += parser.feed(await reader.read(65536))
            refused = [frame.number for frame in found if frame.kind == Kind.REFUSAL]
            assert refused == [REQUESTS_IN_FLIGHT_MAX + 1]

    run_pair(tmp_path, body)


def test_a_new_certificate_ends_the_connection_of_the_old(tmp_path: Path) -> None:
    async def body(seen: Recorded, mine: Identity, other: Identity) -> None:
        old = other.certificate
        async with connected(other, seen) as (reader, writer):
            writer.write(greet(other))
            await seen.until_up(other.peer)
            other.certificate = tls.make_certificate(tmp_path / "new.pem", other.peer)
            seen.transport.add_peer(other.register())
            await until_hung_up(reader)
        new, other.certificate = other.certificate, old
        async with connected(other, seen) as (reader, writer):
            assert await until_hung_up(reader) == b""
        other.certificate = new
        async with connected(other, seen) as (reader, writer):
            writer.write(greet(other))
            await seen.until(lambda: len(seen.ups) == 2)

    run_pair(tmp_path, body)


def test_a_peer_that_takes_nothing_costs_no_more_than_its_queue(tmp_path: Path) -> None:
    async def body(seen: Recorded, mine: Identity, other: Identity) -> None:
        async with connected(other, seen) as (reader, writer):
            writer.write(greet(other))
            await seen.until_up(other.peer)
            assert isinstance(reader._transport, asyncio.Transport)  # type: ignore[attr-defined]
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            payload, sent = bytes(1024 * 1024), 0
            while seen.transport.send(other.peer, Channel.BODIES, payload):
                sent += len(payload)
                await asyncio.sleep(0)  # a turn of the loop, in which it writes
                assert sent < 10 * QUEUE_BYTES_MAX[2]
            figures = seen.transport.figures().peers[other.peer]
            assert sent >= QUEUE_BYTES_MAX[2] - len(payload)
            assert figures.dropped == 1
            # There is room of its own for what is urgent.
            assert seen.transport.send(other.peer, Channel.CONSENSUS, payload)

    run_pair(tmp_path, body)


def test_a_silent_peer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chainlite.net.connection.DEAD_AFTER_S", 0.3)
    monkeypatch.setattr("chainlite.net.connection.PING_EVERY_S", 0.1)
    monkeypatch.setattr("chainlite.net.mesh.PING_EVERY_S", 0.1)

    async def body(seen: Recorded, mine: Identity, other: Identity) -> None:
        async with connected(other, seen) as (reader, writer):
            writer.write(greet(other))
            await seen.until(lambda: bool(seen.downs))  # it reads, but never says a word
            assert frames.PING in await until_hung_up(reader)

    run_pair(tmp_path, body)


def test_the_key_file_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "node.pem"
    made = tls.make_certificate(path, bytes(32))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert tls.load_certificate(path) == made
    with pytest.raises(StateError, match="is there already"):
        tls.make_certificate(path, bytes(32))
    path.chmod(0o640)
    with pytest.raises(StateError, match="chmod 600"):
        tls.load_certificate(path)
    path.write_text("nothing")
    path.chmod(0o600)
    with pytest.raises(StateError, match="no certificate"):
        tls.load_certificate(path)


def test_what_is_no_certificate_is_no_registration(tmp_path: Path) -> None:
    async def body(seen: Recorded, mine: Identity, other: Identity) -> None:
        der = other.certificate.der
        for wrong in (b"x", der[:-1], der + der):
            other.certificate = tls.NodeCertificate(other.certificate.path, wrong)
            with pytest.raises(SpecError, match="certificate is none"):
                seen.transport.add_peer(other.register())
        thief = Identity(tmp_path, 5)
        thief.certificate = tls.NodeCertificate(thief.certificate.path, der)
        with pytest.raises(SpecError, match="another node has this certificate"):
            seen.transport.add_peer(thief.register())

    run_pair(tmp_path, body)


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    async def body(seen: Recorded, mine: Identity, other: Identity) -> None:
        with pytest.raises(StateError, match="cannot listen on 127.0.0.1"):
            await make_mesh(other, get_port(seen)).start()

    run_pair(tmp_path, body)


def test_a_cancellation_that_is_lost_while_it_dials_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As asyncio's own connecting may lose it: the mesh closes all the same."""

    async def whole() -> None:
        mine, other = Identity(tmp_path, 0), Identity(tmp_path, 1)
        dials, lost = asyncio.Event(), list[bool]()

        async def dial(_mesh: Mesh, _node: object) -> None:
            dials.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if lost:
                    raise
                lost.append(True)

        monkeypatch.setattr(Mesh, "_dial", dial)
        mesh = make_mesh(mine)
        await mesh.start()
        assert mesh.add_peer(other.register(1))
        await dials.wait()
        done, _ = await asyncio.wait([asyncio.ensure_future(mesh.close())], timeout=WAIT_S)
        assert done and lost

    asyncio.run(whole())
