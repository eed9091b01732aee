"""The addresses of who is let in, and of a tenant's admin: members, grants, rules.

`ROUTES` is their part of the table that the cage holds every call to. Not here: what is done
(office), the rest of a server's addresses (app). Invariants: an admin is shown and changes what is
its own tenant's and nothing else; what is another's is for it as if it were not there.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Address

from chainlite import keys
from chainlite.bpci import listing, orders
from chainlite.bpci.actor import Actor, Role, require
from chainlite.bpci.grant import GRANT_LIMIT_BYTES, ROLES, Grant, sign_grant
from chainlite.bpci.orders import ORDER_LIMIT_BYTES, parse_fields
from chainlite.cage.asgi import read_body
from chainlite.cage.refusal import Refusal
from chainlite.cage.routes import Access, Route
from chainlite.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from chainlite.bpci.access import Member
    from chainlite.bpci.actor import Authenticate
    from chainlite.bpci.at_rest import ServerKey
    from chainlite.bpci.desk import Desk
    from chainlite.bpci.office import Office
    from chainlite.bpci.store import Store

Found = TypeVar("Found")

READ_S = 10.0
HOSTS_SHOWN_MAX = 1000
HOSTS_STEP = 256
GRANT_HOURS_DEFAULT, GRANT_HOURS_MAX = 24, 24 * 365
HOUR_MS = 3_600_000
ROUTES = (
    Route("POST", "/v1/enrol", Access.PUBLIC, request_bytes_max=GRANT_LIMIT_BYTES),
    Route("GET", "/v1/members", Access.CAGED),
    Route("POST", "/v1/members/grants", Access.CAGED, request_bytes_max=ORDER_LIMIT_BYTES),
    Route("POST", "/v1/members/revocations", Access.CAGED, request_bytes_max=ORDER_LIMIT_BYTES),
    Route("POST", "/v1/members/key", Access.CAGED, request_bytes_max=GRANT_LIMIT_BYTES),
    Route("GET", "/v1/quota", Access.CAGED),
    Route("PUT", "/v1/quota", Access.CAGED, request_bytes_max=ORDER_LIMIT_BYTES),
    Route("GET", "/v1/retention", Access.CAGED),
    Route("PUT", "/v1/retention", Access.CAGED, request_bytes_max=ORDER_LIMIT_BYTES),
)


class Members:
    """What answers them."""

    def __init__(
        self, desk: Desk, office: Office, store: Store, key: ServerKey, authenticate: Authenticate,
        clock_ms: Callable[[], int],
    ) -> None:  # fmt: skip
        """`store` is for reading, in the event loop's thread."""
        self._desk, self._office, self._store, self._key = desk, office, store, key
        self._authenticate, self._clock_ms = authenticate, clock_ms
        self.addresses = [
            Address("/v1/enrol", self._enrol, methods=["POST"]),
            Address("/v1/members", self._list, methods=["GET"]),
            Address("/v1/members/grants", self._grant, methods=["POST"]),
            Address("/v1/members/revocations", self._revoke, methods=["POST"]),
            Address("/v1/members/key", self._change_key, methods=["POST"]),
            Address("/v1/quota", self._rule_quota, methods=["GET", "PUT"]),
            Address("/v1/retention", self._rule_retention, methods=["GET", "PUT"]),
        ]

    async def _enrol(self, request: Request) -> Response:
        """Whom the server's own grant names, and nobody else."""
        data = await read_body(request.receive, GRANT_LIMIT_BYTES, READ_S)
        done = await self._desk.run(partial(self._office.admit, data, self._clock_ms()))
        if done.grant.role is Role.HOST:
            return Response(done.acknowledgement, media_type="application/octet-stream")
        return JSONResponse(listing.show_member(self._office.access.members[done.name]))

    async def _list(self, request: Request) -> Response:
        admin = self._find_admin(request)
        after = request.query_params.get("after", "")
        found = list[dict[str, object]]()
        at = _refuse_unread(partial(orders.parse_name, after)) if after else b""
        while len(found) < HOSTS_SHOWN_MAX and (rows := self._store.read_hosts(at, HOSTS_STEP)):
            for row in rows[: HOSTS_SHOWN_MAX - len(found)]:
                at = row.host
                if row.tenant == admin.tenant:
                    found.append(listing.show_host(row, self._office.access))
        is_more = len(found) >= HOSTS_SHOWN_MAX
        return JSONResponse(
            {
                "members": listing.list_members(self._office.access, admin.tenant),
                "hosts": found,
                "next": at.hex() if is_more else None,
            }
        )

    async def _grant(self, request: Request) -> Response:
        """The server's word that a key may enrol for the admin's tenant."""
        admin = self._find_admin(request)
        wanted = await _read_order(request, _read_wanted)
        expires_ms = self._clock_ms() + wanted.hours * HOUR_MS
        grant = Grant(admin.tenant, wanted.public, expires_ms, wanted.role, admin.member)
        data = sign_grant(grant, self._key.pair)
        return Response(data, media_type="application/octet-stream")

    async def _revoke(self, request: Request) -> Response:
        admin = self._find_admin(request)
        order = await _read_order(request, orders.read_revoke)
        work = partial(self._office.revoke, order, self._clock_ms(), admin)
        return JSONResponse(await self._desk.run(work))

    async def _change_key(self, request: Request) -> Response:
        """A member's own next key; of whatever role."""
        actor = self._authenticate(request.scope)
        member = self._get_member(actor)
        data = await read_body(request.receive, GRANT_LIMIT_BYTES, READ_S)
        work = partial(self._office.change_key, member.member, data, self._clock_ms())
        return JSONResponse(listing.show_member(await self._desk.run(work)))

    async def _rule_quota(self, request: Request) -> Response:
        admin, office, now_ms = self._find_admin(request), self._office, self._clock_ms()
        if request.method == "GET":
            shown = listing.show_quota(admin.tenant, office.access, office.tally, now_ms)
            return JSONResponse(shown)
        order = await _read_order(request, lambda fields: orders.read_quota(fields, admin.tenant))
        done = await self._desk.run(partial(office.set_quota, order, now_ms, admin))
        return JSONResponse(done)

    async def _rule_retention(self, request: Request) -> Response:
        admin, office = self._find_admin(request), self._office
        if request.method == "GET":
            return JSONResponse(listing.show_retention(admin.tenant, office.access))
        order = await _read_order(
            request, lambda fields: orders.read_retention(fields, admin.tenant)
        )
        work = partial(office.set_retention, order, self._clock_ms(), admin)
        return JSONResponse(await self._desk.run(work))

    def _find_admin(self, request: Request) -> Member:
        actor = self._authenticate(request.scope)
        require(actor, Role.ADMIN, actor.tenant)
        return self._get_member(actor)

    def _get_member(self, actor: Actor) -> Member:
        member = self._office.access.members.get(actor.member)
        if member is None:
            raise Refusal(403, "not-yours", "this is for members")
        return member


class _Wanted(NamedTuple):
    role: Role
    public: bytes
    hours: int


def _read_wanted(fields: dict[str, object]) -> _Wanted:
    """What a grant is to say: `role`, `key`, and for how many `hours`."""
    orders.check_names(fields, "role", "key", "hours")
    role, key = fields.get("role"), fields.get("key")
    hours = fields.get("hours", GRANT_HOURS_DEFAULT)
    if role not in [one.value for one in ROLES] or not isinstance(key, str):
        raise SpecError("want a role, and a key as NAME+ID+BASE64")
    is_number = isinstance(hours, int) and not isinstance(hours, bool)
    if not isinstance(hours, int) or not is_number or not 0 < hours <= GRANT_HOURS_MAX:
        raise SpecError(f"hours: want a number from 1 to {GRANT_HOURS_MAX}")
    return _Wanted(Role(role), keys.parse_verifier(key, "key")[1], hours)


async def _read_order(request: Request, read: Callable[[dict[str, object]], Found]) -> Found:
    """What the body says; Refusal (400) where it does not read."""
    data = await read_body(request.receive, ORDER_LIMIT_BYTES, READ_S)
    return _refuse_unread(lambda: read(parse_fields(data)))


def _refuse_unread(read: Callable[[], Found]) -> Found:
    try:
        return read()
    except SpecError as error:
        raise Refusal(400, "malformed-order", str(error)) from None
