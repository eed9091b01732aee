"""The way to one server: batches over HTTP/1.1 and TLS, one request at a time.

Not here: what is sent and what an answer means (sending, checking), the exchange itself
(docklock.witness.client). Invariants: a server's certificate is always verified; no redirect is
followed, so nobody else is handed the token or the evidence; what a server says in words is cut and
escaped before anybody reads it. `sign` is where requests get signatures (HTTP Cage).
Source: RFC 9110, sections 10.2.3 and 15; RFC 9659.
"""

from __future__ import annotations

import os
import ssl
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Protocol

from chainlite import tlogproof
from chainlite.bpci.batch import compress
from chainlite.errors import PeerError, StateError
from chainlite.report import escape
from docklock.witness import served as served_log
from docklock.witness.client import Client
from docklock.witness.client import PeerError as AwayError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    from docklock.outbox.settings import Server
    from docklock.witness.client import Got

    Found = TypeVar("Found")
    Sign = Callable[[str, str, Mapping[str, str], bytes], Mapping[str, str]]

PATH = "/v1/receipts"
SEND_MAX_S = 120.0
"""4 MiB at 300 kbit/s."""
ANSWER_BYTES_MAX = tlogproof.PROOF_LIMIT_BYTES + 4096
TOKEN_BYTES_MAX = 4096
REASON_CHARS_MAX = 300
OK = 200
CONFLICT = 409
REQUEST_TIMEOUT, TOO_EARLY, TOO_MANY, UNAVAILABLE = 408, 425, 429, 503
SERVER_ERRORS = range(500, 600)


class Busy(StateError):
    """The server takes it later: in so many seconds, or 0 where it does not say."""

    def __init__(self, why: str, retry_after_s: float) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s


class Elsewhere(StateError):
    """The server does not stand where the batch begins, and has not said where: perhaps nowhere."""


class Door(Protocol):
    """A way to one server."""

    async def send(self, batch: bytes) -> bytes:
        """Hand in a batch; the acknowledgement's bytes, of which nothing is checked.

        Busy: later. Elsewhere: not from there on. StateError: it is away. PeerError: it refuses
        this for good, and why.
        """

    async def fetch_checkpoint(self) -> bytes:
        """The note that the server's own log serves now. StateError: it does not."""

    async def ask_tree(
        self, served: bytes, question: Callable[[Callable[[int, int], bytes]], Found]
    ) -> Found:
        """What `question` makes of the tree under `served`; as docklock.witness.served.ask_tree."""

    def close(self) -> None:
        """Let the connection go."""


class HttpDoor:
    """A Door to a server's URL."""

    def __init__(
        self, server: Server, sign: Sign | None = None, send_max_s: float = SEND_MAX_S
    ) -> None:
        """`sign` is told method, URL, headers and body, and gives headers that are added."""
        self._server, self._sign, self._send_max_s = server, sign, send_max_s
        self._client: Client | None = None

    async def send(self, batch: bytes) -> bytes:
        """As Door."""
        body = compress(batch)
        headers = {"Content-Type": "application/octet-stream", "Content-Encoding": "zstd"}
        if self._server.token_file:
            headers["Authorization"] = f"Bearer {read_token(self._server.token_file)}"
        if self._sign is not None:
            headers |= self._sign("POST", self._server.url + PATH, headers, body)
        try:
            got = await self._get_client().post(PATH, body, ANSWER_BYTES_MAX, headers)
        except AwayError as error:
            raise StateError(f"{self._server.name}: {error}") from None
        return self._read(got)

    async def fetch_checkpoint(self) -> bytes:
        """As Door."""
        try:
            return await served_log.fetch_checkpoint(self._get_client())
        except AwayError as error:
            raise StateError(f"{self._server.name}: its log cannot be checked: {error}") from None

    async def ask_tree(
        self, served: bytes, question: Callable[[Callable[[int, int], bytes]], Found]
    ) -> Found:
        """As Door."""
        try:
            return await served_log.ask_tree(self._get_client(), served, question)
        except AwayError as error:
            raise StateError(f"{self._server.name}: its log cannot be checked: {error}") from None

    def _get_client(self) -> Client:
        if self._client is None:
            self._client = Client(self._server.url, make_tls(self._server), self._send_max_s)
        return self._client

    def close(self) -> None:
        """As Door."""
        if self._client is not None:
            self._client.close()

    def _read(self, got: Got) -> bytes:
        if got.status == OK:
            return got.body
        said = escape(got.body.decode(errors="replace").strip()[:REASON_CHARS_MAX])
        why = f"{self._server.name}: status {got.status}" + (f": {said}" if said else "")
        if got.status in (TOO_MANY, UNAVAILABLE):
            retry_after = got.headers.get(b"retry-after", b"").decode("ascii", "replace")
            raise Busy(why, parse_retry_after(retry_after, time.time()))
        if got.status == CONFLICT:
            raise Elsewhere(why)
        if got.status in SERVER_ERRORS or got.status in (REQUEST_TIMEOUT, TOO_EARLY):
            raise StateError(why)
        raise PeerError(why)


def parse_retry_after(text: str, now_s: float) -> float:
    """Seconds from now, of either form of the header; 0 where it says nothing that can be used."""
    if text.isdigit() and text.isascii() and len(text) <= 9:
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_s)
    except (ValueError, OverflowError):
        return 0.0


def make_tls(server: Server) -> ssl.SSLContext | None:
    """Whom to believe at this server's URL; None for plain HTTP. StateError: no such file."""
    if not server.url.startswith("https://"):
        return None
    try:
        return ssl.create_default_context(cafile=server.ca_file or None)
    except OSError as error:
        why = error.strerror or "not certificates"
        raise StateError(f"{server.name}: {server.ca_file}: {why}") from None


def read_token(path: str) -> str:
    """The token of a file, without its last newline; StateError says what is wrong with it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(fd, TOKEN_BYTES_MAX + 1).decode().strip()
        finally:
            os.close(fd)
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StateError(f"{path}: not a token") from None
    is_token = text.isascii() and text.isprintable() and " " not in text
    if not text or len(text) > TOKEN_BYTES_MAX or not is_token:
        raise StateError(f"{path}: not a token: want one word of at most {TOKEN_BYTES_MAX} bytes")
    return text
