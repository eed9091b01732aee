"""How nodes learn of each other: an introducer that newcomers ask, and news between peers.

Nobody who is not registered gets through mutual TLS, so a newcomer asks on a port of its own, over
TLS that proves the introducer only: it says its registration and is told all others. Whom the
introducer admits (the caller's rule: who is registered on the chain, say) it tells its peers, and
each of these asks its own rule. Not here: the bytes (introductions), lists of peers (peers_file).
Invariants: at most ASKERS_MAX askers are served at once, each for ASK_S; an introducer can leave
nodes out, but cannot make up any; it is known by its certificate, wherever its name leads.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING

from chainlite.errors import PeerError, SpecError, StateError
from chainlite.net import tls
from chainlite.net.introductions import (
    INTRODUCTION_BYTES_MAX,
    decode_introduction,
    encode_introduction,
)
from chainlite.net.registration import REGISTRATION_BYTES_MAX
from chainlite.net.transport import PEERS_MAX, Channel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chainlite.net.introductions import Directory
    from chainlite.net.registration import Address, Registration
    from chainlite.net.tls import NodeCertificate
    from chainlite.net.transport import PeerId, Transport

ASKERS_MAX = 16
ASK_S = 5.0
PAGES_MAX = PEERS_MAX
ASKED_BYTES_MAX = REGISTRATION_BYTES_MAX + 64


class Introductions:
    """Takes what is told of new nodes, on channel control, and tells peers that come what it knows.

    `admit` is whom this node wants as a peer.
    """

    def __init__(
        self,
        transport: Transport,
        network: bytes,
        directory: Directory,
        admit: Callable[[Registration], bool],
    ) -> None:
        self._transport, self._network = transport, network
        self.directory, self._admit = directory, admit
        transport.listen(Channel.CONTROL, self._upon_told)
        transport.watch(self._upon_up, lambda _: None)

    def take(self, registration: Registration) -> bool:
        """Take a registration from wherever it came; tell all peers if it was news."""
        is_mine = registration.node == self._transport.me
        if not is_mine and not self._admit(registration):
            return False
        if not self.directory.add(registration):
            return False
        if not is_mine:
            self._transport.add_peer(registration)
        self._transport.broadcast(Channel.CONTROL, encode_introduction([registration]))
        return True

    def _upon_told(self, _peer: PeerId, _channel: Channel, payload: bytes) -> None:
        for registration in decode_introduction(payload, self._network):
            try:
                self.take(registration)
            except SpecError as error:
                raise PeerError(str(error)) from None

    def _upon_up(self, peer: PeerId) -> None:
        for page in self.directory.get_pages():
            self._transport.send(peer, Channel.CONTROL, encode_introduction(page))


class Introducer:
    """The port for newcomers. `refused` counts who asked and was not admitted, or asked wrongly."""

    def __init__(
        self,
        introductions: Introductions,
        network: bytes,
        certificate: NodeCertificate,
        listen: tuple[str, int],
    ) -> None:
        self._introductions, self._network = introductions, network
        self._certificate, self._listen = certificate, listen
        self._server: asyncio.Server | None = None
        self._askers = 0
        self.refused = 0

    @property
    def port(self) -> int:
        """Where it listens, once started."""
        if self._server is None:
            raise StateError("the introducer does not listen")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Listen; StateError if that is not possible."""
        context = tls.make_context(self._certificate, (), server_side=True)
        context.verify_mode = ssl.CERT_NONE  # who asks is known by nothing but what it says
        host, port = self._listen
        try:
            self._server = await asyncio.start_server(
                self._serve, host, port, ssl=context, ssl_handshake_timeout=ASK_S,
                limit=ASKED_BYTES_MAX,
            )  # fmt: skip
        except OSError as error:
            raise StateError(f"cannot listen on {host} port {port}: {error}") from None

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._askers += 1
        try:
            if self._askers <= ASKERS_MAX:
                async with asyncio.timeout(ASK_S):
                    await self._answer(reader, writer)
        except (PeerError, SpecError, OSError, EOFError):  # TimeoutError is an OSError
            self.refused += 1
        finally:
            self._askers -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(4), "big")
        if size > ASKED_BYTES_MAX:
            raise PeerError(f"introduction: {size} bytes, at most {ASKED_BYTES_MAX}")
        asked = decode_introduction(await reader.readexactly(size), self._network)
        if len(asked) != 1:
            raise PeerError("introduction: a newcomer says who it is, and no more")
        self._introductions.take(asked[0])
        known = {one.node for one in self._introductions.directory.get_all()}
        if asked[0].node not in known:
            raise PeerError("introduction: not admitted")
        for page in self._introductions.directory.get_pages():
            data = encode_introduction(page)
            writer.write(len(data).to_bytes(4, "big") + data)
        writer.write(bytes(4))
        await writer.drain()


async def ask_introducer(
    mine: Registration,
    certificate: NodeCertificate,
    introducers: Iterable[Registration],
    addresses: Iterable[Address],
) -> tuple[Registration, ...]:
    """All that an introducer knows, from the first that answers; StateError if none does.

    A name may have several addresses, and each is tried; whoever answers there must show the
    certificate of one of `introducers`.
    """
    known = [one.certificate for one in introducers]
    context = tls.make_context(certificate, known, server_side=False)
    why = "no address is known"
    for host, port in addresses:
        try:
            async with asyncio.timeout(ASK_S):
                found = await asyncio.get_running_loop().getaddrinfo(
                    host, port, type=socket.SOCK_STREAM
                )
        except OSError as error:
            why = f"{host}: {error}"
            continue
        for address in dict.fromkeys(str(one[4][0]) for one in found):
            try:
                async with asyncio.timeout(ASK_S):
                    return await _ask(mine, context, known, (address, port))
            except (OSError, EOFError, PeerError) as error:
                why = f"{address} port {port}: {str(error) or 'no answer in time'}"
    raise StateError(f"no introducer answers: {why}")


async def _ask(
    mine: Registration, context: ssl.SSLContext, known: list[bytes], place: tuple[str, int]
) -> tuple[Registration, ...]:
    reader, writer = await asyncio.open_connection(*place, ssl=context)
    try:
        session: ssl.SSLObject = writer.get_extra_info("ssl_object")
        if session.getpeercert(binary_form=True) not in known:
            raise PeerError("another certificate than an introducer's")
        data = encode_introduction([mine])
        writer.write(len(data).to_bytes(4, "big") + data)
        found = list["Registration"]()
        for _ in range(PAGES_MAX):
            size = int.from_bytes(await reader.readexactly(4), "big")
            if not size:
                break
            if size > INTRODUCTION_BYTES_MAX + 64:
                raise PeerError(f"introduction: {size} bytes")
            found += decode_introduction(await reader.readexactly(size), mine.network)
        return tuple(found)
    finally:
        writer.close()
