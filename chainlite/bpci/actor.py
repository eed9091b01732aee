"""Who calls a server: the host that a call's signature speaks for, and whether it is sure.

A host's call names itself and the key that signed it. A server that has not yet heard of a rotation
does not know that key; the batch that brings its record shows it, so such a call is let through as
a claim, on an account of its own, and only its batch may make it good (intake).
Not here: signatures (chainlite.cage). A server is given the seam `Authenticate` and has no default.
Invariant: a claim is never an actor of its host.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, NamedTuple

from chainlite.cage.answers import Call
from chainlite.cage.refusal import Refusal
from chainlite.cage.signature import Known
from chainlite.errors import SpecError
from chainlite.keys import PUBLIC_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from chainlite.cage.asgi import Scope

    Authenticate = Callable[[Scope], "Actor"]
    FindPublics = Callable[[bytes], tuple[bytes, ...]]

CLAIM = "claim:"
HOST_BYTES = 32


class Actor(NamedTuple):
    """A host, and the key that it has shown; not sure: the server does not know that key as its."""

    host: bytes
    public: bytes
    is_sure: bool


def make_keyid(host: bytes, public: bytes) -> str:
    """The key id of a host's call: its id in hex, a dot, the key in base64url without padding."""
    return f"{host.hex()}.{base64.urlsafe_b64encode(public).decode().rstrip('=')}"


def parse_keyid(keyid: str) -> tuple[bytes, bytes]:
    """Host and key of a key id; SpecError for any other text."""
    name, _, encoded = keyid.partition(".")
    try:
        host, public = bytes.fromhex(name), base64.urlsafe_b64decode(encoded + "=")
    except (ValueError, binascii.Error):
        raise SpecError("keyid: not a host's") from None
    if (len(host), len(public)) != (HOST_BYTES, PUBLIC_BYTES) or make_keyid(host, public) != keyid:
        raise SpecError("keyid: not a host's")
    return host, public


def find_key(keyid: str, find_publics: FindPublics) -> Known | None:
    """What the cage is told of a key id; `find_publics` gives a host's newest key, if any.

    None where the host is not enrolled.
    """
    try:
        host, public = parse_keyid(keyid)
    except SpecError:
        return None
    known = find_publics(host)
    if not known:
        return None
    return Known(public, host.hex() if public in known else CLAIM + host.hex())


def get_caged_actor(scope: Scope) -> Actor:
    """Who the cage says it is; Refusal where no cage has said anything, or of no host."""
    call = scope.get("docklock.cage")
    if not isinstance(call, Call) or not call.actor:
        raise Refusal(401, "unknown-key", "the call is not signed")
    name = call.actor.removeprefix(CLAIM)
    return Actor(bytes.fromhex(name), call.public, is_sure=name == call.actor)
