"""What every transport must do, whatever carries it: one suite for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from chainlite.errors import PeerError, SpecError, StateError
from chainlite.net.registration import encode_registration
from chainlite.net.transport import (
    PAYLOAD_BYTES_MAX,
    REQUESTS_IN_FLIGHT_MAX,
    Channel,
    OnRequest,
    PeerId,
    Unanswered,
)
from tests.net.nodes import MAKERS, WAIT_S, Identity, Listening, Make, Recorded

TOP = Path(__file__).resolve().parent.parent.parent


class Net:
    """Some nodes that know each other."""

    def __init__(self, make: Make, directory: Path) -> None:
        self.make, self.directory = make, directory
        self.identities: list[Identity] = []
        self.transports: list[Listening] = []
        self.seen: list[Recorded] = []

    async def add(self, count: int) -> None:
        """Start so many, without telling any of them of another."""
        for number in range(count):
            identity = Identity(self.directory, number)
            self.identities.append(identity)
            self.transports.append(self.make(identity, 0))
            self.seen.append(Recorded(self.transports[-1]))
            await self.transports[-1].start()

    def introduce(self) -> None:
        for identity, transport in zip(self.identities, self.transports, strict=True):
            registration = identity.register(transport.port)
            for other in self.transports:
                if other is not transport:
                    other.add_peer(registration)

    async def until_all_up(self) -> None:
        everyone = {identity.peer for identity in self.identities}
        for identity, seen in zip(self.identities, self.seen, strict=True):
            await seen.until_up(*(everyone - {identity.peer}))

    async def close(self) -> None:
        for transport in self.transports:
            await transport.close()


def run(make: Make, directory: Path, count: int, body: Callable[[Net], Awaitable[None]]) -> None:
    async def whole() -> None:
        net = Net(make, directory)
        try:
            await net.add(count)
            net.introduce()
            await net.until_all_up()
            await body(net)
        finally:
            await net.close()

    asyncio.run(whole())


@pytest.fixture(params=sorted(MAKERS))
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def make(kind: str) -> Make:
    return MAKERS[kind]


def wait_for(event: asyncio.Event) -> OnRequest:
    async def answer(peer: PeerId, channel: Channel, payload: bytes) -> bytes:
        await event.wait()
        return b""

    return answer


async def echo(peer: PeerId, channel: Channel, payload: bytes) -> bytes:
    return payload


def test_all_come_up_and_each_names_the_others(make: Make, tmp_path: Path) -> None:
    async def body(net: Net) -> None:
        everyone = {identity.peer for identity in net.identities}
        for transport, seen in zip(net.transports, net.seen, strict=True):
            assert transport.peers() == everyone - {transport.me}
            assert sorted(seen.ups) == sorted(everyone - {transport.me})
            assert not seen.downs
            assert set(transport.registrations()) == everyone - {transport.me}

    run(make, tmp_path, 4, body)


def test_a_broadcast_reaches_every_peer_and_not_oneself(make: Make, tmp_path: Path) -> None:
    async def body(net: Net) -> None:
        assert net.transports[0].broadcast(Channel.CONSENSUS, b"vote") == 2
        for seen in net.seen[1:]:
            await seen.until(lambda seen=seen: bool(seen.messages))
            assert seen.messages == [(net.identities[0].peer, Channel.CONSENSUS, b"vote")]
        assert not net.seen[0].messages

    run(make, tmp_path, 3, body)


def test_messages_of_a_peer_on_a_channel_keep_their_order(make: Make, tmp_path: Path) -> None:
    async def body(net: Net) -> None:
        rng, count = random.Random(7), 2000
        for number in range(count):
            payload = number.to_bytes(4, "big") + bytes(rng.randrange(300))
            for transport, other in ((0, 1), (1, 0)):
                sender = net.transports[transport]
                assert sender.send(net.identities[other].peer, Channel.TRANSACTIONS, payload)
        for seen in net.seen:
            await seen.until(lambda seen=seen: len(seen.messages) >= count)
            assert [int.from_bytes(m[2][:4], "big") for m in seen.messages] == list(range(count))

    run(make, tmp_path, 2, body)


def test_the_largest_message_arrives_whole(make: Make, tmp_path: Path) -> None:
    payload = random.Random(3).randbytes(PAYLOAD_BYTES_MAX)

    async def body(net: Net) -> None:
        sender, other = net.transports[0], net.identities[1].peer
        assert sender.send(other, Channel.BODIES, payload)
        await net.seen[1].until(lambda: bool(net.seen[1].messages))
        assert net.seen[1].messages[0][2] == payload
        net.transports[1].listen(Channel.SYNC, None, echo)
        assert await sender.request(other, Channel.SYNC, payload, WAIT_S) == payload

    run(make, tmp_path, 2, body)


def test_a_larger_message_is_refused_before_it_is_sent(make: Make, tmp_path: Path) -> None:
    async def body(net: Net) -> None:
        payload, other = bytes(PAYLOAD_BYTES_MAX + 1), net.identities[1].peer
        with pytest.raises(SpecError, match="4194304"):
            net.transports[0].send(other, Channel.BODIES, payload)
        with pytest.raises(SpecError, match="4194304"):
            net.transports[0].broadcast(Channel.BODIES, payload)
        with pytest.raises(SpecError, match="4194304"):
            await net.transports[0].request(other, Channel.BODIES, payload, WAIT_S)

    run(make, tmp_path, 2, body)


def test_each_request_gets_its_own_answer(make: Make, tmp_path: Path) -> None:
    async def body(net: Net) -> None:
        released = asyncio.Event()

        async def answer(peer: PeerId, channel: Channel, payload: bytes) -> bytes:
            if payload == b"0":  # the first is answered last
                await released.wait()
            else:
                released.set()
            return peer + channel.to_bytes(1, "big") + payload

        net.transports[1].listen(Channel.SYNC, None, answer)
        me, other = net.identities[0].peer, net.identities[1].peer
        asked = [
            net.transports[0].request(other, Channel.SYNC, b"%d" % number, WAIT_S)
            for number in range(50)
        ]
        answers = await asyncio.gather(*asked)
        assert answers == [me + b"\x04" + b"%d" % number for number in range(50)]

    run(make, tmp_path, 2, body)


def test_a_request_without_an_answer_ends_in_time(make: Make, tmp_path: Path) -> None:
    async def body(net: Net) -> None:
        never = asyncio.Event()
        net.transports[1].listen(Channel.SYNC, None, wait_for(never))
        other = net.identities[1].peer
        with pytest.raises(Unanswered, match=r"no answer within 0\.05 s"):
            await net.transports[0].request(other, Channel.SYNC, b"", 0.05)
        never.set()  # what comes late is no misdeed, and harms no later request
        net.transports[1].listen(Channel.BODIES, None, echo)  # bodies come after all else
        assert await net.transports[0].request(other, Channel.BODIES, b"x", WAIT_S) == b"x"
        assert net.transports[0].figures().peers[other].misdeeds == 0

    run(make, tmp_path, 2, body)


def test_an_answer_that_nobody_waits_for_any_more_is_no_misdeed(make: Make, tmp_path: Path) -> None:
    async def body(net: Net) -> None:
        asked, released = asyncio.Event(), asyncio.Event()

        async def answer(peer: PeerId, channel: Channel, payload: bytes) -> bytes:
            asked.set()
            await released.wait()
            return b""

        net.transports[1].listen(Channel.SYNC, None, answer)
        net.transports[1].listen(Channel.BODIES, None, echo)
        other = net.identities[1].peer
        task = asyncio.create_task(net.transports[0].request(other, Channel.SYNC, b"", WAIT_S))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        released.set()
        assert await net.transports[0].request(other, Channel.BODIES, b"x", WAIT_S) == b"x"
        assert net.transports[0].figures().peers[other].misdeeds == 0

    run(make, tmp_path, 2, body)


def test_a_refusal_tells_why(make: Make, tmp_path: Path) -> None:
    async def body(net: Net) -> None:
        async def answer(peer: PeerId, channel: Channel, payload: bytes) -> bytes:
            raise StateError("block 7 is not here")

        net.transports[1].listen(Channel.SYNC, None, answer)
        other = net.identities[1].peer
        with pytest.raises(Unanswered, match="block 7 is not here"):
            await net.transports[0].request(other, Channel.SYNC, b"", WAIT_S)
        with pytest.raises(Unanswered, match="nobody answers on this channel"):
            await net.transports[0].request(other, Channel.BODIES, b"", WAIT_S)
        assert net.transports[1].figures().peers[net.identities[0].peer].misdeeds == 0

    run(make, tmp_path, 2, body)


def test_requests_in_flight_are_bounded(make: Make, tmp_path: Path) -> None:
    async def body(net: Net) -> None:
        never = asyncio.Event()
        net.transports[1].listen(Channel.SYNC, None, wait_for(never))
        sender, other = net.transports[0], net.identities[1].peer
        tasks = [
            asyncio.create_task(sender.request(other, Channel.SYNC, b"", WAIT_S))
            for _ in range(REQUESTS_IN_FLIGHT_MAX)
        ]
        await asyncio.sleep(0)
        with pytest.raises(Unanswered, match=f"{REQUESTS_IN_FLIGHT_MAX} requests"):
            await sender.request(other, Channel.SYNC, b"", WAIT_S)
        never.set()
        assert await asyncio.gather(*tasks) == [b""] * REQUESTS_IN_FLIGHT_MAX

    run(make, tmp_path, 2, body)


def test_misdeeds_are_counted_and_who_repeats_them_is_left_alone(
    make: Make, tmp_path: Path
) -> None:
    async def body(net: Net) -> None:
        taken = list[bytes]()

        async def refuse(peer: PeerId, channel: Channel, payload: bytes) -> bytes:
            taken.append(payload)
            raise PeerError("nonsense")

        net.transports[1].listen(Channel.SYNC, None, refuse)
        bad, good = net.identities[0].peer, net.identities[2].peer
        figures = net.transports[1].figures().peers
        sender, other = net.transports[0], net.identities[1].peer
        with pytest.raises(Unanswered, match="nonsense"):
            await sender.request(other, Channel.SYNC, b"", WAIT_S)
        assert (figures[bad].misdeeds, figures[bad].last_misdeed) == (1, "nonsense")
        for _ in range(7):
            with pytest.raises(Unanswered):
                await sender.request(other, Channel.SYNC, b"", WAIT_S)
        await net.seen[1].until(lambda: net.seen[1].downs == [bad])
        assert net.transports[1].peers() == {good}
        assert figures[bad].misdeeds == len(taken) == 8
        assert figures[good].misdeeds == 0

    run(make, tmp_path, 3, body)


def test_a_peer_that_leaves_is_told_and_its_requests_end(make: Make, tmp_path: Path) -> None:
    async def body(net: Net) -> None:
        asked = asyncio.Event()

        async def answer(peer: PeerId, channel: Channel, payload: bytes) -> bytes:
            asked.set()
            await asyncio.Event().wait()
            return b""

        net.transports[1].listen(Channel.SYNC, None, answer)
        other = net.identities[1].peer
        waiting = asyncio.create_task(net.transports[0].request(other, Channel.SYNC, b"", WAIT_S))
        await asked.wait()
        await net.transports[1].close()
        await net.seen[0].until(lambda: net.seen[0].downs == [other])
        with pytest.raises(Unanswered, match="gone"):
            await waiting
        assert net.transports[0].peers() == frozenset()
        assert not net.transports[0].send(other, Channel.SYNC, b"")
        assert net.transports[0].broadcast(Channel.SYNC, b"") == 0
        with pytest.raises(Unanswered, match="away"):
            await net.transports[0].request(other, Channel.SYNC, b"", WAIT_S)

    run(make, tmp_path, 2, body)


def test_a_peer_that_restarts_comes_back_by_itself(make: Make, tmp_path: Path) -> None:
    async def body(net: Net) -> None:
        identity, port = net.identities[1], net.transports[1].port
        for life in range(3):
            await net.transports[1].close()
            await net.seen[0].until(lambda life=life: len(net.seen[0].downs) == life + 1)
            net.transports[1] = make(identity, port)
            net.seen[1] = Recorded(net.transports[1])
            net.transports[1].add_peer(net.identities[0].register(net.transports[0].port))
            await net.transports[1].start()
            await net.until_all_up()
            assert net.transports[1].send(net.identities[0].peer, Channel.GOSSIP, b"%d" % life)
            await net.seen[0].until(lambda life=life: len(net.seen[0].messages) == life + 1)
        assert [m[2] for m in net.seen[0].messages] == [b"0", b"1", b"2"]
        assert net.seen[0].ups == [identity.peer] * 4

    run(make, tmp_path, 2, body)


def test_who_is_removed_is_gone_until_it_is_added_again(make: Make, tmp_path: Path) -> None:
    async def body(net: Net) -> None:
        gone = net.identities[1].peer
        net.transports[0].remove_peer(gone)
        await net.seen[0].until(lambda: gone in net.seen[0].downs)
        assert gone not in net.transports[0].peers()
        assert gone not in net.transports[0].registrations()
        await net.seen[1].until(lambda: net.identities[0].peer in net.seen[1].downs)
        net.transports[0].add_peer(net.identities[1].register(net.transports[1].port))
        await net.until_all_up()

    run(make, tmp_path, 3, body)


def test_old_news_of_a_peer_changes_nothing(make: Make, tmp_path: Path) -> None:
    async def body(net: Net) -> None:
        old = net.identities[1].register(1)
        new = net.identities[1].register(net.transports[1].port)
        assert net.transports[0].add_peer(new)
        assert not net.transports[0].add_peer(old)
        assert not net.transports[0].add_peer(new)
        assert net.transports[0].registrations()[new.node] == new

    run(make, tmp_path, 2, body)


@contextlib.asynccontextmanager
async def child_of(net: Net, kind: str, number: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A node in a process of its own, which echoes requests on SYNC, known to all of `net`."""
    identity = Identity(net.directory, number)
    known = net.directory / f"known-{number}"
    known.mkdir()
    for other, transport in zip(net.identities, net.transports, strict=True):
        data = encode_registration(other.register(transport.port))
        (known / f"{other.number}").write_bytes(data)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.net.child", kind, str(net.directory), str(number),
        stdout=asyncio.subprocess.PIPE, cwd=TOP,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        port = int(await asyncio.wait_for(child.stdout.readline(), WAIT_S))
        for transport in net.transports:
            transport.add_peer(identity.register(port))
        for seen in net.seen:
            await seen.until_up(identity.peer)
        await net.until_all_up()
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


def test_a_peer_that_stands_still_holds_up_nobody_else(
    kind: str, make: Make, tmp_path: Path
) -> None:
    async def body(net: Net) -> None:
        async with child_of(net, kind, 7) as child:
            sender, other = net.transports[0], net.identities[1].peer
            still, downs = Identity(tmp_path, 7).peer, net.seen[0].downs.count(other)
            net.transports[1].listen(Channel.SYNC, None, echo)
            assert await sender.request(still, Channel.SYNC, b"x", WAIT_S) == b"x"
            child.send_signal(signal.SIGSTOP)
            # Much more than sockets and queues hold.
            payload, count = bytes(512 * 1024), 80
            for number in range(count):
                sender.broadcast(Channel.BODIES, payload)
                await sender.request(other, Channel.SYNC, b"%d" % number, 2.0)
                await net.seen[1].until(lambda n=number: len(net.seen[1].messages) > n)
            # The others are served at once; the one that stands still is given up, and comes back.
            await net.seen[0].until(lambda: still in net.seen[0].downs)
            assert net.seen[0].downs.count(other) == downs
            child.send_signal(signal.SIGCONT)
            await net.seen[0].until(lambda: net.seen[0].ups.count(still) == 2)
            assert await sender.request(still, Channel.SYNC, b"y", WAIT_S) == b"y"

    run(make, tmp_path, 2, body)


def test_a_peer_that_is_killed_is_missed_at_once(kind: str, make: Make, tmp_path: Path) -> None:
    async def body(net: Net) -> None:
        async with child_of(net, kind, 7) as child:
            killed = Identity(tmp_path, 7).peer
            child.kill()
            await net.seen[0].until(lambda: killed in net.seen[0].downs)
            assert net.transports[0].peers() == {net.identities[1].peer}

    run(make, tmp_path, 2, body)
