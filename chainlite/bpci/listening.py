"""Sockets of a server: how many connections, from whom, and how long each may take.

uvicorn reads and writes HTTP, and bounds neither how long a head takes, nor an answer that nobody
reads, nor connections that never ask: here each has its time and its place. Not here: what a
request may hold (chainlite.cage), the time of a body that is read (cage.routes), who is answered.
Invariants: no connection stays that waits for its other side longer than is said below; at most
CONNECTIONS_MAX are open, those in a TLS handshake too, and OF_ADDRESS_MAX of one address; answers
that wait to be read have UNSENT_BYTES_MAX and what comes in one turn; what is no HTTP, or framed
twice, gets a refusal and its connection ends.
Source: RFC 9112, sections 6.1 and 6.3 (two framings), 9.5 (time).
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import sys
import time
from collections import Counter
from email.utils import formatdate
from typing import TYPE_CHECKING, NamedTuple

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from chainlite.cage.answers import make_problem_fields
from chainlite.cage.asgi import send_whole
from chainlite.cage.middleware import get_address
from chainlite.cage.refusal import Refusal, encode_problem, refuse_field
from chainlite.errors import SpecError, StateError

if TYPE_CHECKING:
    from chainlite.cage.asgi import App, Fields, Receive, Scope, Send

CONNECTIONS_MAX = 4096
OF_ADDRESS_MAX = CONNECTIONS_MAX // 4
SPARE_FILES = 128
"""Descriptors that are left to the store, whatever comes."""
BACKLOG = 1024
ACCEPT_AGAIN_S = 0.1
HANDSHAKE_S = 10.0
HEAD_S = 10.0
"""From a connection's start, or a head's first byte, until the head is whole."""
BODY_S = 60.0
"""Until the body is whole: more than any route allows, for what is sent after the answer."""
IDLE_S = 75.0
CROWDED_S = 2.0
"""In place of HEAD_S and IDLE_S while more than half of the places are taken."""
WRITE_S = 30.0
"""Until what was written is taken, or PROGRESS_BYTES of it."""
PROGRESS_BYTES = 1 << 20
UNSENT_BYTES_MAX = 256 << 20
"""Of answers that are not taken yet; beyond it who has most of them unread loses its connection."""
LINGER_S = 5.0
"""For the other side's part of the end of TLS."""
SWEEP_S = 1.0
STOP_S = 20.0
STOP_STEP_S = 0.1


class Listen(NamedTuple):
    """Where a server listens, the names that it has, and its certificate; both paths or none."""

    address: str
    port: int
    authorities: tuple[str, ...]
    certificate: str = ""
    private_key: str = ""


class Connection(H11Protocol):
    """uvicorn's, with a time for each thing that its other side has to do."""

    def __init__(self, config: uvicorn.Config, state: ServerState) -> None:
        super().__init__(config, state, {})
        self.ended: asyncio.Future[None] = self.loop.create_future()
        self._has_begun = False  # a part of a head is here
        self._phase: object = None
        self._since_s = self._blocked_since_s = 0.0
        self.unsent_bytes = self._blocked_bytes = 0

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.ended.done():
            self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except h11.LocalProtocolError:  # more after what was refused already
            self.transport.abort()
            return
        self._has_begun = self.conn.their_state is h11.IDLE

    def resume_writing(self) -> None:
        super().resume_writing()
        self._blocked_since_s = 0.0

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """In place of uvicorn's: a problem, as all other refusals are."""
        error = sys.exc_info()[1]
        if getattr(error, "error_status_hint", 400) == 431:
            self._refuse(Refusal(431, "too-large", "the head is too large"))
        else:
            self._refuse(Refusal(400, "malformed-field", "this is no HTTP/1.1"))

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what is no request, and end."""
        if self.cycle is not None:  # whoever works on it is told no more, and says no more
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        fields, body = make_problem(refusal)
        head = h11.Response(status_code=refusal.status, headers=fields)
        for event in (head, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def check_time(self, now_s: float, *, is_crowded: bool) -> None:
        """End the connection where its other side has had its time."""
        state = self.conn.their_state
        phase = (self.cycle, state, self._has_begun)
        if phase != self._phase:
            self._phase, self._since_s = phase, now_s
        self.unsent_bytes = unsent = self.transport.get_write_buffer_size()
        if not unsent:
            self._blocked_since_s = 0.0
        elif not self._blocked_since_s or unsent <= self._blocked_bytes - PROGRESS_BYTES:
            self._blocked_since_s, self._blocked_bytes = now_s, unsent
        elif now_s - self._blocked_since_s > WRITE_S:
            self.transport.abort()
            return
        passed_s = now_s - self._since_s
        if state is h11.SEND_BODY:
            if passed_s > BODY_S:
                self.transport.abort()
        elif state is h11.IDLE:
            is_new = self._has_begun or self.cycle is None
            if passed_s > (CROWDED_S if is_crowded else HEAD_S if is_new else IDLE_S):
                if self._has_begun:
                    self._refuse(Refusal(408, "too-slow", "no whole head in time"))
                self.transport.close()


class Listener:
    """A server's sockets and their connections, for one event loop."""

    def __init__(self, app: App, listen: Listen) -> None:
        """SpecError where the certificate cannot be used."""
        self._listen = listen
        self._config = uvicorn.Config(
            _Framed(app), loop="asyncio", http=Connection, ws="none", lifespan="off",
            log_config=None, log_level=logging.ERROR, access_log=False, server_header=False,
            proxy_headers=False, timeout_keep_alive=int(IDLE_S),
            ssl_certfile=listen.certificate or None, ssl_keyfile=listen.private_key or None,
        )  # fmt: skip
        try:
            self._config.load()
        except OSError as error:  # ssl's are
            raise SpecError(f"{listen.certificate}: cannot be used for TLS: {error}") from None
        self._state = ServerState()
        self._places = count_places()
        self._of_address: Counter[str] = Counter()
        self._open: set[asyncio.Task[None]] = set()
        self._sockets: list[socket.socket] = []

    def open(self) -> str:
        """Listen; the address, with the port. StateError where it cannot."""
        address, port = self._listen.address, self._listen.port
        try:
            found = socket.getaddrinfo(
                address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            for family, place in dict.fromkeys((one[0], one[4][:2]) for one in found):
                one = socket.create_server(
                    (str(place[0]), int(place[1])), family=family, backlog=BACKLOG
                )
                one.setblocking(False)
                self._sockets.append(one)
        except OSError as error:
            self._close_sockets()
            raise StateError(f"cannot listen on {address}:{port}: {error.strerror}") from None
        scheme = "https" if self._listen.certificate else "http"
        host = f"[{address}]" if ":" in address else address
        return f"{scheme}://{host}:{self._sockets[0].getsockname()[1]}"

    async def serve(self, stop: asyncio.Event) -> None:
        """Take connections until `stop`; then let those end that are being answered."""
        loop = asyncio.get_running_loop()
        accepting = [loop.create_task(self._accept(one)) for one in self._sockets]
        waiting = loop.create_task(stop.wait())
        try:
            while not stop.is_set():
                self._sweep(loop.time())
                await asyncio.wait([waiting], timeout=SWEEP_S)
        finally:
            for one in (*accepting, waiting):
                one.cancel()
            self._close_sockets()
            await self._end(loop)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, place = await loop.sock_accept(listening)
            except OSError:  # who called is gone; or no descriptor is left
                await asyncio.sleep(ACCEPT_AGAIN_S)
                continue
            address = get_address({"client": place})
            if len(self._open) >= self._places or self._of_address[address] >= OF_ADDRESS_MAX:
                connection.close()
            else:
                task = loop.create_task(self._hold(connection, address))
                self._open.add(task)
                task.add_done_callback(self._open.discard)
            await asyncio.sleep(0)  # sock_accept does not wait where there is one already

    async def _hold(self, connection: socket.socket, address: str) -> None:
        """One connection from its start to its end."""
        is_tls = self._config.ssl is not None
        self._of_address[address] += 1
        try:
            # asyncio does it for a socket that was made as TCP; create_server's was made as any.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _, protocol = await asyncio.get_running_loop().connect_accepted_socket(
                lambda: Connection(self._config, self._state), connection, ssl=self._config.ssl,
                ssl_handshake_timeout=HANDSHAKE_S if is_tls else None,
                ssl_shutdown_timeout=LINGER_S if is_tls else None,
            )  # fmt: skip
            await protocol.ended
        except OSError:  # no TLS came of it; nobody is to be told
            connection.close()
        finally:
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]

    def _sweep(self, now_s: float) -> None:
        date = formatdate(time.time(), usegmt=True).encode()
        self._state.default_headers = [(b"date", date)]
        is_crowded = len(self._open) > self._places // 2
        connections = [one for one in self._state.connections if isinstance(one, Connection)]
        for one in connections:
            one.check_time(now_s, is_crowded=is_crowded)
        left = sum(one.unsent_bytes for one in connections)
        if left > UNSENT_BYTES_MAX:
            for one in sorted(connections, key=lambda one: -one.unsent_bytes):
                one.transport.abort()
                left -= one.unsent_bytes
                if left <= UNSENT_BYTES_MAX:
                    break

    async def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        for one in list(self._state.connections):
            if not one.transport.is_closing():
                one.shutdown()
        until_s = loop.time() + STOP_S
        while (self._open or self._state.tasks) and loop.time() < until_s:
            self._sweep(loop.time())
            await asyncio.sleep(STOP_STEP_S)
        left = [*self._open, *self._state.tasks]
        for one in list(self._state.connections):
            one.transport.abort()
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _close_sockets(self) -> None:
        for one in self._sockets:
            one.close()
        self._sockets.clear()


class _Framed:
    """An application that sees no request whose end can be read in two ways."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request with two framings, and end its connection: what follows is none."""
        names = [name for name, _ in scope["headers"]]
        if b"transfer-encoding" in names and (
            b"content-length" in names or scope["http_version"] != "1.1"
        ):
            refusal = refuse_field("a body with two framings")
            fields, body = make_problem(refusal)
            await send_whole(send, refusal.status, fields, body)
            return
        await self._app(scope, receive, send)


def make_problem(refusal: Refusal) -> tuple[Fields, bytes]:
    """A refusal that ends its connection: fields and body."""
    audit_id = os.urandom(16).hex()
    body = encode_problem(refusal, audit_id)
    fields = make_problem_fields(refusal, body)
    return [*fields, (b"connection", b"close"), (b"x-audit-id", audit_id.encode())], body


def count_places() -> int:
    """How many connections there may be, with as many descriptors as this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS_MAX + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft <= SPARE_FILES:
            raise StateError(f"{soft} descriptors are too few: want more than {SPARE_FILES}")
    return (
        CONNECTIONS_MAX
        if soft == resource.RLIM_INFINITY
        else min(soft - SPARE_FILES, CONNECTIONS_MAX)
    )
