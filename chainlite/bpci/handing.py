"""`POST /v1/logblocks`, `POST /v1/poe/submit`: what a host's notary signed in, how far it is held.

200: they are held, now or before; with none it asks how far that is. 400: they do not read, are
another host's, or not signed. 409: they do not begin where their chain is held, or speak of what
has not come yet: a host sends its receipts first, then LogBlocks, then bundles. 422: their notary
has signed what cannot be true; an alert keeps them. 429, 503, and 507 where a quota is used up,
with Retry-After: later.
Not here: what is checked (handed, billed), the writer (desk, intake).
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
from chainlite.bpci.billed import decode_bundles, get_next_height
from chainlite.bpci.desk import Busy
from chainlite.bpci.handed import HANDED_LIMIT_BYTES, decode_handed
from chainlite.bpci.intake import BROKEN, EXCEEDED, NOT_YET, REFUSED, HandedIn
from chainlite.bpci.verification import LOGBLOCK, POE
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

PATHS = {LOGBLOCK: "/v1/logblocks", POE: "/v1/poe/submit"}
READ_S = 30.0
ROUTES = tuple([
    Route(
        "POST", path, Access.CAGED, request_bytes_max=HANDED_LIMIT_BYTES, body_timeout_s=READ_S
    )
    for path in PATHS.values()
])  # fmt: skip
_DECODE = {LOGBLOCK: decode_handed, POE: decode_bundles}


class Handing:
    """The addresses."""

    def __init__(self, desk: Desk, reader: Store, authenticate: Authenticate) -> None:
        self._desk, self._store, self._authenticate = desk, reader, authenticate
        self.addresses = [
            Address(PATHS[LOGBLOCK], self._take_blocks, methods=["POST"]),
            Address(PATHS[POE], self._take_bundles, methods=["POST"]),
        ]

    async def _take_blocks(self, request: Request) -> Response:
        host, handed = await self._take(request, LOGBLOCK)
        newest = self._store.find_newest_block(host, handed.public, handed.app)
        shown = {
            "height": str(newest.height + 1 if newest is not None else 0),
            "hash": logblock.compute_block_hash(newest.block).hex() if newest else "",
        }
        return _answer(host, handed, shown)

    async def _take_bundles(self, request: Request) -> Response:
        host, handed = await self._take(request, POE)
        newest = self._store.find_newest_bundle(host, handed.public, handed.app)
        shown = {
            "height": str(get_next_height(newest)),
            "window": str(newest.start) if newest is not None else "",
        }
        return _answer(host, handed, shown)

    async def _take(self, request: Request, kind: str) -> tuple[bytes, Handed]:
        """The host, and what it has handed in, which is held now; else a Refusal."""
        actor = self._authenticate(request.scope)
        require_sure(actor)
        host = require_host(actor)
        data = await read_body(request.receive, HANDED_LIMIT_BYTES, READ_S)
        try:
            handed = _DECODE[kind](data)
        except SpecError as error:
            raise Refusal(400, "refused", str(error)) from None
        try:
            work = partial(self._desk.intake.hand_in, HandedIn(host, data, kind))
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
        return host, handed


def _answer(host: bytes, handed: Handed, shown: dict[str, str]) -> Response:
    """How far the chain is held."""
    notary = logblock.compute_notary_id(handed.public).hex()
    return JSONResponse({"host": host.hex(), "notary": notary, "app": handed.app} | shown)
