"""The seam between nodes: channels, limits, what a transport does, and what is counted.

Not here: the two implementations (mesh, zenoh), who a node is (registration), what the messages
mean (consensus, ledger, gossip). Pure. Invariants: a peer is its node key, 32 bytes of Ed25519;
whatever a peer does costs a bounded amount of memory; what is lost is counted, and only what is
sent while a peer is up can be lost in silence (by the peer's death): who needs more asks again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, NewType, Protocol, TypeAlias

from chainlite.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chainlite.net.registration import Registration

PeerId = NewType("PeerId", bytes)

PAYLOAD_BYTES_MAX = 4 * 1024 * 1024
PEERS_MAX = 1024
REQUESTS_IN_FLIGHT_MAX = 256
"""Per peer, ours to it; and, apart from those, its to us."""
QUEUE_BYTES_MAX = {0: 8 * 1024 * 1024, 1: 8 * 1024 * 1024, 2: 16 * 1024 * 1024}
"""What may wait to be sent to one peer, by priority."""
CONNECT_S = 2.0
HANDSHAKE_S = 5.0
HANDSHAKES_MAX = 64
"""Connections that others opened and that have not yet said who they are."""
PING_EVERY_S = 1.0
DEAD_AFTER_S = 4.0
BACKOFF_MIN_S = 0.05
BACKOFF_MAX_S = 3.0


class Channel(IntEnum):
    """What a message is about; one byte on the wire."""

    CONSENSUS = 0
    TRANSACTIONS = 1
    BODIES = 2
    GOSSIP = 3
    SYNC = 4
    CONTROL = 5
    CHECKPOINTS = 6


PRIORITY = {
    Channel.CONSENSUS: 0,
    Channel.CONTROL: 0,
    Channel.TRANSACTIONS: 1,
    Channel.GOSSIP: 1,
    Channel.SYNC: 1,
    Channel.BODIES: 2,
    Channel.CHECKPOINTS: 2,
}
"""0 goes first. A channel keeps its order; channels of two priorities have none between them."""


class Unanswered(StateError):
    """A request without an answer: the peer is away, slow, busy or has none, as the text says."""


OnMessage: TypeAlias = Callable[[PeerId, Channel, bytes], None]
OnRequest: TypeAlias = Callable[[PeerId, Channel, bytes], Awaitable[bytes]]
OnPeer: TypeAlias = Callable[[PeerId], None]


@dataclass(slots=True)
class PeerFigures:
    """What was exchanged with one peer, and what went wrong, since the start."""

    sent: int = 0
    sent_bytes: int = 0
    received: int = 0
    received_bytes: int = 0
    dropped: int = 0
    """Not sent: no room in the queue."""
    lost: int = 0
    """Received, and dropped: there was no room (Zenoh only; the mesh lets the peer wait)."""
    misdeeds: int = 0
    last_misdeed: str = ""
    connected: int = 0
    """How often it came up."""
    last_failure: str = ""
    """Why it was not reached when it was last dialled."""


@dataclass(slots=True)
class Figures:
    """`peers` by node key; `strangers` are connections of nobody who is registered."""

    peers: dict[PeerId, PeerFigures] = field(default_factory=dict)
    strangers: int = 0
    last_stranger: str = ""


class Backoff(NamedTuple):
    """How long to wait before try number `tries` (from 0): doubling, bounded."""

    tries: int = 0

    def compute_s(self, share: float) -> float:
        """Between half of it and all of it; `share`, from 0 to 1, is the caller's randomness."""
        whole = min(BACKOFF_MIN_S * float(2 ** min(self.tries, 16)), BACKOFF_MAX_S)
        return whole * (0.5 + share / 2)


class Transport(Protocol):
    """Messages and requests between nodes. All of it belongs to one event loop."""

    @property
    def me(self) -> PeerId:
        """This node."""

    async def start(self) -> None:
        """Listen and connect; StateError if that is not possible."""

    async def close(self) -> None:
        """Leave. Requests in flight end as Unanswered."""

    def listen(
        self,
        channel: Channel,
        on_message: OnMessage | None = None,
        on_request: OnRequest | None = None,
    ) -> None:
        """Who takes what comes on a channel; once per channel.

        Both may raise PeerError, which counts against the peer; `on_request` also StateError or
        SpecError, whose text the peer is told.
        """

    def watch(self, on_up: OnPeer, on_down: OnPeer) -> None:
        """Call these when a peer comes and when it is gone; any number may watch."""

    def add_peer(self, registration: Registration) -> bool:
        """Know a node, or know it anew; whether that was news. SpecError above PEERS_MAX."""

    def remove_peer(self, peer: PeerId) -> None:
        """Forget a node and hang up."""

    def peers(self) -> frozenset[PeerId]:
        """Who is up."""

    def registrations(self) -> Mapping[PeerId, Registration]:
        """Who is known, up or not, and how."""

    def broadcast(self, channel: Channel, payload: bytes) -> int:
        """Queue for every peer that is up; for how many there was room."""

    def send(self, peer: PeerId, channel: Channel, payload: bytes) -> bool:
        """Queue for one peer; False if it is away or there was no room."""

    async def request(
        self, peer: PeerId, channel: Channel, payload: bytes, timeout_s: float
    ) -> bytes:
        """The peer's answer; Unanswered if there is none in time."""

    def blame(self, peer: PeerId, why: str) -> None:
        """Count a misdeed that was found later than in the taker, as in an answer."""

    def figures(self) -> Figures:
        """What was counted; a live view."""
