"""`POST /v1/logblocks`: LogBlocks of a host's notary in, how far their chain is held out.

200: they are held, now or before; with no block it asks how far that is. 400: they do not read, are
another host's, or not signed. 409: they do not begin there, or speak of leaves that have not come
yet: what the host sends first is its receipts. 422: their notary has signed what cannot be true;
an alert keeps them. 429, 503, and 507 where a quota is used up, with Retry-After: later.
Not here: what is checked (handed), the writer (desk, intake).
Invariants: a host hands in what is of itself alone; an answer 200 is durable.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Address

from chainlite import logblock
from chainlite.bpci import ingest
from chainlite.bpci.actor import require_host, require_sure
from chainlite.bpci.desk import Busy
from chainlite.bpci.handed import HANDED_LIMIT_BYTES, decode_handed
from chainlite.bpci.intake import BROKEN, EXCEEDED, NOT_YET, REFUSED, HandedIn
from chainlite.cage.asgi import read_body
from chainlite.cage.refusal import Refusal
from chainlite.cage.routes import Access, Route
from chainlite.errors import SpecError, StateError

if TYPE_CHECKING:
    from starlette.requests import Request

    from chainlite.bpci.actor import Authenticate
    from chainlite.bpci.desk import Desk
    from chainlite.bpci.handed import Handed
    from chainlite.bpci.store import Store

PATH = "/v1/logblocks"
READ_S = 30.0
ROUTES = (
    Route(
        "POST", PATH, Access.CAGED, request_bytes_max=HANDED_LIMIT_BYTES, body_timeout_s=READ_S
    ),
)  # fmt: skip


class LogBlocks:
    """The address."""

    def __init__(self, desk: Desk, reader: Store, authenticate: Authenticate) -> None:
        self._desk, self._store, self._authenticate = desk, reader, authenticate
        self.addresses = [Address(PATH, self._take, methods=["POST"])]

    async def _take(self, request: Request) -> Response:
        actor = self._authenticate(request.scope)
        require_sure(actor)
        host = require_host(actor)
        data = await read_body(request.receive, HANDED_LIMIT_BYTES, READ_S)
        try:
            handed = decode_handed(data)
        except SpecError as error:
            raise Refusal(400, "refused", str(error)) from None
        try:
            work = partial(self._desk.intake.hand_in, HandedIn(host, data))
            answer = await self._desk.run(work, len(data))
        except Busy as error:
            raise Refusal(429, "busy", str(error), retry_after_s=ingest.BUSY_AFTER_S) from None
        except StateError as error:
            raise Refusal(503, "store", str(error), retry_after_s=ingest.BROKEN_AFTER_S) from None
        if answer.kind == BROKEN:
            why = "the server's store is damaged"
            raise Refusal(503, "store", why, retry_after_s=ingest.BROKEN_AFTER_S)
        if answer.kind == EXCEEDED:
            raise Refusal(507, "quota", answer.why, retry_after_s=ingest.FULL_AFTER_S)
        if answer.kind == NOT_YET:
            raise Refusal(409, "not-yet", answer.why)
        if answer.kind == REFUSED:
            raise Refusal(422 if answer.alert else 400, "refused", answer.why)
        return JSONResponse(self._describe(host, handed))

    def _describe(self, host: bytes, handed: Handed) -> dict[str, str]:
        """How far the chain is held."""
        newest = self._store.find_newest_block(host, handed.public, handed.app)
        return {
            "host": host.hex(),
            "notary": logblock.compute_notary_id(handed.public).hex(),
            "app": handed.app,
            "height": str(newest.height + 1 if newest is not None else 0),
            "hash": logblock.compute_block_hash(newest.block).hex() if newest else "",
        }
