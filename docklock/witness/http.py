"""HTTP/1.1, as much as witnesses need: heads and bodies of a length told before. Pure.

Not here: sockets and time limits (server, client). Invariants: what is unclear is refused, never
guessed: two lengths, a chunked body, a folded line, a bare line feed.
Source: RFC 9112, sections 2 to 7.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from chainlite.errors import SpecError
from chainlite.witness import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping

HEAD_BYTES_MAX = 8192
HEADERS_MAX = 64
TOO_LARGE, NOT_ALLOWED, TOO_MANY = 413, 405, 429
REASONS = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
    422: "Unprocessable Entity",
    429: "Too Many Requests",
    503: "Service Unavailable",
}
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789") | frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)


class Head(NamedTuple):
    """The head of a request, or of an answer: then `method` is its status."""

    method: str
    path: str
    length: int
    is_kept: bool
    """Whether the connection serves another request after this one."""
    headers: Mapping[bytes, bytes] = MappingProxyType({})
    """By their names in small letters."""


def parse_request(head: bytes) -> Head:
    """The head of a request, up to its empty line; SpecError if it is not plain HTTP/1.1."""
    first, headers = _split(head)
    words = first.split(b" ")
    if len(words) != 3 or words[2] not in (b"HTTP/1.1", b"HTTP/1.0") or not _is_token(words[0]):
        raise SpecError("not a request of HTTP/1.1")
    if not words[1].startswith(b"/") or not words[1].isascii():
        raise SpecError("not the path of a request")
    is_kept = words[2] == b"HTTP/1.1" and headers.get(b"connection", b"").lower() != b"close"
    path = words[1].partition(b"?")[0].decode()
    return Head(words[0].decode(), path, _read_length(headers, 0), is_kept, headers)


def parse_answer(head: bytes) -> Head:
    """The head of an answer; SpecError if it is not plain HTTP/1.1 with a length."""
    first, headers = _split(head)
    words = first.split(b" ", 2)
    is_answer = len(words) >= 2 and words[0] == b"HTTP/1.1"
    if not is_answer or len(words[1]) != 3 or not words[1].isdigit():
        raise SpecError("not an answer of HTTP/1.1")
    is_kept = headers.get(b"connection", b"").lower() != b"close"
    return Head(words[1].decode(), "", _read_length(headers, -1), is_kept, headers)


def encode_request(
    method: str, host: str, path: str, body: bytes, headers: Mapping[str, str] = NO_HEADERS
) -> bytes:
    """A whole request; SpecError where a header would be more than one line.

    A header `host` stands in place of `host`.
    """
    host = headers.get("host", host)
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    for name, value in headers.items():
        if name == "host":
            continue
        if not _is_token(name.encode()) or not value.isascii() or not value.isprintable():
            raise SpecError(f"not a header of HTTP/1.1: {name!r}")
        lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def encode_answer(answer: Answer, *, is_kept: bool) -> bytes:
    """A whole answer."""
    head = (
        f"HTTP/1.1 {answer.status} {REASONS[answer.status]}\r\nContent-Type: {answer.kind}\r\n"
        f"Content-Length: {len(answer.body)}\r\nConnection: {'keep-alive' if is_kept else 'close'}"
        "\r\n\r\n"
    )
    return head.encode() + answer.body


def _split(head: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """The first line, and each header by its name in small letters."""
    if not head.endswith(b"\r\n\r\n"):
        raise SpecError("a head ends with an empty line")
    first, *lines = head[:-4].split(b"\r\n")
    if len(lines) > HEADERS_MAX:
        raise SpecError(f"{len(lines)} headers, above the limit of {HEADERS_MAX}")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, found, value = line.partition(b":")
        if not found or not _is_token(name) or b"\n" in value or b"\r" in value or b"\0" in value:
            raise SpecError("not a header of HTTP/1.1")
        name = name.lower()
        if name in headers and name in (b"content-length", b"host", b"transfer-encoding"):
            raise SpecError(f"two headers {name.decode()}")
        headers[name] = value.strip(b" \t")
    if b"transfer-encoding" in headers:
        raise SpecError("bodies come with a content-length, not in chunks")
    return first, headers


def _read_length(headers: dict[bytes, bytes], missing: int) -> int:
    text = headers.get(b"content-length")
    if text is None:
        if missing < 0:
            raise SpecError("no content-length")
        return missing
    if not text.isdigit() or not text.isascii() or len(text) > 9:
        raise SpecError("content-length is not a number")
    return int(text)


def _is_token(text: bytes) -> bool:
    return bool(text) and _TOKEN.issuperset(text)
