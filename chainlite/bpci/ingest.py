"""`POST /v1/receipts`: a batch in, an acknowledgement out; raw ASGI, since it is the hot path.

200: taken, or not where the host stands (the acknowledgement says where that is). 400: it does not
read. 401: who sends it is not shown. 403: not a host. 408, 413, 415: too slow, too large, another
coding. 422: it does not hold; JSON with the alert. 429, 503 with Retry-After: later.
Not here: verification and writing (desk, intake), who calls (actor), other addresses (app).
Invariants: no more of a body is read than the limit; an answer 200 is durable.
Source: RFC 9110; RFC 8878 for the coding; ASGI 3.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING

from chainlite.bpci.actor import HOST
from chainlite.bpci.batch import WIRE_LIMIT_BYTES
from chainlite.bpci.desk import Busy
from chainlite.bpci.intake import BROKEN, REFUSED, Request
from chainlite.errors import PeerError, SpecError, StateError

if TYPE_CHECKING:
    from chainlite.bpci.actor import Authenticate, Receive, Scope, Send
    from chainlite.bpci.desk import Desk
    from chainlite.bpci.intake import Answer

READ_S = 30.0
"""For a whole body: at its limit of 10 MiB that is 3 Mbit/s."""
BUSY_AFTER_S, BROKEN_AFTER_S = 1, 10
PATH = "/v1/receipts"
BYTES, JSON = b"application/octet-stream", b"application/json"


class Refusal(Exception):
    """An answer other than 200, with what it says and when to come again (0: not said)."""

    def __init__(self, status: int, why: str, retry_after_s: int = 0) -> None:
        super().__init__(why)
        self.status, self.why, self.retry_after_s = status, why, retry_after_s


class Ingest:
    """The ASGI application of this one address."""

    def __init__(self, desk: Desk, authenticate: Authenticate) -> None:
        self._desk, self._authenticate = desk, authenticate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            answer = await self._take(scope, receive)
        except Refusal as refusal:
            body = {"why": refusal.why}
            await respond(send, refusal.status, encode(body), JSON, refusal.retry_after_s)
            return
        if answer.kind == REFUSED:
            await respond(send, 422 if answer.alert else 400, encode_refused(answer), JSON)
            return
        await respond(send, 200, answer.acknowledgement, BYTES)

    async def _take(self, scope: Scope, receive: Receive) -> Answer:
        if scope["method"] != "POST":
            raise Refusal(405, "want POST")
        is_packed = read_coding(scope)
        body = await read_body(scope, receive)
        try:
            actor = await self._authenticate(scope, body)
        except PeerError as error:
            raise Refusal(401, str(error)) from None
        if actor.role != HOST:
            raise Refusal(403, "not a host")
        try:
            answer = await self._desk.take(Request(actor.host, body, is_packed))
        except Busy as error:
            raise Refusal(429, str(error), BUSY_AFTER_S) from None
        except StateError as error:
            raise Refusal(503, str(error), BROKEN_AFTER_S) from None
        if answer.kind == BROKEN:
            raise Refusal(503, "the server's store is damaged", BROKEN_AFTER_S)
        return answer


def read_coding(scope: Scope) -> bool:
    """Whether the body is a zstd frame; Refusal for another coding."""
    coding = get_header(scope, b"content-encoding")
    if coding not in (b"", b"identity", b"zstd"):
        raise Refusal(415, "want Content-Encoding: zstd")
    return coding == b"zstd"


async def read_body(scope: Scope, receive: Receive, limit: int = WIRE_LIMIT_BYTES) -> bytes:
    """The whole body; Refusal where it is too large, too slow, or its sender goes away."""
    length = get_header(scope, b"content-length")
    if length.isdigit() and int(length[:20]) > limit:
        raise Refusal(413, f"above {limit} bytes")
    parts, size = list[bytes](), 0
    try:
        async with asyncio.timeout(READ_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refusal(400, "the body ended early")
                part = message.get("body", b"")
                size += len(part)
                if size > limit:
                    raise Refusal(413, f"above {limit} bytes")
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise Refusal(408, f"the body took more than {READ_S:g} s") from None


def get_header(scope: Scope, name: bytes) -> bytes:
    """The value of a header that may be there once; Refusal where it is there more often."""
    found = [value for key, value in scope["headers"] if key == name]
    if len(found) > 1:
        raise Refusal(400, f"more than one {name.decode()}")
    return bytes(found[0]).strip() if found else b""


def encode_refused(answer: Answer) -> bytes:
    """What a host is told whose batch does not hold: why, and what is held."""
    held = base64.b64encode(answer.acknowledgement).decode()
    return encode({"why": answer.why, "alert": answer.alert, "acknowledgement": held})


def decode_refused(data: bytes) -> tuple[str, str, bytes]:
    """Why, the kind of alert and the acknowledgement of such an answer; SpecError for others."""
    try:
        said = json.loads(data)
        why, alert = said["why"], said["alert"]
        held = base64.b64decode(said["acknowledgement"], validate=True)
    except (ValueError, KeyError, TypeError):
        raise SpecError("refusal: not one of a server") from None
    if not isinstance(why, str) or not isinstance(alert, str):
        raise SpecError("refusal: not one of a server")
    return why, alert, held


def encode(value: object) -> bytes:
    """JSON."""
    return json.dumps(value).encode()


async def respond(
    send: Send, status: int, body: bytes, kind: bytes, retry_after_s: int = 0
) -> None:
    """One answer with its body."""
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    if retry_after_s:
        headers.append((b"retry-after", b"%d" % retry_after_s))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
