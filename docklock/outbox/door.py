"""The way to one server: batches over HTTP/1.1 and TLS, one request at a time.

Not here: what is sent and what an answer means (sending, checking), the exchange itself
(docklock.witness.client), signatures and what is kept of a call (signing). Invariants: a server's
certificate is always verified; no redirect is followed, so nobody else is handed the token or the
evidence; what a server says in words is cut and escaped before anybody reads it; 200 and an alert
(422) count if the server signed them for this very call; whatever it signed is kept.
Source: RFC 9110, sections 10.2.3 and 15; RFC 9457; RFC 9659.
"""

from __future__ import annotations

import os
import ssl
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Protocol

from chainlite import domains, tlogproof
from chainlite.bpci.batch import compress
from chainlite.errors import DocklockError, PeerError, SpecError, StateError, TamperError
from chainlite.report import escape
from docklock.json_text import parse_json
from docklock.witness import served as served_log
from docklock.witness.client import Client
from docklock.witness.client import PeerError as AwayError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from docklock.outbox.settings import Server
    from docklock.outbox.signing import HostCalls, SignedCall
    from docklock.witness.client import Got

    Found = TypeVar("Found")

PATH, ENROL_PATH = "/v1/receipts", "/v1/enrol"
SEND_MAX_S = 120.0
"""4 MiB at 300 kbit/s."""
ANSWER_BYTES_MAX = tlogproof.PROOF_LIMIT_BYTES + 4096
TOKEN_BYTES_MAX = 4096
REASON_CHARS_MAX = 300
SEEN_FIELD = "bpci-log-size"
RESTORING = b'"urn:docklock:cage:restoring"'
"""The type of a problem."""
OK = 200
UNAUTHORIZED, CONFLICT, NOT_HOLDING = 401, 409, 422
REQUEST_TIMEOUT, TOO_EARLY, TOO_MANY, UNAVAILABLE, FULL = 408, 425, 429, 503, 507
SERVER_ERRORS = range(500, 600)


ALERT_CHARS_MAX = 16


class Busy(StateError):
    """The server takes it later: in so many seconds, or 0 where it does not say."""

    def __init__(self, why: str, retry_after_s: float) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s


class Restoring(Busy):
    """The server fills its log again, or is behind what this host has seen of it: help it."""


class Unknown(PeerError):
    """The server does not know this host's key, or not any more."""


class Elsewhere(StateError):
    """The server does not stand where the batch begins, and has not said where: perhaps nowhere."""


class Alerted(TamperError):
    """The server has found, and says under its signature, that evidence of this host does not hold.

    `kind` is its alert, `why` its words, `acknowledgement` what it holds, of which nothing is
    checked; `answer` is the body that says so, and `record` that of the call.
    """

    def __init__(
        self, name: str, kind: str, why: str, acknowledgement: bytes, answer: bytes, record: bytes
    ) -> None:
        super().__init__(f"{name}: alert {kind}: {why}")
        self.kind, self.why, self.acknowledgement = kind, why, acknowledgement
        self.answer, self.record = answer, record


class Door(Protocol):
    """A way to one server."""

    async def send(self, batch: bytes, seen: int = 0) -> bytes:
        """Hand in a batch; the acknowledgement's bytes, of which nothing is checked. `seen` is the
        size of the server's own log that this host has a checkpoint of.

        Restoring: see there. Busy: later. Elsewhere: not from there on. StateError: it is away.
        PeerError: it refuses this for good, and why. Alerted: it has taken what holds before
        something that does not.
        """

    async def enrol(self, grant: bytes) -> bytes:
        """Hand in the server's own grant for this host; its acknowledgement, of which nothing is
        checked. Errors as those of `send`."""

    async def hand_over(self, path: str, body: bytes, *, is_signed: bool) -> bytes:
        """Hand in what a restore of the server asks for (handing); its answer. Errors as `send`."""

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
        self, server: Server, calls: HostCalls | None = None, send_max_s: float = SEND_MAX_S
    ) -> None:
        """`calls` signs what is sent; without it nothing is, and nothing has to be."""
        self._server, self._calls, self._send_max_s = server, calls, send_max_s
        self._client: Client | None = None

    async def send(self, batch: bytes, seen: int = 0) -> bytes:
        """As Door."""
        fields = {SEEN_FIELD: str(seen)} if seen else {}
        return await self._post(PATH, compress(batch), fields | {"content-encoding": "zstd"})

    async def hand_over(self, path: str, body: bytes, *, is_signed: bool) -> bytes:
        """As Door."""
        if body[:1] == domains.BPCI_BATCH:
            return await self._post(path, compress(body), {"content-encoding": "zstd"})
        return await self._post(path, body, {}, is_signed=is_signed)

    async def _post(
        self, path: str, body: bytes, more: dict[str, str], *, is_signed: bool = True
    ) -> bytes:
        fields = {"content-type": "application/octet-stream"} | more
        if self._server.token_file:
            fields["authorization"] = f"Bearer {read_token(self._server.token_file)}"
        call = None
        if self._calls is not None and is_signed:
            call = self._calls.post(self._server, self._server.url + path, fields, body)
        sent = fields if call is None else call.fields
        try:
            got = await self._get_client().post(path, body, ANSWER_BYTES_MAX, sent)
        except AwayError as error:
            raise StateError(f"{self._server.name}: {error}") from None
        if self._calls is None or call is None:
            if got.status != OK:
                raise self._read_refusal(got)
            return got.body
        return self._take_answer(self._calls, call, got)

    def _take_answer(self, calls: HostCalls, call: SignedCall, got: Got) -> bytes:
        """What was answered to a signed call; it is kept if the server has signed it."""
        try:
            answer = call.check(got)
        except PeerError as error:
            if got.status != OK:
                raise self._read_refusal(got) from None
            raise PeerError(f"{self._server.name}: its answer: {error}") from None
        record = calls.keep(self._server, call, answer)
        if got.status == OK:
            return answer.body
        if got.status == NOT_HOLDING:
            self._raise_alert(answer.body, record)
        raise self._read_refusal(got)

    def _raise_alert(self, body: bytes, record: bytes) -> None:
        """Alerted, if that is what the body says."""
        from chainlite.bpci.ingest import decode_refused

        try:
            why, kind, acknowledgement = decode_refused(body)
        except SpecError:
            return
        if kind.isascii() and kind.isalpha() and len(kind) <= ALERT_CHARS_MAX:
            said = escape(why[:REASON_CHARS_MAX])
            raise Alerted(self._server.name, kind, said, acknowledgement, body, record)

    async def enrol(self, grant: bytes) -> bytes:
        """As Door."""
        try:
            got = await self._get_client().post(ENROL_PATH, grant, ANSWER_BYTES_MAX)
        except AwayError as error:
            raise StateError(f"{self._server.name}: {error}") from None
        if got.status != OK:
            raise self._read_refusal(got)
        return got.body

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
        if self._calls is not None:
            self._calls.close()

    def _read_refusal(self, got: Got) -> DocklockError:
        """What any other status means. Who said it is not known: it costs time, and no more."""
        said = escape(read_reason(got.body))
        why = f"{self._server.name}: status {got.status}" + (f": {said}" if said else "")
        if got.status in (TOO_MANY, UNAVAILABLE, FULL):
            retry_after = got.headers.get(b"retry-after", b"").decode("ascii", "replace")
            kind = Restoring if RESTORING in got.body else Busy
            return kind(why, parse_retry_after(retry_after, time.time()))
        if got.status == UNAUTHORIZED:
            return Unknown(why)
        if got.status == CONFLICT:
            return Elsewhere(why)
        if got.status in SERVER_ERRORS or got.status in (REQUEST_TIMEOUT, TOO_EARLY):
            return StateError(why)
        return PeerError(why)


def read_reason(body: bytes) -> str:
    """What a refusal says: the detail of a problem (RFC 9457), else its text; cut."""
    text = body.decode(errors="replace").strip()
    try:
        problem = parse_json(body) if body.startswith(b"{") else None
    except ValueError:
        problem = None
    if isinstance(problem, dict) and isinstance(problem.get("detail"), str):
        text = problem["detail"]
    return text[:REASON_CHARS_MAX]


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
