"""Between ASGI's messages and the cage's values: heads, bodies, collected answers.

Not here: what may pass (middleware). Invariants: a head has at most FIELDS_MAX fields and
FIELDS_BYTES_MAX bytes, no control characters and no dots as parts of its path; a body is never
held beyond its limit, nor waited for beyond its time. Source: ASGI 3.0, HTTP message format.
"""

from __future__ import annotations

import asyncio
import re
import string
import types
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from chainlite.cage.base import Request
from chainlite.cage.call_receipt import AUTHORITY_BYTES_MAX, METHOD_BYTES_MAX
from chainlite.cage.refusal import Refusal, refuse_field

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, MutableMapping, Sequence

    Scope = MutableMapping[str, Any]
    Event = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Event]]
    Send = Callable[[Event], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]
    Fields = list[tuple[bytes, bytes]]

FIELDS_MAX = 64
FIELDS_BYTES_MAX = 16 * 1024
TARGET_BYTES_MAX = 2048
CACHED_HEADS = 64
"""Of what most callers send alike. What is refused is not kept, so each holds 3 MB at most."""

_OF_NAMES = (string.ascii_letters + string.digits + "!#$%&'*+.^_`|~-\n").encode()
_OF_VALUES = bytes([9, 10, *range(32, 127), *range(128, 256)])
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
    # All at once: a line feed is in none of them, and what is left without what may be is nothing.
    names = b"\n".join([one[0] for one in headers])
    values = b"\n".join([one[1] for one in headers])
    if len(names) + len(values) > FIELDS_BYTES_MAX:
        raise Refusal(431, "too-large", f"more than {FIELDS_BYTES_MAX} bytes of fields")
    keys = _read_names(names)
    if values.translate(None, _OF_VALUES):
        raise refuse_field("a field has a character that none may have")
    texts = [text.strip(" \t") for text in values.decode("latin-1").split("\n")]
    if len(keys) != len(headers) or len(texts) != len(headers):
        raise refuse_field("a field has a line feed")
    fields = dict(zip(keys, texts, strict=True))
    if len(fields) != len(headers):
        fields = _combine(keys, texts)
    scheme = scope.get("scheme", "http")
    path, query = _read_target(scope.get("raw_path"), scope["path"], scope.get("query_string", b""))
    authority = _read_authority(fields.get("host", ""), scheme)
    return Request(_check_method(scope["method"]), scheme, authority, path, query, fields)


@lru_cache(maxsize=CACHED_HEADS)
def _read_names(names: bytes) -> tuple[str, ...]:
    """Names of fields that were joined by line feeds; Refusal."""
    if names.translate(None, _OF_NAMES):
        raise refuse_field("a field has a character that none may have")
    keys = tuple(names.decode().lower().split("\n"))
    if "" in keys:
        raise refuse_field("a field has no name")
    return keys


@lru_cache(maxsize=CACHED_HEADS)
def _check_method(method: str) -> str:
    if len(method) > METHOD_BYTES_MAX or not _METHOD.fullmatch(method):
        raise Refusal(400, "malformed-target", "the method is none")
    return method


def _combine(keys: Sequence[str], texts: list[str]) -> dict[str, str]:
    """The lines of one name as one value; Refusal for a name that may be there once only."""
    fields: dict[str, str] = {}
    for key, text in zip(keys, texts, strict=True):
        if key in fields and key in _ONCE:
            raise refuse_field(f"{key} is there twice")
        fields[key] = f"{fields[key]}, {text}" if key in fields else text
    return fields


@lru_cache(maxsize=CACHED_HEADS)
def _read_authority(host: str, scheme: str) -> str:
    authority = host.lower().removesuffix(_DEFAULT_PORTS.get(scheme, "\n"))
    if len(authority) > AUTHORITY_BYTES_MAX or not _AUTHORITY.fullmatch(authority):
        raise Refusal(400, "malformed-target", "host: want a name, and a port where it has one")
    return authority


@lru_cache(maxsize=CACHED_HEADS)
def _read_target(raw: bytes | None, decoded: str, query_string: bytes) -> tuple[str, str]:
    """Path and query as they are on the wire; the decoded path has no dots as parts."""
    path = decoded if raw is None else raw.partition(b"?")[0].decode("latin-1")
    query = query_string.decode("latin-1")
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


async def read_body(receive: Receive, limit: int, timeout_s: float) -> bytes:
    """The whole body; Refusal above `limit` (413) or too late (408); Gone.

    A body that is there already is taken without a timer, which costs as much as all the rest.
    """
    body, has_more = bytearray(), True
    steps = receive().__await__()
    try:
        waits_for = next(steps)
    except StopIteration as done:
        has_more = _add(body, done.value, limit)
        if not has_more:
            return bytes(body)
        waits_for = None
    try:
        async with asyncio.timeout(timeout_s):
            if waits_for is not None:
                has_more = _add(body, await _go_on(steps, waits_for), limit)
            while has_more:
                has_more = _add(body, await receive(), limit)
    except TimeoutError:
        raise Refusal(408, "too-slow", f"no whole body within {timeout_s:g} s") from None
    return bytes(body)


@types.coroutine
def _go_on(steps: Generator[Any, Any, Event], waits_for: object) -> Generator[Any, Any, Event]:
    """Await what has been begun: what it waits for goes to the loop first."""
    try:
        yield waits_for
    except BaseException:
        steps.close()
        raise
    return (yield from steps)


def _add(body: bytearray, event: Event, limit: int) -> bool:
    """Take one part of a body; whether more of it comes."""
    if event["type"] != "http.request":
        raise Gone
    part = event.get("body", b"")
    if len(body) + len(part) > limit:
        raise Refusal(413, "too-large", f"a body of more than {limit} bytes")
    body += part
    return bool(event.get("more_body", False))


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
