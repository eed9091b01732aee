"""Who calls a server, and the seam through which it learns that.

Not here: how a call is authenticated (chainlite.cage). A server is given an `Authenticate` and has
no default: without one it does not start. Invariant: what an actor may see is of its own tenant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from typing import Any

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Authenticate = Callable[[Scope, bytes], Awaitable["Actor"]]

HOST, READER, AUDITOR, ADMIN = "host", "reader", "auditor", "admin"


class Actor(NamedTuple):
    """A role in a tenant; `host` is the id of a host that calls, and empty for others.

    An `Authenticate` raises PeerError for a call that shows nobody.
    """

    role: str
    tenant: str
    host: bytes = b""
