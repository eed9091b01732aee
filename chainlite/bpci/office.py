"""Who may do what at a server: let in, revoke, set rules, each as one act; and list it all.

What changes anything is done in the writer's turn (desk); what lists may be asked from anywhere.
`by` is the admin who asks, and sees and changes its own tenant alone; None is the operator.
Not here: what the acts come to (access), how one is asked (members, order_socket, docklock bpci).
Invariants: what is answered is durable; asked twice it is done once; an admin makes no tenant's
quota greater than the operator has set it, and no retention shorter than hosts keep their bodies.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from chainlite.bpci import listing
from chainlite.bpci.access import FOR_EVER
from chainlite.bpci.act import OPERATOR, Act, Kind
from chainlite.bpci.actor import Role, refuse_unseen
from chainlite.bpci.grant import ROLES, Grant, check_grant, read_next_key
from chainlite.bpci.orders import Revoke, SetQuota, SetRetention
from chainlite.bpci.retention import erase_tenant, erase_tenants
from chainlite.cage.refusal import Refusal
from chainlite.errors import PeerError, SpecError, StateError, TamperError
from chainlite.keys import compute_host_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chainlite.bpci.access import Member
    from chainlite.bpci.at_rest import ServerKey
    from chainlite.bpci.intake import Intake
    from chainlite.bpci.retention import Erased
    from chainlite.bpci.store import Store

DAYS_MIN = 14
"""Hosts keep what was acknowledged as long, so that a server that is restored can ask for it."""
MEMBERS_MAX = 10_000
"""Of one server, the revoked ones too: all are in memory."""


class Admitted(NamedTuple):
    """Who was let in; a host has its first acknowledgement."""

    grant: Grant
    name: bytes
    acknowledgement: bytes


class Office:
    """A server's acts, and those who ask for them."""

    def __init__(self, intake: Intake, store: Store, key: ServerKey) -> None:
        """`store`: the one that the intake writes."""
        self._intake, self._store, self._key = intake, store, key
        self.access, self.tally = intake.access, intake.tally
        self.erasing = asyncio.Lock()
        """Held by whoever goes through the steps of `erase`."""

    def admit(self, data: bytes, now_ms: int) -> Admitted:
        """Whom a grant names. Refusal: 400, 403 it is none, or is not good any more, or too many
        are in; 409 the key is somebody else's here already."""
        try:
            grant = check_grant(data, self._key.pair.public, now_ms)
        except SpecError as error:
            raise Refusal(400, "no-grant", str(error)) from None
        except PeerError as error:
            raise Refusal(403, "no-grant", str(error)) from None
        self._check_granter(grant)
        name = compute_host_id(grant.public)
        if grant.role is not Role.HOST:
            return self._admit_member(grant, name, data, now_ms)
        try:
            self._intake.ensure_tenant(grant.tenant)
            return Admitted(grant, name, self._intake.enrol(grant.tenant, grant.public))
        except StateError as error:
            raise Refusal(409, "not-enrolled", str(error)) from None

    def _check_granter(self, grant: Grant) -> None:
        if grant.by:
            member = self.access.members.get(grant.by)
            said = None if member is None else (member.tenant, member.role, member.revoked_ms)
            if said != (grant.tenant, Role.ADMIN, 0):
                raise Refusal(403, "no-grant", "grant: whoever asked for it is no admin any more")

    def _admit_member(self, grant: Grant, name: bytes, data: bytes, now_ms: int) -> Admitted:
        known = self.access.members.get(name)
        if known is not None:
            if known.revoked_ms:
                raise Refusal(403, "revoked", "the key was revoked")
            if (known.tenant, known.role) != (grant.tenant, grant.role):
                raise Refusal(409, "not-enrolled", "the key is enrolled as something else")
            return Admitted(grant, name, b"")
        if name in self.access.revoked_hosts or self._store.find_host(name) is not None:
            raise Refusal(409, "not-enrolled", "the key is a host's")
        if len(self.access.members) >= MEMBERS_MAX:
            raise Refusal(403, "quota", f"there are {MEMBERS_MAX} members")
        self._intake.ensure_tenant(grant.tenant)
        numbers = (ROLES.index(grant.role),)
        self._intake.act(Act(Kind.ENROL, now_ms, grant.tenant, grant.by, name, numbers, data))
        return Admitted(grant, name, b"")

    def change_key(self, member: bytes, data: bytes, now_ms: int) -> Member:
        """The member's next key. Refusal: 400, 422 it is not signed by both; 409 it does not follow
        from the key that the member has."""
        try:
            change = read_next_key(data)
        except SpecError as error:
            raise Refusal(400, "no-key", str(error)) from None
        except TamperError as error:
            raise Refusal(422, "no-key", str(error)) from None
        known = self.access.members.get(member)
        if known is None or change.member != member:
            raise Refusal(422, "no-key", "next key: of another member")
        if known.publics[-1] == change.public and not known.revoked_ms:
            return known
        try:
            self._intake.act(Act(Kind.ROTATE, now_ms, known.tenant, member, member, record=data))
        except StateError as error:
            raise Refusal(409, "no-key", str(error)) from None
        return self.access.members[member]

    def revoke(self, order: Revoke, now_ms: int, by: Member | None = None) -> dict[str, object]:
        """A member or a host. Refusal (404) where the admin may see none of that name."""
        member, name = self.access.members.get(order.name), order.name
        row = None if member is not None else self._store.find_host(name)
        known = member or row
        if known is None or (by is not None and known.tenant != by.tenant):
            raise refuse_unseen()
        is_known = name in self.access.revoked_hosts if member is None else member.revoked_ms
        if not is_known:
            by_name = OPERATOR if by is None else by.member
            self._intake.act(Act(Kind.REVOKE, now_ms, known.tenant, by_name, name))
        if row is not None:
            return listing.show_host(row, self.access)
        return listing.show_member(self.access.members[name])

    def set_quota(
        self, order: SetQuota, now_ms: int, by: Member | None = None
    ) -> dict[str, object]:
        """The quota by the operator, or by the tenant's admin, of which the smaller one counts."""
        tenant = order.tenant
        before = self.access.get_quota_by(tenant, is_admins=by is not None)
        after = before._replace(**order.values)
        if after != before:
            by_name = OPERATOR if by is None else by.member
            self._intake.act(Act(Kind.QUOTA, now_ms, tenant, by_name, numbers=tuple(after)))
        return listing.show_quota(tenant, self.access, self.tally, now_ms)

    def set_retention(
        self, order: SetRetention, now_ms: int, by: Member | None = None
    ) -> dict[str, object]:
        """For how many days bodies are kept. Refusal (400): too few."""
        tenant, days = order.tenant, order.days
        if days != FOR_EVER and days < DAYS_MIN and (by is not None or not order.is_forced):
            why = f"days: want {DAYS_MIN} or more: so long hosts keep what was acknowledged"
            raise Refusal(400, "malformed-order", why)
        if days != self.access.get_retention(tenant):
            by_name = OPERATOR if by is None else by.member
            self._intake.act(Act(Kind.RETENTION, now_ms, tenant, by_name, numbers=(days,)))
        return listing.show_retention(tenant, self.access)

    def erase(self, tenant: str, now_ms: int) -> Iterator[Erased]:
        """What is due, of one tenant or ("") of all; each step is one turn of the writer."""
        if tenant:
            return erase_tenant(self._intake, self._store, tenant, now_ms)
        return erase_tenants(self._intake, self._store, now_ms)
