"""Who calls a server, and what each role may do. Pure.

A host, or a member (reader, auditor, admin), is of one tenant, and what is not of that tenant is
for it as if it were not there. Who sits at the server's machine stands above all of them, and is no
actor. A key id names who calls and the key that signs; it has the same form for all.
Not here: whose key that is (identity), signatures (chainlite.cage). Invariants: a claim is never an
actor of its host; a role may do all that a lesser one may, but for a host's, which is a host's.
"""

from __future__ import annotations

import base64
import binascii
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from chainlite.cage.refusal import Refusal
from chainlite.errors import SpecError
from chainlite.keys import PUBLIC_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    Authenticate = Callable[[MutableMapping[str, Any]], "Actor"]
    """Of an ASGI scope; Refusal where it speaks for nobody."""

ID_BYTES = 32


class Role(Enum):
    """What somebody is to a tenant: what sends evidence, and who may see more and more of it."""

    HOST = "host"
    READER = "reader"
    AUDITOR = "auditor"
    ADMIN = "admin"


_RANKS = {role: rank for rank, role in enumerate(Role)}


class Actor(NamedTuple):
    """Who calls: `host` is a host's id, `member` a member's, and the other one is empty.

    Not sure: the server does not know `public`, which signed the call, as its newest key.
    """

    role: Role
    tenant: str
    host: bytes
    is_sure: bool
    public: bytes = b""
    member: bytes = b""


def require(actor: Actor, role: Role, tenant: str) -> None:
    """Refusal unless it is sure, of this tenant (404, as if there were nothing), and has this role
    or a greater one (403)."""
    require_sure(actor)
    if actor.tenant != tenant:
        raise refuse_unseen()
    if _RANKS[actor.role] < _RANKS[role]:
        raise Refusal(403, "not-yours", f"this is for the role {role.value}")


def require_sure(actor: Actor) -> None:
    """Refusal (401) where the server does not know the key."""
    if not actor.is_sure:
        raise Refusal(401, "unknown-key", "the key is not the host's newest")


def require_host(actor: Actor) -> bytes:
    """The host that calls, sure or not; Refusal (403) for who is none."""
    if actor.role is not Role.HOST:
        raise Refusal(403, "not-yours", "this is for hosts")
    return actor.host


def refuse_unseen() -> Refusal:
    """Of what is not there, or is another tenant's: nobody learns which."""
    return Refusal(404, "not-found", "there is no such thing, or it is not for this key")


def make_keyid(name: bytes, public: bytes) -> str:
    """The key id of a call: who calls, in hex, a dot, the key in base64url without padding."""
    return f"{name.hex()}.{base64.urlsafe_b64encode(public).decode().rstrip('=')}"


def parse_keyid(keyid: str) -> tuple[bytes, bytes]:
    """Who and which key; SpecError for any other text."""
    word, _, encoded = keyid.partition(".")
    try:
        name, public = bytes.fromhex(word), base64.urlsafe_b64decode(encoded + "=")
    except (ValueError, binascii.Error):
        raise SpecError("keyid: nobody's here") from None
    if (len(name), len(public)) != (ID_BYTES, PUBLIC_BYTES) or make_keyid(name, public) != keyid:
        raise SpecError("keyid: nobody's here")
    return name, public
