"""One Zenoh session: configuration, a thread that signs and sends, and what arrives, verified.

Not here: who is a peer and what frames mean (zenoh). Zenoh's calls may wait and its callbacks come
on threads of its own, so this module has the only locks of the room: signing, verifying and Zenoh's
calls happen off the loop, everything else on it. Invariants: what waits in either direction is
bounded in bytes; what reaches the loop was signed by a node that is known; nothing reaches it after
`close`. Keys: docklock/NETWORK/all, docklock/NETWORK/to/NODE, and for liveliness
docklock/NETWORK/alive/NODE/INSTANCE, all in hex.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chainlite.errors import PeerError, StateError
from chainlite.net import envelope
from chainlite.net.outbox import Outbox
from chainlite.net.transport import (
    BACKOFF_MAX_S,
    BACKOFF_MIN_S,
    CONNECT_S,
    DEAD_AFTER_S,
    PRIORITY,
    Channel,
    PeerId,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Container

    import zenoh

    from chainlite.keys import Signer
    from chainlite.net.envelope import Envelope
    from chainlite.net.tls import NodeCertificate

INBOX_BYTES_MAX = 32 * 1024 * 1024
STUCK_S = 1.0
"""How long a peer that takes nothing may hold up the sending thread before it is hung up on."""
NETWORK_CHARS = 16


def load_zenoh() -> Any:
    """The library; StateError with the remedy where it is not installed."""
    try:
        import zenoh
    except ImportError:
        raise StateError(
            "Zenoh is not installed: pip install 'docklock[scale]', or use the mesh"
        ) from None
    return zenoh


@dataclass(frozen=True, slots=True)
class Settings:
    """What a session needs to open. Without `listen` it is a client of `routers`, and no more.

    `routers` are endpoints as Zenoh writes them; their certificates are registered as nodes' are.
    """

    me: PeerId
    network: bytes
    key: Signer
    certificate: NodeCertificate
    listen: tuple[str, int] | None
    routers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Callbacks:
    """All are called on the loop."""

    on_envelope: Callable[[Envelope, int], None]
    """An envelope and the size that it had."""
    on_alive: Callable[[PeerId, bytes, bool], None]
    """A node's instance came (True) or is gone."""
    on_stranger: Callable[[str], None]
    """Something came that nobody who is known has signed."""
    on_lost: Callable[[PeerId], None]
    """Something of this node was dropped: there was no room."""


class Session:
    """Open from `open` to `close`; both may wait, so they are called off the loop."""

    def __init__(
        self,
        settings: Settings,
        instance: bytes,
        known: Container[PeerId],
        callbacks: Callbacks,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._settings, self._instance = settings, instance
        self._known, self._callbacks, self._loop = known, callbacks, loop
        self._top = f"docklock/{settings.network.hex()[:NETWORK_CHARS]}"
        self._session: zenoh.Session | None = None
        self._kept: list[object] = []
        self._outbox = Outbox()
        self._can_send = threading.Condition()
        self._sender = threading.Thread(target=self._send_all, name="zenoh-send", daemon=True)
        self._inbox: deque[tuple[Callable[..., None], tuple[Any, ...], int]] = deque()
        self._inbox_bytes = 0
        self._inbox_lock = threading.Lock()
        self._is_closed = False

    def open(self, anchors: tuple[bytes, ...], endpoints: tuple[str, ...]) -> None:
        """Listen, connect, and say that this node is alive; StateError if it cannot listen."""
        library = load_zenoh()
        config = library.Config.from_json5(json.dumps(self._configure(anchors, endpoints)))
        try:
            session: zenoh.Session = library.open(config)
        except library.ZError as error:
            raise StateError(f"Zenoh cannot open: {error}") from None
        self._session = session
        me = self._settings.me.hex()
        alive = f"{self._top}/alive"
        for name in ("all", f"to/{me}"):
            self._kept.append(session.declare_subscriber(f"{self._top}/{name}", self._upon_sample))
        liveliness = session.liveliness()
        watch = liveliness.declare_subscriber(f"{alive}/*/*", self._upon_alive, history=True)
        self._kept += [watch, liveliness.declare_token(f"{alive}/{me}/{self._instance.hex()}")]
        self._sender.start()

    def _configure(self, anchors: tuple[bytes, ...], endpoints: tuple[str, ...]) -> dict[str, Any]:
        """Peers only, found by nothing but registrations; TLS 1.3 that both sides prove."""
        pem = self._settings.certificate.path.read_bytes()
        at = pem.index(b"-----BEGIN CERTIFICATE-----")
        secret, certificate = (base64.b64encode(part).decode() for part in (pem[:at], pem[at:]))
        roots = "".join(ssl.DER_cert_to_PEM_cert(anchor) for anchor in anchors).encode()
        tls = {
            "root_ca_certificate_base64": base64.b64encode(roots or pem[at:]).decode(),
            "enable_mtls": True,
            "verify_name_on_connect": False,
        }
        for side in ("listen", "connect"):
            tls |= {
                f"{side}_private_key_base64": secret,
                f"{side}_certificate_base64": certificate,
            }
        listen = self._settings.listen
        tx = {
            "lease": int(DEAD_AFTER_S * 1000),
            "queue": {
                "congestion_control": {"block": {"wait_before_close": int(STUCK_S * 1_000_000)}}
            },
        }
        return {
            "mode": "peer" if listen else "client",
            "scouting": {
                "delay": 0, "multicast": {"enabled": False}, "gossip": {"enabled": False},
            },
            "open": {"return_conditions": {"connect_scouted": False, "declares": False}},
            "listen": {"endpoints": [f"tls/{listen[0]}:{listen[1]}"] if listen else []},
            "connect": {
                "endpoints": [*endpoints, *self._settings.routers],
                # A client's opening waits for its router; a peer's goes on trying by itself.
                "timeout_ms": -1 if listen else int(CONNECT_S * 1000),
                "exit_on_failure": not listen,
                "retry": {
                    "period_init_ms": int(BACKOFF_MIN_S * 1000),
                    "period_max_ms": int(BACKOFF_MAX_S * 1000),
                    "period_increase_factor": 2,
                },
            },
            "transport": {"link": {"tls": tls, "tx": tx}},
        }  # fmt: skip

    def post(self, unsigned: bytes) -> bool:
        """Queue what is to be signed and sent; False if there is no room."""
        priority = PRIORITY[Channel(envelope.get_channel(unsigned))]
        with self._can_send:
            if self._is_closed or not self._outbox.put(priority, unsigned):
                return False
            self._can_send.notify()
        return True

    def close(self) -> None:
        """End; waits for the sending thread."""
        with self._can_send:
            self._is_closed = True
            self._can_send.notify()
        if self._session is not None:
            if self._sender.is_alive():
                self._sender.join()
            self._session.close()  # type: ignore[no-untyped-call]
        self._kept.clear()

    def _send_all(self) -> None:
        """The sending thread."""
        assert self._session is not None
        library = load_zenoh()
        urgency = (
            library.Priority.REAL_TIME, library.Priority.DATA, library.Priority.BACKGROUND
        )  # fmt: skip
        while True:
            with self._can_send:
                while self._outbox.is_empty() and not self._is_closed:
                    self._can_send.wait()
                if self._is_closed and self._outbox.is_empty():
                    return
                taken = self._outbox.take(1)
            for unsigned in taken:
                recipient = envelope.get_recipient(unsigned)
                name = "all" if recipient == envelope.TO_ALL else f"to/{recipient.hex()}"
                data = envelope.sign_envelope(unsigned, self._settings.network, self._settings.key)
                try:
                    self._session.put(
                        f"{self._top}/{name}",
                        data,
                        priority=urgency[PRIORITY[Channel(envelope.get_channel(unsigned))]],
                        congestion_control=library.CongestionControl.BLOCK,
                        allowed_destination=library.Locality.REMOTE,
                        express=True,
                    )
                except library.ZError as error:
                    self._deliver(self._callbacks.on_stranger, (f"Zenoh: {error}",), 0)

    def _upon_sample(self, sample: zenoh.Sample) -> None:
        """On a thread of Zenoh's."""
        data = sample.payload.to_bytes()
        try:
            sender = envelope.get_sender(data)
            if sender not in self._known:
                raise PeerError("envelope: of nobody who is registered")
            with self._inbox_lock:
                has_room = self._inbox_bytes + len(data) <= INBOX_BYTES_MAX
            if not has_room:
                self._deliver(self._callbacks.on_lost, (sender,), 0)
                return
            found = envelope.open_envelope(data, self._settings.network)
        except PeerError as error:
            self._deliver(self._callbacks.on_stranger, (str(error),), 0)
            return
        self._deliver(self._callbacks.on_envelope, (found, len(data)), len(data))

    def _upon_alive(self, sample: zenoh.Sample) -> None:
        """On a thread of Zenoh's."""
        words = str(sample.key_expr).rsplit("/", 2)[1:]
        try:
            peer, instance = PeerId(bytes.fromhex(words[0])), bytes.fromhex(words[1])
        except ValueError:
            self._deliver(self._callbacks.on_stranger, ("liveliness: not a node's",), 0)
            return
        is_here = str(sample.kind) == str(load_zenoh().SampleKind.PUT)
        self._deliver(self._callbacks.on_alive, (peer, instance, is_here), 0)

    def _deliver(self, act: Callable[..., None], arguments: tuple[Any, ...], size: int) -> None:
        """Have something done on the loop; what comes together wakes it once."""
        with self._inbox_lock:
            self._inbox.append((act, arguments, size))
            self._inbox_bytes += size
            is_first = len(self._inbox) == 1
        if is_first and not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(self._drain)
            except RuntimeError:  # it was closed just now
                return

    def _drain(self) -> None:
        with self._inbox_lock:
            taken, self._inbox = self._inbox, deque()
            self._inbox_bytes = 0
        for act, arguments, _ in taken:
            if self._is_closed:
                return
            act(*arguments)
