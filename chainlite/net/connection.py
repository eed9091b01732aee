"""One TCP connection to a node: TLS inside, frames in and out, one write per turn of the loop.

Not here: who may connect and which connection of a pair stands (mesh). The TLS session works on
memory, so that what is queued in one turn is encrypted and written at once, and no layer of asyncio
lies between. Invariants: frames go out by priority and, within one, in order; after `close` no
frame is delivered; a connection that is silent for DEAD_AFTER_S is closed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chainlite.errors import PeerError
from chainlite.net import frames
from chainlite.net.calls import Calls
from chainlite.net.outbox import Outbox
from chainlite.net.tls import TlsSession
from chainlite.net.transport import DEAD_AFTER_S, HANDSHAKE_S, PING_EVERY_S

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from chainlite.net.frames import Frame
    from chainlite.net.transport import PeerId

WRITE_BYTES = 256 * 1024
"""Encrypted and written at once: an urgent frame waits for so much, or for one larger frame."""
BUFFER_HIGH_BYTES = 256 * 1024
BUFFER_LOW_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the mesh does when something happens to a connection."""

    buffer: bytearray
    """Where sockets are read to: one for all, since what is read is used up at once."""
    on_open: Callable[[Connection], bool]
    """A socket is there; False to close it at once."""
    on_secured: Callable[[Connection, bytes], None]
    """TLS is done; the peer's certificate."""
    on_frame: Callable[[Connection, Frame], None]
    on_wrong: Callable[[Connection, str], None]
    """What came cannot be read; the connection is closed after this."""
    on_closed: Callable[[Connection], None]


class Connection(asyncio.BufferedProtocol):
    """A connection; `peer` is None until its certificate and greeting have said who it is."""

    def __init__(self, context: ssl.SSLContext, hooks: Hooks, expected: PeerId | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._tls = TlsSession(context, server_side=expected is None)
        self._hooks = hooks
        self._reader = frames.FrameReader()
        self._outbox = Outbox()
        self._transport: asyncio.Transport | None = None
        self._view = memoryview(hooks.buffer)
        self._is_scheduled = self._is_paused = False
        self._written = self._accepted = 0
        self._timer: asyncio.TimerHandle | None = None
        self.expected = expected
        self.is_dialled = expected is not None
        self.peer: PeerId | None = None
        self.instance = b""
        self.is_up = self.is_closed = False
        self.heard_at = self._loop.time()
        self.serving = 0
        self.calls = Calls(self._loop)
        self.settled: asyncio.Future[None] = self._loop.create_future()
        """Done once the connection is up, or closed."""
        self.ended: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # TCP_NODELAY is asyncio's default
        self._transport = transport
        transport.set_write_buffer_limits(BUFFER_HIGH_BYTES, BUFFER_LOW_BYTES)
        if not self._hooks.on_open(self):
            self.close(abort=True)
            return
        self._timer = self._loop.call_later(HANDSHAKE_S, self._upon_handshake_time)
        if self.is_dialled:
            self._advance()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.close()
        if not self.ended.done():
            self.ended.set_result(None)

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._schedule()

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002
        return self._hooks.buffer

    def eof_received(self) -> bool:
        return False

    def buffer_updated(self, count: int) -> None:
        self.heard_at = self._loop.time()
        self._tls.feed(self._view[:count])
        self._advance()

    def _advance(self) -> None:
        """Go on with what has arrived."""
        try:
            if not self._tls.is_ready:
                is_ready = self._tls.shake_hands()
                self._put_on_wire()
                if not is_ready:
                    return
                self._hooks.on_secured(self, self._tls.get_peer_certificate())
            while not self.is_closed and (data := self._tls.read()):
                for frame in self._reader.feed(data):
                    self._hooks.on_frame(self, frame)
                    if self.is_closed:
                        return
        except PeerError as error:
            self._put_on_wire()  # TLS tells the peer why
            if not self.is_closed:
                self._hooks.on_wrong(self, str(error))
                self.close()

    def post(self, priority: int, frame: bytes) -> bool:
        """Queue a frame; False if there is no room for it."""
        if self.is_closed or not self._outbox.put(priority, frame):
            return False
        self._schedule()
        return True

    def _schedule(self) -> None:
        if not self._is_scheduled and not self._is_paused:
            self._is_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Write what waits, up to WRITE_BYTES; more in the next turn."""
        self._is_scheduled = False
        if self.is_closed or self._is_paused:
            return
        taken = self._outbox.take(WRITE_BYTES)
        if not taken:
            return
        try:
            self._tls.write(taken[0] if len(taken) == 1 else b"".join(taken))
        except PeerError:
            self.close()
            return
        self._put_on_wire()
        if not self._outbox.is_empty():
            self._schedule()

    def _put_on_wire(self) -> None:
        data = self._tls.take_output()
        if data and self._transport is not None and not self._transport.is_closing():
            self._written += len(data)
            self._transport.write(data)

    def upon_up(self) -> None:
        """The mesh says that this is the connection of its pair."""
        self.is_up = True
        self._settle()

    def upon_tick(self, now: float) -> None:
        """Once in PING_EVERY_S: see whether the peer lives, and ask it if it is silent."""
        assert self._transport is not None
        buffered = self._transport.get_write_buffer_size()
        # What the kernel takes of a full buffer, the peer has acknowledged.
        if buffered and self._written - buffered > self._accepted:
            self.heard_at = now
        self._accepted = self._written - buffered
        if now - self.heard_at > DEAD_AFTER_S:
            self.close(abort=True)
        elif now - self.heard_at > PING_EVERY_S / 2:
            self.ping()

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.post(0, frames.PING)

    def _upon_handshake_time(self) -> None:
        if not self.is_up:
            self._hooks.on_wrong(self, f"no greeting within {HANDSHAKE_S} s")
            self.close(abort=True)

    def _settle(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self.settled.done():
            self.settled.set_result(None)

    def abort(self) -> None:
        """Let go of the socket, whatever it still has to send."""
        self.close(abort=True)
        if self._transport is not None:
            self._transport.abort()

    def close(self, *, abort: bool = False) -> None:
        """Hang up; unless `abort`, after what can be written at once."""
        if self.is_closed:
            return
        if self.is_up and not abort:
            self._flush()
        if self.is_closed:
            return
        self.is_closed = True
        self._settle()
        self.calls.end_all("the peer is gone")
        if self._transport is not None:
            self._transport.abort() if abort else self._transport.close()
        self._hooks.on_closed(self)
