"""Ask a witness, a log's tiles or a server over HTTP/1.1: one request, one answer, both bounded.

Plain, or over TLS where the URL says https and the caller names whom it trusts. Not here: what is
asked (ask.py, gossip.py, docklock.outbox), the bytes of HTTP (http.py). Connections are kept and
used again. PeerError for all that another machine can do wrong.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from chainlite.errors import SpecError, StateError
from chainlite.witness import BODY_BYTES_MAX
from docklock.witness import http

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from typing import Self

ANSWER_BYTES_MAX = 64 * BODY_BYTES_MAX
ASK_MAX_S = 10.0
PORTS = {"http": 80, "https": 443}


class PeerError(StateError):
    """A peer is not there, is too slow, or says what is not HTTP/1.1; counted, never fatal."""


class Got(NamedTuple):
    """The status and the body of an answer, and its headers by their names in small letters."""

    status: int
    body: bytes
    headers: Mapping[bytes, bytes]


class Client:
    """Asks one URL; `base` is http://HOST:PORT and perhaps a path. One request at a time."""

    def __init__(
        self, base: str, tls: ssl.SSLContext | None = None, ask_max_s: float = ASK_MAX_S
    ) -> None:
        """`tls` says whom to believe where `base` is https://."""
        self._scheme, _, rest = base.partition("://")
        assert (self._scheme == "https") == (tls is not None), "https, and only https, wants it"
        self._tls, self._ask_max_s = tls, ask_max_s
        self._host, _, path = rest.partition("/")
        self._prefix = f"/{path}".rstrip("/")
        self.base = base
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._streams is not None:
            writer = self._streams[1]
            # TLS would first take leave of the other side, which may not be there.
            writer.close() if self._tls is None else writer.transport.abort()
            self._streams = None

    async def get(
        self, path: str, most: int = ANSWER_BYTES_MAX,
        headers: Mapping[str, str] = http.NO_HEADERS,
    ) -> Got:  # fmt: skip
        """GET; PeerError."""
        return await self._ask("GET", path, b"", most, headers)

    async def post(
        self, path: str, body: bytes, most: int = ANSWER_BYTES_MAX,
        headers: Mapping[str, str] = http.NO_HEADERS,
    ) -> Got:  # fmt: skip
        """POST; PeerError."""
        return await self._ask("POST", path, body, most, headers)

    async def put(
        self, path: str, body: bytes, most: int = ANSWER_BYTES_MAX,
        headers: Mapping[str, str] = http.NO_HEADERS,
    ) -> Got:  # fmt: skip
        """PUT; PeerError."""
        return await self._ask("PUT", path, body, most, headers)

    async def _ask(
        self, method: str, path: str, body: bytes, most: int,
        headers: Mapping[str, str] = http.NO_HEADERS,
    ) -> Got:  # fmt: skip
        target = f"{self._prefix}{path}"
        request = http.encode_request(method, self._host, target, body, headers)
        async with self._turn:
            try:
                async with asyncio.timeout(self._ask_max_s):  # wait_for may lose a cancellation
                    return await self._exchange(request, most)
            except TimeoutError:
                why = f"no answer in {self._ask_max_s:g} s"
            except asyncio.LimitOverrunError:
                why = "its answer's head is too long"
            except (OSError, EOFError) as error:
                why = (getattr(error, "strerror", "") or "") or "it closed the connection"
            except SpecError as error:
                why = str(error)
            self.close()
            raise PeerError(f"{self.base}: {why}")

    async def _exchange(self, request: bytes, most: int) -> Got:
        """On the connection that is kept, if it is still one; else on a new one."""
        if self._streams is not None:
            try:
                return await self._send(request, most)
            except (OSError, EOFError):
                self.close()  # it was closed while nobody asked
        host, port = _split_host(self._host, PORTS[self._scheme])
        self._streams = await asyncio.open_connection(
            host, port, limit=http.HEAD_BYTES_MAX, ssl=self._tls
        )
        return await self._send(request, most)

    async def _send(self, request: bytes, most: int) -> Got:
        assert self._streams is not None
        reader, writer = self._streams
        writer.write(request)
        await writer.drain()
        head = http.parse_answer(await reader.readuntil(b"\r\n\r\n"))
        if head.length > most:
            raise SpecError(f"an answer of {head.length} bytes, above the limit of {most}")
        body = await reader.readexactly(head.length)
        if not head.is_kept:
            self.close()
        return Got(int(head.method), body, head.headers)


def _split_host(host: str, port_default: int) -> tuple[str, int]:
    name, _, port = host.rpartition(":")
    if name and not host.endswith("]"):
        if not port.isdigit() or not port.isascii() or int(port) > 65_535:
            raise SpecError("its port is not a number")
        return name.strip("[]"), int(port)
    return host.strip("[]"), port_default
