"""Between ASGI's messages and the cage's values: heads, bodies, collected answers.

Not here: what may pass (middleware). Invariants: a head has at most FIELDS_MAX fields and
FIELDS_BYTES_MAX bytes, no control characters and no dots as parts of its path; a body is never
held beyond its limit, nor waited for beyond its time. Source: ASGI 3.0, HTTP message format.
"""

from __future__ import annotations

import asyncio
import re
import string
from typing import TYPE_CHECKING, Any

from chainlite.cage.base import Request
from chainlite.cage.call_receipt import AUTHORITY_BYTES_MAX, METHOD_BYTES_MAX
from chainlite.cage.refusal import Refusal, refuse_field

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Scope = MutableMapping[str, Any]
    Event = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Event]]
    Send = Callable[[Event], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]
    Fields = list[tuple[bytes, bytes]]

FIELDS_MAX = 64
FIELDS_BYTES_MAX = 16 * 1024
TARGET_BYTES_MAX = 2048

_OF_NAMES = (string.ascii_letters + string.digits + "!#$%&'*+.^_`|~-").encode()
_OF_VALUES = bytes([9, *range(32, 127), *range(128, 256)])
_METHOD = re.compile(r"[A-Z][A-Z-]*")
_AUTHORITY = re.compile(r"[a-z0-9._~:\[\]-]+")
_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})+")
_QUERY = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_ONCE = frozenset({"host", "content-length", "content-type", "content-encoding", "content-digest"})


class Gone(Exception):
    """Who called went away."""


def read_request(scope: Scope) -> Request:
    """The head of a request; Refusal where it cannot be read in one way only."""
    headers = scope["headers"]
    if len(headers) > FIELDS_MAX:
        raise Refusal(431, "too-large", f"more than {FIELDS_MAX} fields")
    # Fast: what is left without the bytes that may be there is nothing.
    names, values = b"".join([one[0] for one in headers]), b"".join([one[1] for one in headers])
    if len(names) + len(values) > FIELDS_BYTES_MAX:
        raise Refusal(431, "too-large", f"more than {FIELDS_BYTES_MAX} bytes of fields")
    if names.translate(None, _OF_NAMES) or values.translate(None, _OF_VALUES):
        raise refuse_field("a field has a character that none may have")
    fields: dict[str, str] = {}
    for name, value in headers:
        key, text = name.decode().lower(), value.decode("latin-1").strip(" \t")
        if key not in fields:
            fields[key] = text
        elif key in _ONCE:
            raise refuse_field(f"{key} is there twice")
        else:
            fields[key] = f"{fields[key]}, {text}"
    if "" in fields:
        raise refuse_field("a field has no name")
    scheme = scope.get("scheme", "http")
    path, query = _read_target(scope)
    method = scope["method"]
    if len(method) > METHOD_BYTES_MAX or not _METHOD.fullmatch(method):
        raise Refusal(400, "malformed-target", "the method is none")
    return Request(method, scheme, _read_authority(fields, scheme), path, query, fields)


def _read_authority(fields: dict[str, str], scheme: str) -> str:
    authority = fields.get("host", "").lower().removesuffix(_DEFAULT_PORTS.get(scheme, "\n"))
    if len(authority) > AUTHORITY_BYTES_MAX or not _AUTHORITY.fullmatch(authority):
        raise Refusal(400, "malformed-target", "host: want a name, and a port where it has one")
    return authority


def _read_target(scope: Scope) -> tuple[str, str]:
    """Path and query as they are on the wire; the decoded path has no dots as parts."""
    raw = scope.get("raw_path")
    decoded: str = scope["path"]
    path = decoded if raw is None else raw.partition(b"?")[0].decode("latin-1")
    query = scope.get("query_string", b"").decode("latin-1")
    if len(path) + len(query) > TARGET_BYTES_MAX:
        raise Refusal(414, "too-large", f"a target of more than {TARGET_BYTES_MAX} bytes")
    if path[:1] != "/" or not _PATH.fullmatch(path) or not _QUERY.fullmatch(query):
        raise Refusal(400, "malformed-target", "the path or the query is none")
    if raw is None and "%" in path:
        raise Refusal(400, "malformed-target", "the server says not how the path was written")
    if "/." in decoded and not {".", ".."}.isdisjoint(decoded.split("/")):
        raise Refusal(400, "malformed-target", "a part of the path is dots")
    return path, query


def get_length(request: Request) -> int | None:
    """The size that the head says a body has; None where it says none; Refusal."""
    text = request.fields.get("content-length")
    if text is None:
        return None if "transfer-encoding" in request.fields else 0
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise refuse_field("content-length: want a number")
    return int(text)


async def read_body(receive: Receive, length: int | None, limit: int, timeout_s: float) -> bytes:
    """The whole body; Refusal above `limit` (413) or too late (408); Gone."""
    if length == 0:  # no timer: the server has it all
        return await _read_all(receive, limit)
    try:
        async with asyncio.timeout(timeout_s):
            return await _read_all(receive, limit)
    except TimeoutError:
        raise Refusal(408, "too-slow", f"no whole body within {timeout_s:g} s") from None


async def _read_all(receive: Receive, limit: int) -> bytes:
    body = bytearray()
    while True:
        event = await receive()
        if event["type"] != "http.request":
            raise Gone
        part: bytes = event.get("body", b"")
        if len(body) + len(part) > limit:
            raise Refusal(413, "too-large", f"a body of more than {limit} bytes")
        if not event.get("more_body", False):
            return bytes(body) + part if body else part
        body += part


def replay(body: bytes, receive: Receive) -> Receive:
    """What the application receives: the body at once, then what the server says."""
    waiting = [body]

    async def receive_again() -> Event:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return receive_again


class Collected:
    """An answer as the application sends it, held until it is whole."""

    __slots__ = ("_limit", "body", "fields", "is_over", "is_whole", "status")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.status = 0
        self.fields: Fields = []
        self.body = bytearray()
        self.is_whole = False
        self.is_over = False

    async def send(self, event: Event) -> None:
        """Take one of the application's messages; what is above the limit is dropped."""
        if event["type"] == "http.response.start":
            self.status, self.fields = event["status"], list(event.get("headers", ()))
        elif event["type"] == "http.response.body":
            part = event.get("body", b"")
            self.is_over = self.is_over or len(self.body) + len(part) > self._limit
            if not self.is_over:
                self.body += part
            self.is_whole = self.status > 0 and not event.get("more_body", False)
        else:
            raise RuntimeError(f"{event['type']}: not offered to this application")


async def send_whole(send: Send, status: int, fields: Fields, body: bytes) -> None:
    """An answer in two messages."""
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body, "more_body": False})
