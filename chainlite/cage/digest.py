"""Content-Digest: a hash of the bytes of a body as they are sent, compressed or not.

Not here: that it is covered by a signature (signature). Invariant: every digest that is known here
has to be right and one has to be there. Source: RFC 9530 sections 2 and 5 (sha-256, sha-512).
"""

from __future__ import annotations

import hashlib

from chainlite.cage.fields import encode_bytes, parse_bytes, parse_dictionary
from chainlite.cage.refusal import unsigned


def encode_content_digest(digest: bytes) -> str:
    """The field's value for a body's SHA-256."""
    return f"sha-256={encode_bytes(digest)}"


def compute_content_digest(body: bytes) -> str:
    """The field's value for a body."""
    return encode_content_digest(hashlib.sha256(body).digest())


def check_content_digest(value: str, body: bytes) -> bytes:
    """The body's SHA-256; Refusal where the field's value is another body's."""
    digest = hashlib.sha256(body).digest()
    if value == encode_content_digest(digest):
        return digest
    known = 0
    for name, member in parse_dictionary(value, "content-digest").items():
        if name not in ("sha-256", "sha-512"):
            continue
        known += 1
        own = digest if name == "sha-256" else hashlib.sha512(body).digest()
        if member.inner or parse_bytes(member.bare, "content-digest") != own:
            raise unsigned("another-body", f"content-digest: {name} is not that of this body")
    if not known:
        raise unsigned("another-body", "content-digest: neither sha-256 nor sha-512 is there")
    return digest
