"""The cage around an ASGI application: who calls is known, pays, and gets a signed answer.

Order of a caged call: the head is read, its signature verified, its nonce taken and its price paid,
then its body read and compared, the application called, the answer signed with its receipt. Not
here: keys (find_key), TLS, what a caller may do (the application). Invariants: a route that is
declared nothing is refused; the application sees only fields that are covered or of UNCOVERED_KEPT,
and never X-Actor and its like but from here; at most one answer is ever signed for a request, so a
replay's refusal is not; what is not signed is charged to the address that it came from.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import os
import time
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from chainlite.cage.answers import (
    Call,
    check_answer,
    is_own,
    keep_believed,
    make_call_fields,
    make_problem,
    make_scope,
)
from chainlite.cage.asgi import (
    Collected,
    Gone,
    get_length,
    read_body,
    read_request,
    replay,
    send_whole,
)
from chainlite.cage.base import Request, Response, get_target
from chainlite.cage.call_receipt import FIELD, CallReceipt, encode_call_receipt, encode_field
from chainlite.cage.digest import check_content_digest, encode_content_digest
from chainlite.cage.prices import Change, encode_pass
from chainlite.cage.refusal import Refusal
from chainlite.cage.routes import Access, Route, Routes
from chainlite.cage.signature import (
    Signed,
    check_keyid,
    is_name,
    sign_response,
    verify_request_head,
)
from chainlite.cage.strangers import Strangers, refuse_flood

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chainlite.cage.asgi import App, Event, Receive, Scope, Send
    from chainlite.cage.signature import FindKey
    from chainlite.cage.store import CageStore, Place
    from chainlite.keys import Signer

HELD_BYTES_MAX = 256 * 1024 * 1024
"""Of request bodies at once, in one worker."""
RETRY_AFTER_S = 1
WRITE_AFTER_S = 0.05
"""How long accounts and receipts wait for others to be written with; nonces never do."""
ADDRESSES_CACHED = 4096
_NOBODYS_FAULT = (429, 503)
_FIELD = FIELD.encode()
_BODILESS = (204, 304)
_EMPTY_DIGEST = hashlib.sha256().digest()


class _Arrived(NamedTuple):
    """A call whose head is read and whose route is found; `length`: its body's, if known."""

    now_ms: int
    audit_id: str
    address: str
    request: Request
    route: Route
    length: int | None


class _Admitted(NamedTuple):
    """A call that was verified and is paid for; 0 where its actor had not enough."""

    call: Call
    request: Request
    signed: Signed
    price_m: int
    digest: bytes


def _get_now_ms() -> int:
    return time.time_ns() // 1_000_000


def get_address(scope: Scope) -> str:
    """Where a call comes from, as the server says it; of IPv6 the network of 64 bits."""
    client = scope.get("client")
    return _get_network(str(client[0])) if client else "local"


@lru_cache(maxsize=ADDRESSES_CACHED)
def _get_network(host: str) -> str:
    if ":" not in host:
        return host
    try:
        return str(ipaddress.ip_network(f"{host.partition('%')[0]}/64", strict=False))
    except ValueError:
        return host


class Cage:
    """An ASGI application around another one; one per worker process."""

    def __init__(
        self,
        app: App,
        routes: Iterable[Route],
        *,
        find_key: FindKey,
        key: Signer,
        keyid: str,
        authorities: Iterable[str],
        store: CageStore,
        find_tls_actor: Callable[[Scope], str | None] | None = None,
        find_address: Callable[[Scope], str] = get_address,
        get_now_ms: Callable[[], int] = _get_now_ms,
    ) -> None:
        """`authorities`: the names, with ports that are not the scheme's, that this server is.

        `find_tls_actor`: whose certificate the connection has; without it, routes that want one
        are refused.
        """
        self._app = app
        self.routes = Routes(routes)
        self._find_key = find_key
        self._key = key
        self._keyid = check_keyid(keyid)
        self._authorities = frozenset(authorities)
        self._store = store
        self._tariff = store.tariff
        self._find_tls_actor = find_tls_actor
        self._find_address = find_address
        self._now_ms = get_now_ms
        self._strangers = Strangers(self._tariff)
        self._held = 0
        self._timer: asyncio.TimerHandle | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One call; anything but HTTP and the server's start and stop is refused."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http":
            await self._take(scope, receive, send)
        else:
            raise RuntimeError(f"{scope['type']}: not let through")

    async def _take(self, scope: Scope, receive: Receive, send: Send) -> None:
        audit_id, address, now_ms = os.urandom(16).hex(), self._find_address(scope), self._now_ms()
        try:
            self._strangers.check(address, now_ms)
            arrived = self._read_head(scope, audit_id, address, now_ms)
            if arrived.route.access is Access.CAGED:
                await self._take_caged(arrived, scope, receive, send)
            else:
                await self._take_open(arrived, scope, receive, send)
        except Refusal as refusal:
            if refusal.status not in _NOBODYS_FAULT:
                self._strangers.punish(address, self._now_ms())
            problem = make_problem(refusal, audit_id)
            fields = [*problem.fields, (b"x-audit-id", audit_id.encode())]
            await send_whole(send, problem.status, fields, bytes(problem.body))
        except Gone:
            return

    def _read_head(self, scope: Scope, audit_id: str, address: str, now_ms: int) -> _Arrived:
        request = read_request(scope)
        if request.authority not in self._authorities:
            raise Refusal(421, "another-server", "this server is not that host")
        route, length = self.routes.find(request.method, scope["path"]), get_length(request)
        if length is not None and length > route.request_bytes_max:
            raise Refusal(413, "too-large", f"a body of more than {route.request_bytes_max} bytes")
        return _Arrived(now_ms, audit_id, address, request, route, length)

    async def _read(self, arrived: _Arrived, receive: Receive) -> bytes:
        """The body, which has its place in memory before any of it is there."""
        limit = arrived.route.request_bytes_max
        wanted = limit if arrived.length is None else arrived.length
        if self._held + wanted > HELD_BYTES_MAX:
            raise Refusal(503, "busy", "too many bodies at once", retry_after_s=RETRY_AFTER_S)
        self._held += wanted
        try:
            return await read_body(receive, limit, arrived.route.body_timeout_s)
        finally:
            self._held -= wanted

    async def _take_open(
        self, arrived: _Arrived, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """A public route, or one for which the connection's certificate speaks."""
        route, actor, account = arrived.route, "", arrived.address
        if route.access is Access.MUTUAL_TLS:
            actor = (self._find_tls_actor(scope) if self._find_tls_actor else None) or ""
            if not is_name(actor):
                raise Refusal(403, "no-certificate", "this route wants a client certificate")
            account = f"tls {actor}"
        charged = self._strangers.pay(account, route.cost_m, arrived.now_ms)
        body = await self._read(arrived, receive)
        call = Call(arrived.audit_id, actor, "", b"")
        rate_pass = encode_pass(charged.account, self._tariff, charged.price_m)
        fields = [
            *make_call_fields(call),
            (b"x-rate-pass", rate_pass.encode()),
        ]

        async def send_marked(event: Event) -> None:
            if event["type"] == "http.response.start":
                if event["status"] < 400:
                    self._strangers.earn(account, charged.price_m, self._now_ms())
                answered = [one for one in event.get("headers", ()) if not is_own(one[0])]
                event = {**event, "headers": [*answered, *fields]}
            await send(event)

        kept = [one for one in scope["headers"] if not is_own(one[0])]
        await self._app(make_scope(scope, kept, call), replay(body, receive), send_marked)

    async def _take_caged(
        self, arrived: _Arrived, scope: Scope, receive: Receive, send: Send
    ) -> None:
        now_ms, request, audit_id = arrived.now_ms, arrived.request, arrived.audit_id
        signed = verify_request_head(request, self._find_key, now_s=now_ms // 1000)
        charged = self._store.admit(signed, arrived.route.cost_m, now_ms)
        call = Call(audit_id, signed.actor, signed.keyid, signed.public)
        if charged.retry_after_s:
            refusal = refuse_flood(charged.retry_after_s)
            admitted = _Admitted(call, request, signed, 0, _EMPTY_DIGEST)
            await self._answer(send, admitted, make_problem(refusal, audit_id), is_judged=False)
            return
        digest = _EMPTY_DIGEST
        try:
            body = await self._read(arrived, receive)
            digest = check_content_digest(request.fields["content-digest"], body)
        except Refusal as refusal:  # anyone on the way can cut a body or change it
            self._strangers.punish(arrived.address, now_ms)
            admitted = _Admitted(call, request, signed, charged.price_m, digest)
            await self._answer(send, admitted, make_problem(refusal, audit_id), is_judged=False)
            return
        admitted = _Admitted(call, request, signed, charged.price_m, digest)
        kept = keep_believed(scope["headers"], signed.covered.plain_bytes)
        answer = Collected(arrived.route.response_bytes_max)
        try:
            await self._app(make_scope(scope, kept, call), replay(body, receive), answer.send)
        except Exception:
            answer.is_whole = False
            await self._answer(send, admitted, answer)
            raise
        await self._answer(send, admitted, answer)

    async def _answer(
        self, send: Send, admitted: _Admitted, answer: Collected, *, is_judged: bool = True
    ) -> None:
        """Settle, sign and send an answer with its receipt; not judged: no credit, no strike."""
        call, request = admitted.call, admitted.request
        answer, covered = check_answer(answer, call.audit_id)
        status, body, now_ms = answer.status, bytes(answer.body), self._now_ms()
        change = Change(now_ms, 0, 0, 0)
        if is_judged and status < 500:
            good = admitted.price_m if status < 400 else 0
            change = Change(now_ms, 0, good, int(status >= 400))
        account = self._store.settle(call.actor, change)
        digest = hashlib.sha256(body).digest()
        receipt = self._store.add_receipt(
            admitted.signed,
            lambda place: self._make_receipt(admitted, status, digest, place, now_ms),
        )
        rate_pass = encode_pass(account, self._tariff, admitted.price_m)
        covered["x-audit-id"], covered["x-actor"] = call.audit_id, call.actor
        covered["x-rate-pass"], covered[FIELD] = rate_pass, encode_field(receipt)
        signed, _ = sign_response(
            self._key, self._keyid, Response(status, covered), encode_content_digest(digest),
            request, created_s=now_ms // 1000,
        )  # fmt: skip
        fields = answer.fields
        if status not in _BODILESS and request.method != "HEAD":
            fields = [one for one in fields if one[0].lower() != b"content-length"]
            fields.append((b"content-length", b"%d" % len(body)))
        fields += [
            (b"x-audit-id", call.audit_id.encode()),
            (b"x-actor", call.actor.encode()),
            (b"x-rate-pass", rate_pass.encode()),
            (_FIELD, covered[FIELD].encode()),
            (b"content-digest", signed["content-digest"].encode()),
            (b"signature-input", signed["signature-input"].encode()),
            (b"signature", signed["signature"].encode()),
        ]
        await send_whole(send, status, fields, body)
        self._write_soon()

    def _write_soon(self) -> None:
        """Write a whole group now, and a part of one in WRITE_AFTER_S."""
        if self._store.is_due():
            self._write()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WRITE_AFTER_S, self._write)

    def _write(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            self._store.write()
        except Refusal:  # it waits on, and soon no call is let through
            return

    def _make_receipt(
        self, admitted: _Admitted, status: int, digest: bytes, place: Place, now_ms: int
    ) -> bytes:
        call, request, _, price_m, request_digest = admitted
        return encode_call_receipt(
            CallReceipt(
                *place, now_ms, bytes.fromhex(call.audit_id), self._key.public, request_digest,
                digest, status, price_m, call.actor, request.method, request.authority,
                get_target(request),
            )
        )  # fmt: skip
