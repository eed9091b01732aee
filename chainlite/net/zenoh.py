"""The transport for thousands of hosts: the same seam over Zenoh, directly or by way of routers.

Not here: Zenoh's session and threads (zenoh_session), signatures (envelope). A carrier may pass
messages through others, so each is signed by its sender, and TLS only keeps strangers away.
Invariants: a peer is up while its instance is alive and it has greeted as it, under its signature;
a message is delivered once, in the order of its sender and priority, and only while it is up. When
registrations change the session is opened anew, since Zenoh takes no trust anchor while it runs:
then all peers go down and come back.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chainlite.errors import PeerError, SpecError, StateError
from chainlite.net import envelope, frames
from chainlite.net.calls import Calls
from chainlite.net.conduct import Conduct
from chainlite.net.doors import Doors
from chainlite.net.frames import Greeting, Kind
from chainlite.net.registration import is_newer
from chainlite.net.roster import check_usable
from chainlite.net.transport import (
    DEAD_AFTER_S,
    PEERS_MAX,
    PING_EVERY_S,
    PRIORITY,
    QUEUE_BYTES_MAX,
    REQUESTS_IN_FLIGHT_MAX,
    Backoff,
    Channel,
    Figures,
    PeerFigures,
    PeerId,
    Unanswered,
)
from chainlite.net.zenoh_session import Callbacks, Session, Settings, load_zenoh

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from chainlite.net.envelope import Envelope
    from chainlite.net.frames import Frame
    from chainlite.net.registration import Registration
    from chainlite.net.transport import OnMessage, OnPeer, OnRequest

ALIVE_MAX = 8
"""Instances of one node at once: one, and those whose end is not yet known."""


@dataclass(slots=True)
class _Remote:
    """What is known of one other node."""

    registration: Registration
    figures: PeerFigures
    calls: Calls
    conduct: Conduct = field(default_factory=Conduct)
    instance: bytes = b""
    """The one that is up; empty: none."""
    alive: dict[bytes, None] = field(default_factory=dict)
    heard: bytes = b""
    """The instance that greeted last."""
    counters: list[int] = field(default_factory=lambda: [0] * len(QUEUE_BYTES_MAX))
    serving: int = 0
    heard_at: float = 0.0


class ZenohTransport:
    """A Transport over Zenoh."""

    def __init__(self, settings: Settings, rng: random.Random) -> None:
        """StateError where Zenoh is not installed, or it can reach nobody."""
        load_zenoh()
        if settings.listen is None and not settings.routers:
            raise StateError("a node that does not listen needs a router")
        self._settings, self._rng = settings, rng
        self._me, self._network = settings.me, settings.network
        self._remotes: dict[PeerId, _Remote] = {}
        self._figures = Figures()
        self._doors = Doors(self.blame)
        self._session: Session | None = None
        self._instance = b""
        self._counters = [0] * len(QUEUE_BYTES_MAX)
        self._is_stale = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def me(self) -> PeerId:
        """This node."""
        return self._me

    async def start(self) -> None:
        """See Transport."""
        await self._open()
        self._tasks = [asyncio.create_task(self._reopen()), asyncio.create_task(self._tick())]

    async def close(self) -> None:
        """See Transport."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._close_session()
        await self._doors.close()

    async def _open(self) -> None:
        """Open a session in which all who are registered now may take part."""
        self._is_stale.clear()
        self._instance = self._rng.randbytes(frames.INSTANCE_BYTES)
        registrations = [remote.registration for remote in self._remotes.values()]
        callbacks = Callbacks(
            self._upon_envelope, self._upon_alive, self._count_stranger, self._upon_lost
        )
        session = Session(
            self._settings, self._instance, self._remotes, callbacks, asyncio.get_running_loop()
        )
        # One of a pair dials: Zenoh would keep two connections.
        endpoints = tuple(
            f"tls/{host}:{port}"
            for one in registrations
            for host, port in one.addresses
            if self._settings.listen is not None and self._me < one.node
        )
        self._session = session
        try:
            await asyncio.to_thread(
                session.open, tuple(one.certificate for one in registrations), endpoints
            )
        except StateError:
            self._session = None
            raise

    async def _close_session(self) -> None:
        session, self._session = self._session, None
        self._set_all_down()
        if session is not None:
            await asyncio.to_thread(session.close)

    async def _reopen(self) -> None:
        """Open anew when registrations have changed."""
        backoff = Backoff()
        while True:
            await self._is_stale.wait()
            await self._close_session()
            try:
                await self._open()
            except StateError:  # the port is not free yet
                self._is_stale.set()
                await asyncio.sleep(backoff.compute_s(self._rng.random()))
                backoff = Backoff(backoff.tries + 1)
            else:
                backoff = Backoff()

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
        peer = registration.node
        remote = self._remotes.get(peer)
        if peer == self._me or not is_newer(registration, remote.registration if remote else None):
            return False
        check_usable(registration, self._network)
        is_alike = False
        if remote is None:
            if len(self._remotes) >= PEERS_MAX:
                raise SpecError(f"at most {PEERS_MAX} peers")
            figures = self._figures.peers[peer] = PeerFigures()
            calls = Calls(asyncio.get_running_loop())
            self._remotes[peer] = _Remote(registration, figures, calls)
        else:
            old, remote.registration = remote.registration, registration
            is_alike = old.certificate == registration.certificate
            is_alike = is_alike and old.addresses == registration.addresses
        if not is_alike:
            self._set_stale()
        return True

    def remove_peer(self, peer: PeerId) -> None:
        """See Transport."""
        remote = self._remotes.pop(peer, None)
        if remote is None:
            return
        del self._figures.peers[peer]
        self._set_down(peer, remote)
        self._set_stale()

    def _set_stale(self) -> None:
        """The session is to be opened anew: nobody is up until then."""
        if self._tasks:
            self._is_stale.set()
            self._set_all_down()

    def peers(self) -> frozenset[PeerId]:
        """See Transport."""
        return frozenset(peer for peer, remote in self._remotes.items() if remote.instance)

    def registrations(self) -> Mapping[PeerId, Registration]:
        """See Transport."""
        return {peer: remote.registration for peer, remote in self._remotes.items()}

    def figures(self) -> Figures:
        """See Transport."""
        return self._figures

    def broadcast(self, channel: Channel, payload: bytes) -> int:
        """See Transport. One message for all: it is queued for every peer or for none."""
        frame = frames.encode_frame(Kind.MESSAGE, channel, 0, payload)
        up = [remote for remote in self._remotes.values() if remote.instance]
        if not up:
            return 0
        is_queued = self._post(envelope.TO_ALL, channel, frame)
        for remote in up:
            self._count_sent(remote, frame, is_queued=is_queued)
        return len(up) if is_queued else 0

    def send(self, peer: PeerId, channel: Channel, payload: bytes) -> bool:
        """See Transport."""
        frame = frames.encode_frame(Kind.MESSAGE, channel, 0, payload)
        remote = self._remotes.get(peer)
        return remote is not None and self._post_to(peer, remote, channel, frame)

    def _post_to(self, peer: PeerId, remote: _Remote, channel: int, frame: bytes) -> bool:
        if not remote.instance:
            return False
        is_queued = self._post(peer, channel, frame)
        self._count_sent(remote, frame, is_queued=is_queued)
        return is_queued

    @staticmethod
    def _count_sent(remote: _Remote, frame: bytes, *, is_queued: bool) -> None:
        if is_queued:
            remote.figures.sent += 1
            remote.figures.sent_bytes += len(frame)
        else:
            remote.figures.dropped += 1

    def _post(self, recipient: PeerId, channel: int, frame: bytes) -> bool:
        if self._session is None:
            return False
        priority = PRIORITY[Channel(channel)]
        self._counters[priority] += 1
        return self._session.post(
            envelope.encode_unsigned(
                self._me, self._instance, recipient, self._counters[priority], frame
            )
        )

    async def request(
        self, peer: PeerId, channel: Channel, payload: bytes, timeout_s: float
    ) -> bytes:
        """See Transport."""
        remote = self._remotes.get(peer)
        if remote is None or not remote.instance:
            raise Unanswered("the peer is away")

        def put(number: int) -> bool:
            frame = frames.encode_frame(Kind.REQUEST, channel, number, payload)
            return self._post_to(peer, remote, channel, frame)

        return await remote.calls.ask(put, timeout_s)

    def _upon_envelope(self, found: Envelope, size: int) -> None:
        """Something that a known node has signed, and nobody has seen before."""
        peer, frame = found.sender, found.frame
        remote = self._remotes.get(peer)
        if remote is None or remote.conduct.get_ban_ms(self._get_now_ms()):
            return
        if found.recipient not in (self._me, envelope.TO_ALL):
            return  # of another's life under the same key: never ours
        if frame.kind in (Kind.HELLO, Kind.WELCOME):
            self._greet_back(peer, remote, found)
            return
        priority = PRIORITY[Channel(frame.channel)]
        if found.instance != remote.instance or found.counter <= remote.counters[priority]:
            return
        remote.counters[priority] = found.counter
        remote.heard_at = asyncio.get_running_loop().time()
        remote.figures.received += 1
        remote.figures.received_bytes += size
        self._take(peer, remote, frame)

    def _take(self, peer: PeerId, remote: _Remote, frame: Frame) -> None:
        if frame.kind == Kind.MESSAGE:
            self._doors.upon_message(peer, frame.channel, frame.payload)
        elif frame.kind == Kind.REQUEST:
            self._serve(peer, remote, frame)
        elif frame.kind in (Kind.ANSWER, Kind.REFUSAL):
            try:
                remote.calls.upon_answer(frame)
            except PeerError as error:
                self.blame(peer, str(error))

    def _serve(self, peer: PeerId, remote: _Remote, frame: Frame) -> None:
        """Have a request answered, while the instance that asked lives."""
        channel, number, instance = frame.channel, frame.number, remote.instance

        def reply(found: bytes | str) -> None:
            remote.serving -= 1
            if instance in remote.alive:  # also who is left alone from now on is told why
                self._post(peer, channel, frames.encode_reply(channel, number, found))

        remote.serving += 1
        if remote.serving > REQUESTS_IN_FLIGHT_MAX:
            reply("too many requests are being answered")
        else:
            self._doors.upon_request(peer, channel, frame.payload, reply)

    def _upon_alive(self, peer: PeerId, instance: bytes, is_here: bool) -> None:  # noqa: FBT001
        remote = self._remotes.get(peer)
        if remote is None:
            return
        if is_here:
            while len(remote.alive) >= ALIVE_MAX:
                del remote.alive[next(iter(remote.alive))]
            remote.alive[instance] = None
            self._greet(peer)
            self._look(peer, remote)
        else:
            remote.alive.pop(instance, None)
            if remote.instance == instance:
                self._set_down(peer, remote)

    def _greet(self, peer: PeerId) -> None:
        greeting = Greeting(self._network, self._me, self._instance)
        self._post(peer, Channel.CONTROL, frames.encode_greeting(greeting))

    def _greet_back(self, peer: PeerId, remote: _Remote, found: Envelope) -> None:
        """A greeting is answered by a welcome; both are signed in the sender's instance."""
        if found.frame.kind == Kind.HELLO:
            self._post(peer, Channel.CONTROL, frames.WELCOME)
        remote.heard = found.instance
        self._look(peer, remote)

    def _look(self, peer: PeerId, remote: _Remote) -> None:
        """A peer is up once the instance that greeted is alive."""
        heard = remote.heard
        if heard == remote.instance or heard not in remote.alive:
            return
        self._set_down(peer, remote)
        remote.instance, remote.heard_at = heard, asyncio.get_running_loop().time()
        remote.counters = [0] * len(QUEUE_BYTES_MAX)
        remote.figures.connected += 1
        self._doors.upon_up(peer)

    def _set_all_down(self) -> None:
        for peer, remote in self._remotes.items():
            remote.alive.clear()
            self._set_down(peer, remote)

    def _set_down(self, peer: PeerId, remote: _Remote) -> None:
        if remote.instance:
            remote.instance = b""
            remote.calls.end_all("the peer is gone")
            self._doors.upon_down(peer)
        remote.heard = b""

    def _count_stranger(self, why: str) -> None:
        self._figures.strangers += 1
        self._figures.last_stranger = why

    def _upon_lost(self, peer: PeerId) -> None:
        if peer in self._figures.peers:
            self._figures.peers[peer].lost += 1

    def blame(self, peer: PeerId, why: str) -> None:
        """See Transport."""
        remote = self._remotes.get(peer)
        if remote is None:
            return
        remote.figures.misdeeds += 1
        remote.figures.last_misdeed = why
        if remote.conduct.upon_misdeed(self._get_now_ms()):
            self._set_down(peer, remote)

    @staticmethod
    def _get_now_ms() -> int:
        return int(asyncio.get_running_loop().time() * 1000)

    async def _tick(self) -> None:
        """Say that this node lives, give up who is silent, greet again who is not up.

        Zenoh's liveliness is quicker, but does not end when it hangs up on a peer that is stuck.
        """
        while True:
            await asyncio.sleep(PING_EVERY_S)
            now = asyncio.get_running_loop().time()
            self._post(envelope.TO_ALL, Channel.CONTROL, frames.PING)
            for peer, remote in self._remotes.items():
                if remote.instance and now - remote.heard_at > DEAD_AFTER_S:
                    self._set_down(peer, remote)
                is_banned = remote.conduct.get_ban_ms(self._get_now_ms()) > 0
                if remote.alive and not remote.instance and not is_banned:
                    self._greet(peer)
