"""`POST /v1/receipts`: a batch in, an acknowledgement out; raw ASGI, since it is the hot path.

200: taken, or not where the host stands (the acknowledgement says where that is). 400: it does not
read. 401: who sends it is not shown. 413, 408, 415: too large, too slow, another coding. 422: it
does not hold: a problem with the alert and what is held. 403: the host was revoked. 429, 503, 507
with Retry-After: later, 429 and 507 also where a quota of the host's tenant is used up.
Not here: verification and writing (desk, intake), who calls (actor), other addresses (app).
Invariants: no more of a body is held than the limit; an answer 200 is durable.
Source: RFC 9110; RFC 9457; RFC 8878 for the coding; ASGI 3.
"""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING

from chainlite.bpci import quota
from chainlite.bpci.actor import require_host
from chainlite.bpci.batch import WIRE_LIMIT_BYTES
from chainlite.bpci.desk import Busy
from chainlite.bpci.intake import BROKEN, EXCEEDED, REFUSED, REVOKED, STRANGER, Request
from chainlite.cage.answers import make_problem_fields
from chainlite.cage.asgi import Gone, read_body, send_whole
from chainlite.cage.refusal import CONTENT_TYPE, Refusal, encode_problem
from chainlite.errors import SpecError, StateError

if TYPE_CHECKING:
    from chainlite.bpci.actor import Authenticate
    from chainlite.bpci.desk import Desk
    from chainlite.bpci.intake import Answer
    from chainlite.cage.asgi import Receive, Scope, Send

PATH = "/v1/receipts"
READ_S = 30.0
"""For a whole body: at its limit of 10 MiB that is 3 Mbit/s."""
BUSY_AFTER_S, BROKEN_AFTER_S = 1, 10
FULL_AFTER_S = 3600
"""At most, where a quota is used up: somebody may set it higher meanwhile."""


class Ingest:
    """The ASGI application of this one address."""

    def __init__(self, desk: Desk, authenticate: Authenticate) -> None:
        self._desk, self._authenticate = desk, authenticate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            answer = await self._take(scope, receive)
        except Refusal as refusal:
            await send_refusal(send, scope, refusal)
            return
        except Gone:
            return
        if answer.kind == REFUSED:
            status, body = 422 if answer.alert else 400, encode_refused(answer)
            await send_whole(send, status, [(b"content-type", CONTENT_TYPE.encode())], body)
            return
        kind = (b"content-type", b"application/octet-stream")
        await send_whole(send, 200, [kind], answer.acknowledgement)

    async def _take(self, scope: Scope, receive: Receive) -> Answer:
        if scope["method"] != "POST":
            raise Refusal(405, "no-method", "this path knows POST", allowed=("POST",))
        coding = b"".join(
            [value for name, value in scope["headers"] if name == b"content-encoding"]
        )
        if coding not in (b"", b"zstd"):
            raise Refusal(415, "another-coding", "want Content-Encoding: zstd")
        actor = self._authenticate(scope)
        host = require_host(actor)
        body = await read_body(receive, WIRE_LIMIT_BYTES, READ_S)
        try:
            answer = await self._desk.take(Request(host, body, bool(coding), actor.public))
        except Busy as error:
            raise Refusal(429, "busy", str(error), retry_after_s=BUSY_AFTER_S) from None
        except StateError as error:
            raise Refusal(503, "store", str(error), retry_after_s=BROKEN_AFTER_S) from None
        if answer.kind == BROKEN:
            why = "the server's store is damaged"
            raise Refusal(503, "store", why, retry_after_s=BROKEN_AFTER_S)
        if answer.kind == STRANGER:
            raise Refusal(401, "unknown-key", answer.why)
        if answer.kind == REVOKED:
            raise Refusal(403, "revoked", answer.why)
        if answer.kind == EXCEEDED:
            raise make_quota_refusal(answer, time.time_ns() // 10**6)
        return answer


def make_quota_refusal(answer: Answer, now_ms: int) -> Refusal:
    """Of what is too much: for today (429), or until something is erased (507, RFC 4918)."""
    if answer.which == quota.RECEIPTS:
        wait_s = min(quota.compute_wait_s(now_ms), FULL_AFTER_S)
        return Refusal(429, "quota", answer.why, retry_after_s=wait_s)
    return Refusal(507, "quota", answer.why, retry_after_s=FULL_AFTER_S)


def encode_refusal(scope: Scope, refusal: Refusal) -> bytes:
    """A refusal as a problem of this call."""
    call = scope.get("docklock.cage")
    return encode_problem(refusal, call.audit_id if call is not None else "")


async def send_refusal(send: Send, scope: Scope, refusal: Refusal) -> None:
    """A refusal as an answer."""
    body = encode_refusal(scope, refusal)
    await send_whole(send, refusal.status, make_problem_fields(refusal, body), body)


def encode_refused(answer: Answer) -> bytes:
    """What a host is told whose batch does not hold: why, and what is held."""
    problem = {
        "type": "urn:docklock:bpci:refused",
        "title": answer.alert or "refused",
        "detail": answer.why,
        "alert": answer.alert,
        "acknowledgement": base64.b64encode(answer.acknowledgement).decode(),
    }
    return json.dumps(problem, separators=(",", ":")).encode()


def decode_refused(data: bytes) -> tuple[str, str, bytes]:
    """Why, the kind of alert and the acknowledgement of such an answer; SpecError for others."""
    try:
        said = json.loads(data)
        why, alert = said["detail"], said["alert"]
        held = base64.b64decode(said["acknowledgement"], validate=True)
    except (ValueError, KeyError, TypeError):
        raise SpecError("refusal: not one of a server") from None
    if not isinstance(why, str) or not isinstance(alert, str):
        raise SpecError("refusal: not one of a server")
    return why, alert, held
