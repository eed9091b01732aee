"""Whose a key id is: what the cage is told of it, and the actor that a call's signature speaks for.

A host's call names itself and the key that signed it. A server that has not yet heard of a rotation
does not know that key; the batch that brings its record shows it, so such a call is let through as
a claim, on an account of its own, and only its batch may make it good (intake). Who was revoked,
and a member's key that another one took the place of, is told so, and nothing else.
Not here: what an actor may do (actor), what makes a member one (access), signatures (cage).
Invariant: who is not enrolled is nobody; a claim is never sure; what is void speaks for nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainlite.bpci.actor import Actor, Role, parse_keyid
from chainlite.bpci.known_host import find_newest_publics
from chainlite.cage.answers import Call
from chainlite.cage.refusal import Refusal
from chainlite.cage.signature import Known
from chainlite.errors import SpecError

if TYPE_CHECKING:
    from chainlite.bpci.access import Access
    from chainlite.bpci.at_rest import ServerKey
    from chainlite.bpci.store import Store
    from chainlite.cage.asgi import Scope

CLAIM, VOID = "claim:", "void:"
TENANTS_CACHED_MAX = 1 << 16


class Identities:
    """Who is enrolled at a server: hosts as its store says, members as its acts do."""

    def __init__(self, store: Store, key: ServerKey, access: Access) -> None:
        self._store, self._key, self._access = store, key, access
        self._tenants: dict[bytes, str] = {}
        """Of hosts: none ever changes."""

    def find_key(self, keyid: str) -> Known | None:
        """What the cage is told of a key id; None where nobody of that name is enrolled."""
        try:
            name, public = parse_keyid(keyid)
        except SpecError:
            return None
        member = self._access.members.get(name)
        if member is not None:
            if public not in member.publics:
                return None
            is_valid = not member.revoked_ms and public == member.publics[-1]
            return Known(public, name.hex() if is_valid else VOID + name.hex())
        known = find_newest_publics(self._store, self._key, name)
        if not known:
            return None
        if name in self._access.revoked_hosts:
            return Known(public, VOID + name.hex())
        return Known(public, name.hex() if public in known else CLAIM + name.hex())

    def authenticate(self, scope: Scope) -> Actor:
        """Who the cage says it is; Refusal where no cage has said anything, or of nobody here."""
        call = scope.get("docklock.cage")
        if not isinstance(call, Call) or not call.actor:
            raise Refusal(401, "unknown-key", "the call is not signed")
        if call.actor.startswith(VOID):
            raise Refusal(403, "revoked", "the key was revoked, or another one took its place")
        word = call.actor.removeprefix(CLAIM)
        name, is_sure = bytes.fromhex(word), word == call.actor
        member = self._access.members.get(name)
        if member is not None:
            return Actor(member.role, member.tenant, b"", is_sure, call.public, name)
        return Actor(Role.HOST, self._find_tenant(name), name, is_sure, call.public)

    def _find_tenant(self, host: bytes) -> str:
        found = self._tenants.get(host)
        if found is None:
            row = self._store.find_host(host)
            if row is None:
                raise Refusal(401, "unknown-key", "the host is not enrolled")
            if len(self._tenants) >= TENANTS_CACHED_MAX:
                self._tenants.clear()
            found = self._tenants[host] = row.tenant
        return found
