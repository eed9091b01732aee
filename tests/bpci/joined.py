"""Members of a test's own: keys, grants and callers."""

from __future__ import annotations

import time

from chainlite import keys
from chainlite.bpci.actor import Role, make_keyid
from chainlite.bpci.grant import Grant, sign_grant
from chainlite.bpci.office import Office
from chainlite.cage.client import Caller
from tests.bpci.callers import NAME, Served
from tests.bpci.servers import KEY, NOW_MS, Server
from tests.cage.callers import Reply, call, make_scope

HOUR_MS = 3_600_000


def make_pair(number: int) -> keys.KeyPair:
    return keys.make_key_pair(bytes([number]) * 32)


def make_grant(
    number: int, role: Role, tenant: str = "acme", *, by: bytes = b"", now_ms: int = 0,
) -> bytes:  # fmt: skip
    """The server's word, for an hour from now on, for the key of this number."""
    until = (now_ms or time.time_ns() // 10**6) + HOUR_MS
    return sign_grant(Grant(tenant, make_pair(number).public, until, role, by), KEY.pair)


def make_member_caller(number: int, pair: keys.KeyPair | None = None) -> Caller:
    """The member of this number, with its first key or another one."""
    name = keys.compute_host_id(make_pair(number).public)
    key = pair or make_pair(number)
    return Caller(key, make_keyid(name, key.public), KEY.pair.public, KEY.origin)


async def post_open(served: Served, target: str, data: bytes) -> Reply:
    """An open route, with a body."""
    scope = make_scope("POST", target, [(b"host", NAME.encode())])
    scope["headers"].append((b"content-length", b"%d" % len(data)))
    return await call(served.cage, scope, data)


async def join(served: Served, number: int, role: Role, tenant: str = "acme") -> Caller:
    """A member that has enrolled over HTTP."""
    reply = await post_open(served, "/v1/enrol", make_grant(number, role, tenant))
    assert reply.status == 200, reply.body
    return make_member_caller(number)


def make_office(server: Server) -> Office:
    return Office(server.intake, server.store, KEY)


def admit(server: Server, number: int, role: Role, tenant: str = "acme") -> bytes:
    """The id of a member that was let in without HTTP, at the server's own time."""
    data = make_grant(number, role, tenant, now_ms=NOW_MS)
    return make_office(server).admit(data, NOW_MS).name
