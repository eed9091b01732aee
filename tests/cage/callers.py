"""A caged application, called over ASGI itself: no server, no sockets."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from chainlite import keys
from chainlite.cage.client import Answer, Caller, Prepared
from chainlite.cage.middleware import Cage
from chainlite.cage.routes import Access, Route
from chainlite.cage.signature import Known
from chainlite.cage.store import CageStore

SERVER = keys.make_key_pair(b"s" * 32)
ALICE = keys.make_key_pair(b"a" * 32)
BOB = keys.make_key_pair(b"b" * 32)
HOST = "bpci.example"
URL = f"https://{HOST}"
NOW_S = 1_795_000_000
BOOT = "boot-1"
ROUTES = (
    Route("GET", "/v1/blocks/{height}", Access.CAGED),
    Route("POST", "/v1/receipts", Access.CAGED, 2000, 1 << 16, 1 << 16, 0.2),
    Route("POST", "/v1/echo", Access.CAGED),
    Route("GET", "/v1/admin", Access.MUTUAL_TLS),
    Route("GET", "/tile/{rest:path}", Access.PUBLIC, 100),
    Route("POST", "/note", Access.PUBLIC, 1000, 100),
)


class Reply(NamedTuple):
    """What came out of the cage."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes

    @property
    def reason(self) -> str:
        """Of a refusal."""
        return str(json.loads(self.body)["type"]).removeprefix("urn:docklock:cage:")

    def get(self, name: str) -> str | None:
        return dict(self.fields).get(name)


class Clock:
    """Time as a test sets it."""

    def __init__(self, now_s: int = NOW_S) -> None:
        self.now_ms = now_s * 1000

    def __call__(self) -> int:
        return self.now_ms


async def tell(scope: Any, receive: Any, send: Any) -> None:
    """The application: tells what it saw."""
    event = await receive()
    seen = {name.decode(): value.decode() for name, value in scope["headers"]}
    body = event["body"]
    if scope["path"] == "/v1/echo":
        status, answer = int(seen.get("x-status", "200")), body
    else:
        what = {"path": scope["path"], "seen": seen, "size": len(body)}
        status, answer = 200, json.dumps(what).encode()
    headers = [(b"content-type", b"application/json"), (b"x-actor", b"mallory")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": answer[:10], "more_body": True})
    await send({"type": "http.response.body", "body": answer[10:]})


class Bench:
    """A cage with a store in a directory, and callers that it knows."""

    def __init__(
        self, directory: Path, *, boot: str = BOOT, clock: Clock | None = None, **more: Any
    ) -> None:
        self.clock = clock or Clock()
        self.known = {"alice-1": Known(ALICE.public, "alice"), "bob-1": Known(BOB.public, "bob")}
        self.store = CageStore(
            directory / "cage.db",
            boot_id=boot,
            now_ms=self.clock(),
            tariff=more.pop("tariff", None),
        )
        self.nonces = (f"nonce-of-test-{number:06}" for number in itertools.count())
        self.cage = Cage(
            more.pop("app", tell),
            more.pop("routes", ROUTES),
            find_key=self.known.get,
            key=SERVER,
            keyid="server-1",
            authorities={HOST},
            store=self.store,
            get_now_ms=self.clock,
            **more,
        )
        self.alice = Caller(ALICE, "alice-1", SERVER.public, "server-1")
        self.bob = Caller(BOB, "bob-1", SERVER.public, "server-1")

    def prepare(
        self, method: str = "GET", target: str = "/v1/blocks/7", body: bytes = b"", **more: Any
    ) -> Prepared:
        """A request of alice's, signed now."""
        caller: Caller = more.pop("caller", self.alice)
        return caller.prepare(
            method,
            URL + target,
            body,
            more.pop("fields", {}),
            created_s=more.pop("created_s", self.clock() // 1000),
            nonce=more.pop("nonce", None) or next(self.nonces),
        )

    def send(self, prepared: Prepared, **changed: Any) -> Reply:
        """Send it, changed on its way or not."""
        return asyncio.run(self.send_soon(prepared, **changed))

    async def send_soon(self, prepared: Prepared, **changed: Any) -> Reply:
        fields: Mapping[str, str] | Iterable[tuple[str, str]] = changed.pop(
            "fields", prepared.fields
        )
        pairs = fields.items() if isinstance(fields, Mapping) else fields
        body = changed.pop("body", prepared.body)
        target = changed.pop("target", prepared.target)
        method = changed.pop("method", prepared.request.method)
        sized = [] if not body else [(b"content-length", str(len(body)).encode())]
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
        scope = make_scope(method, target, headers + sized, **changed)
        return await call(self.cage, scope, body)

    def get(self, prepared: Prepared) -> Answer:
        """What alice believes of the answer."""
        reply = self.send(prepared)
        return self.alice.check(prepared, *reply)


def make_scope(
    method: str, target: str, headers: list[tuple[bytes, bytes]], **more: Any
) -> dict[str, Any]:
    raw, _, query = target.partition("?")
    path = more.pop("path", None) or unquote(raw)
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": raw.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "headers": headers,
        "client": ("192.0.2.1", 4711),
    } | more


async def call(app: Any, scope: dict[str, Any], *parts: bytes) -> Reply:
    """One call over ASGI; without parts, the body never ends."""
    waiting = list(parts)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.Event().wait()
        part = waiting.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(waiting)}

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    await app(scope, receive, send)
    start, *rest = sent
    fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]]
    return Reply(start["status"], fields, b"".join(one["body"] for one in rest))
