"""The default transport: every node holds one connection with every other, over mutual TLS 1.3.

Not here: a connection (connection), what is counted against a peer (conduct). Of a pair the node
with the smaller key chooses: it welcomes one connection, and only a welcomed one carries messages.
So where both dial at once none is lost. Invariants: a peer is the node whose registration has the
certificate that it showed, and has greeted as it; at most one connection of a pair is up; who is
banned is neither dialled nor let in.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from chainlite.errors import PeerError, StateError
from chainlite.net import frames
from chainlite.net.connection import Connection, Hooks
from chainlite.net.doors import Doors
from chainlite.net.frames import Frame, Greeting, Kind
from chainlite.net.roster import Roster
from chainlite.net.transport import (
    CONNECT_S,
    HANDSHAKES_MAX,
    PING_EVERY_S,
    PRIORITY,
    REQUESTS_IN_FLIGHT_MAX,
    Backoff,
    Channel,
    Figures,
    PeerId,
    Unanswered,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from chainlite.net.registration import Registration
    from chainlite.net.roster import Node
    from chainlite.net.tls import NodeCertificate
    from chainlite.net.transport import OnMessage, OnPeer, OnRequest

LISTEN_BACKLOG = 128
EYEBALLS_S = 0.25
"""Of several addresses of a name the next one is tried after this time (RFC 8305)."""
RECEIVE_BYTES = 256 * 1024


class Mesh:
    """A Transport over connections of our own."""

    def __init__(
        self,
        me: PeerId,
        network: bytes,
        certificate: NodeCertificate,
        listen: tuple[str, int] | None,
        rng: random.Random,
    ) -> None:
        """`listen` is where others reach this node (port 0: any free one); None: it only dials."""
        self._me, self._network = me, network
        self._listen, self._rng = listen, rng
        self._instance = rng.randbytes(frames.INSTANCE_BYTES)
        self._roster = Roster(me, network, certificate)
        self._nodes = self._roster.nodes
        self._figures = self._roster.figures
        self._doors = Doors(self.blame)
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._pending = 0
        self._ticker: asyncio.Task[None] | None = None
        self._hooks = Hooks(
            bytearray(RECEIVE_BYTES), self._upon_open, self._upon_secured,
            self._upon_frame, self._upon_wrong, self._upon_closed,
        )  # fmt: skip

    @property
    def me(self) -> PeerId:
        """This node."""
        return self._me

    @property
    def port(self) -> int:
        """The TCP port that it listens on; StateError if it listens on none."""
        if self._server is None:
            raise StateError("the mesh does not listen")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """See Transport."""
        self._roster.contexts.prepare()
        if self._listen is not None:
            host, port = self._listen
            try:
                self._server = await asyncio.get_running_loop().create_server(
                    self._accept, host, port, backlog=LISTEN_BACKLOG
                )
            except OSError as error:
                raise StateError(f"cannot listen on {host} port {port}: {error}") from None
        self._ticker = asyncio.create_task(self._tick())
        for node in self._nodes.values():
            self._start_dialling(node)

    async def close(self) -> None:
        """See Transport."""
        tasks = [node.dialler for node in self._nodes.values() if node.dialler is not None]
        tasks += [self._ticker] if self._ticker is not None else []
        self._ticker = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        connections = list(self._connections)
        for connection in connections:
            connection.close()
        await self._doors.close()
        if connections:
            _, late = await asyncio.wait([one.ended for one in connections], timeout=CONNECT_S)
            for connection in connections if late else ():
                connection.abort()

    def listen(
        self,
        channel: Channel,
        on_message: OnMessage | None = None,
        on_request: OnRequest | None = None,
    ) -> None:
        """See Transport."""
        self._doors.listen(channel, on_message, on_request)

    def watch(self, on_up: OnPeer, on_down: OnPeer) -> None:
        """See Transport."""
        self._doors.watch(on_up, on_down)

    def add_peer(self, registration: Registration) -> bool:
        """See Transport."""
        node = self._roster.add(registration)
        if node is None:
            return False
        node.nudge.set()
        if self._ticker is not None:
            self._start_dialling(node)
        return True

    def remove_peer(self, peer: PeerId) -> None:
        """See Transport."""
        node = self._roster.remove(peer)
        if node is None:
            return
        if node.dialler is not None:
            node.dialler.cancel()
        if node.live is not None:
            node.live.close()

    def peers(self) -> frozenset[PeerId]:
        """See Transport."""
        return frozenset(peer for peer, node in self._nodes.items() if node.live is not None)

    def registrations(self) -> Mapping[PeerId, Registration]:
        """See Transport."""
        return {peer: node.registration for peer, node in self._nodes.items()}

    def figures(self) -> Figures:
        """See Transport."""
        return self._figures

    def broadcast(self, channel: Channel, payload: bytes) -> int:
        """See Transport."""
        frame = frames.encode_frame(Kind.MESSAGE, channel, 0, payload)
        return sum(self._post(node, channel, frame) for node in self._nodes.values())

    def send(self, peer: PeerId, channel: Channel, payload: bytes) -> bool:
        """See Transport."""
        node = self._nodes.get(peer)
        if node is None:
            return False
        return self._post(node, channel, frames.encode_frame(Kind.MESSAGE, channel, 0, payload))

    def _post(self, node: Node, channel: int, frame: bytes) -> bool:
        """Queue a frame if the peer is up, and count it."""
        figures, live = node.figures, node.live
        if live is None:
            return False
        if not live.post(PRIORITY[Channel(channel)], frame):
            figures.dropped += 1
            return False
        figures.sent += 1
        figures.sent_bytes += len(frame)
        return True

    async def request(
        self, peer: PeerId, channel: Channel, payload: bytes, timeout_s: float
    ) -> bytes:
        """See Transport."""
        node = self._nodes.get(peer)
        if node is None or node.live is None:
            raise Unanswered("the peer is away")

        def put(number: int) -> bool:
            frame = frames.encode_frame(Kind.REQUEST, channel, number, payload)
            return self._post(node, channel, frame)

        return await node.live.calls.ask(put, timeout_s)

    def _upon_frame(self, connection: Connection, frame: Frame) -> None:
        if not connection.is_up:
            self._greet_back(connection, frame)
            return
        assert connection.peer is not None
        node = self._nodes[connection.peer]
        node.figures.received += 1
        node.figures.received_bytes += len(frame.payload) + frames.HEAD_BYTES
        kind = frame.kind
        if kind == Kind.MESSAGE:
            self._doors.upon_message(connection.peer, frame.channel, frame.payload)
        elif kind == Kind.REQUEST:
            self._serve(connection, node, frame)
        elif kind in (Kind.ANSWER, Kind.REFUSAL):
            try:
                connection.calls.upon_answer(frame)
            except PeerError as error:
                self.blame(connection.peer, str(error))
        elif kind == Kind.PING:
            connection.post(0, frames.PONG)
        elif kind != Kind.PONG:
            raise PeerError("a greeting after the greeting")

    def _serve(self, connection: Connection, node: Node, frame: Frame) -> None:
        """Have a request answered, on the connection that it came by."""
        channel, number = frame.channel, frame.number

        def reply(found: bytes | str) -> None:
            connection.serving -= 1
            if connection is not node.live:
                return
            self._post(node, channel, frames.encode_reply(channel, number, found))

        connection.serving += 1
        if connection.serving > REQUESTS_IN_FLIGHT_MAX:
            reply("too many requests are being answered")
        else:
            self._doors.upon_request(node.registration.node, channel, frame.payload, reply)

    def _accept(self) -> Connection:
        context = self._roster.contexts.get(server_side=True)
        return Connection(context, self._hooks, None)

    def _upon_open(self, connection: Connection) -> bool:
        if not connection.is_dialled:
            if self._pending >= HANDSHAKES_MAX:
                self._count_stranger("too many handshakes at once")
                return False
            self._pending += 1
            connection.settled.add_done_callback(self._upon_settled)
        self._connections.add(connection)
        return True

    def _upon_settled(self, _: asyncio.Future[None]) -> None:
        self._pending -= 1

    def _upon_secured(self, connection: Connection, certificate: bytes) -> None:
        peer = self._roster.find(certificate)
        if peer is None or connection.expected not in (None, peer):
            raise PeerError("TLS: another certificate than the registered one")
        if self._nodes[peer].conduct.get_ban_ms(self._get_now_ms()):
            connection.close()
            return
        connection.peer = peer
        greeting = Greeting(self._network, self._me, self._instance)
        connection.post(0, frames.encode_greeting(greeting))

    def _greet_back(self, connection: Connection, frame: Frame) -> None:
        """The frames before a connection is up: a greeting, and the chooser's welcome."""
        peer = connection.peer
        node = self._nodes.get(peer) if peer is not None else None
        if peer is None or node is None:
            raise PeerError("a frame of nobody who is registered")
        if frame.kind == Kind.HELLO and not connection.instance:
            found = frames.decode_greeting(frame.payload)
            if found.network != self._network or found.node != peer:
                raise PeerError("a greeting of another node or network")
            connection.instance = found.instance
            if self._me < peer:
                self._choose(connection, node)
        elif frame.kind == Kind.WELCOME and connection.instance and peer < self._me:
            self._upon_up(connection, node)
        else:
            raise PeerError(f"frame: kind {frame.kind} before the greeting")

    def _choose(self, connection: Connection, node: Node) -> None:
        """Welcome a connection, unless one that the other side dialled is up."""
        live = node.live
        is_anew = (
            live is None
            or live.instance != connection.instance  # the peer began a new life
            or live.is_dialled == connection.is_dialled  # who dials again has lost the first
        )
        if is_anew:
            connection.post(0, frames.WELCOME)
            self._upon_up(connection, node)
        else:
            assert live is not None
            live.ping()  # if the peer has lost it, its host says so at once
            connection.close()

    def _upon_up(self, connection: Connection, node: Node) -> None:
        if node.live is not None:
            node.live.close()
        node.live = connection
        node.figures.connected += 1
        node.is_wanted.clear()
        connection.upon_up()
        self._doors.upon_up(node.registration.node)

    def _upon_closed(self, connection: Connection) -> None:
        if connection.ended.done():
            self._connections.discard(connection)
        else:
            connection.ended.add_done_callback(lambda _: self._connections.discard(connection))
        peer = connection.peer
        node = self._nodes.get(peer) if peer is not None else None
        if peer is not None and connection.is_up:
            if node is not None and node.live is connection:
                node.live = None
                node.is_wanted.set()
            self._doors.upon_down(peer)

    def _upon_wrong(self, connection: Connection, why: str) -> None:
        if connection.peer is None:
            self._count_stranger(why)
        else:
            self.blame(connection.peer, why)

    def _count_stranger(self, why: str) -> None:
        self._figures.strangers += 1
        self._figures.last_stranger = why

    def blame(self, peer: PeerId, why: str) -> None:
        """See Transport."""
        node = self._nodes.get(peer)
        if node is None:
            return
        node.figures.misdeeds += 1
        node.figures.last_misdeed = why
        if node.conduct.upon_misdeed(self._get_now_ms()) and node.live is not None:
            node.live.abort()

    @staticmethod
    def _get_now_ms() -> int:
        return int(asyncio.get_running_loop().time() * 1000)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(PING_EVERY_S)
            now = loop.time()
            for connection in [one for one in self._connections if one.is_up]:
                if not connection.is_closed:
                    connection.upon_tick(now)

    def _start_dialling(self, node: Node) -> None:
        if node.registration.addresses and node.dialler is None:
            node.dialler = asyncio.create_task(self._keep(node))

    async def _keep(self, node: Node) -> None:
        """Dial whenever no connection is up, more and more rarely.

        Until it is not wanted any more: a cancellation can be lost in asyncio's own connecting
        (staggered_race, wait_for; Python 3.11), and whoever awaits the end would wait for ever.
        """
        backoff = Backoff()
        while self._is_kept(node):
            await node.is_wanted.wait()
            node.nudge.clear()
            ban_ms = node.conduct.get_ban_ms(self._get_now_ms())
            if not ban_ms:
                await self._dial(node)
            if not self._is_kept(node):
                return
            backoff = Backoff(0 if node.live else backoff.tries + 1)
            wait_s = max(backoff.compute_s(self._rng.random()), ban_ms / 1000)
            try:
                await asyncio.wait_for(node.nudge.wait(), wait_s)
            except TimeoutError:
                continue

    def _is_kept(self, node: Node) -> bool:
        return self._ticker is not None and self._nodes.get(node.registration.node) is node

    async def _dial(self, node: Node) -> None:
        """Try the node's addresses in turn until a connection is up. A name may have several."""
        loop = asyncio.get_running_loop()
        registration = node.registration
        context = self._roster.contexts.get(server_side=False)
        for host, port in registration.addresses:
            if node.live is not None:
                return
            try:
                async with asyncio.timeout(CONNECT_S):
                    _, connection = await loop.create_connection(
                        lambda: Connection(context, self._hooks, registration.node),
                        host,
                        port,
                        happy_eyeballs_delay=EYEBALLS_S,
                    )
            except OSError as error:  # TimeoutError is one
                node.figures.last_failure = str(error) or f"no answer within {CONNECT_S} s"
                continue
            await connection.settled
