"""The addresses of a restore: hosts show what the server signed, send bodies again, name places.

`POST /v1/restore/show` is for anybody, since what it takes is under the server's own signature, and
a host that was enrolled after the backup has no key here yet. Bodies and places are taken of a host
that has signed the call. The answer says how far it is; no word of it is signed as the log's.
Not here: what is made of it (restoring), the cage (app's ROUTES).
Invariant: nothing here acknowledges anything.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse
from starlette.routing import Route as Address

from chainlite.bpci import ingest
from chainlite.bpci.acknowledgement import decode_acknowledgement
from chainlite.bpci.actor import require_host, require_sure
from chainlite.bpci.batch import WIRE_LIMIT_BYTES
from chainlite.bpci.desk import Busy
from chainlite.bpci.handover import (
    PLACES_LIMIT_BYTES,
    SHOWN_LIMIT_BYTES,
    decode_places,
    decode_shown,
)
from chainlite.bpci.intake import BROKEN, KNOWN, REFUSED, REVOKED, STRANGER, Answer, Request
from chainlite.cage.asgi import read_body
from chainlite.cage.refusal import Refusal
from chainlite.cage.routes import Access, Route
from chainlite.errors import SpecError, StateError, TamperError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from starlette.requests import Request as Asked
    from starlette.responses import Response

    from chainlite.bpci.actor import Authenticate
    from chainlite.bpci.desk import Desk
    from chainlite.bpci.handover import Places, Shown
    from chainlite.bpci.store import Store

    Found = TypeVar("Found")

SHOW, BODIES, PLACES = "/v1/restore/show", "/v1/restore/bodies", "/v1/restore/places"
SHOW_COST_M = 100
SHOW_READ_S = 10.0
ROUTES = (
    Route("POST", SHOW, Access.PUBLIC, SHOW_COST_M, request_bytes_max=SHOWN_LIMIT_BYTES),
    Route(
        "POST", BODIES, Access.CAGED, request_bytes_max=WIRE_LIMIT_BYTES,
        body_timeout_s=ingest.READ_S,
    ),
    Route(
        "POST", PLACES, Access.CAGED, request_bytes_max=PLACES_LIMIT_BYTES,
        body_timeout_s=ingest.READ_S,
    ),
)  # fmt: skip


class Refilling:
    """What answers these addresses."""

    def __init__(self, desk: Desk, reader: Store, authenticate: Authenticate) -> None:
        self._desk, self._store, self._authenticate = desk, reader, authenticate
        self._restore = desk.intake.restore

    def list_addresses(self) -> list[Address]:
        """For the application."""
        return [
            Address(SHOW, self._take_shown, methods=["POST"]),
            Address(BODIES, self._take_bodies, methods=["POST"]),
            Address(PLACES, self._take_places, methods=["POST"]),
        ]

    async def _take_shown(self, request: Asked) -> Response:
        data = await read_body(request.receive, SHOWN_LIMIT_BYTES, SHOW_READ_S)
        shown = _read(decode_shown, data)
        await self._do(partial(self._show, shown))
        answered = shown.acknowledgement
        return self._answer(decode_acknowledgement(answered).held.host if answered else b"")

    async def _take_bodies(self, request: Asked) -> Response:
        actor = self._authenticate(request.scope)
        host = require_host(actor)
        is_packed = request.headers.get("content-encoding", "") == "zstd"
        data = await read_body(request.receive, WIRE_LIMIT_BYTES, ingest.READ_S)
        if self._restore.is_on:
            batch = Request(host, data, is_packed, actor.public)
            await self._do(partial(self._take, batch))
        return self._answer(host)

    async def _take_places(self, request: Asked) -> Response:
        actor = self._authenticate(request.scope)
        require_sure(actor)  # who is not sends bodies first
        host = require_host(actor)
        data = await read_body(request.receive, PLACES_LIMIT_BYTES, ingest.READ_S)
        await self._do(partial(self._place, host, _read(decode_places, data)))
        return self._answer(host)

    def _show(self, shown: Shown) -> Answer:
        return _refuse(lambda: self._restore.take_shown(shown))

    def _place(self, host: bytes, places: Places) -> Answer:
        return _refuse(lambda: self._restore.take_places(host, places))

    def _take(self, batch: Request) -> Answer:
        if not self._restore.is_on:
            return Answer(KNOWN)
        return self._restore.take_bodies(batch)

    async def _do(self, job: Callable[[], Answer]) -> None:
        try:
            answer = await self._desk.run(job)
        except Busy as error:
            raise Refusal(429, "busy", str(error), retry_after_s=ingest.BUSY_AFTER_S) from None
        if answer.kind == BROKEN:
            raise StateError("the server's store is damaged")
        if answer.kind == STRANGER:
            raise Refusal(401, "unknown-key", answer.why)
        if answer.kind == REVOKED:
            raise Refusal(403, "revoked", answer.why)
        if answer.kind == REFUSED:
            raise Refusal(422 if answer.alert else 400, "refused", answer.why)

    def _answer(self, host: bytes) -> Response:
        """How far the restore is, and how much of this host is held."""
        status = self._restore.status
        row = self._store.find_host(host) if host else None
        shown = {
            "state": "restoring" if status.is_on else "ready",
            "size": str(status.size),
            "goal": str(status.goal),
            "held": str(row.size if row is not None else 0),
            "detail": status.tell() if status.is_on else "",
        }
        return JSONResponse(shown, headers={"cache-control": "no-store"})


def _read(decode: Callable[[bytes], Found], data: bytes) -> Found:
    try:
        return decode(data)
    except SpecError as error:
        raise Refusal(400, "malformed", str(error)) from None


def _refuse(do: Callable[[], None]) -> Answer:
    """What the writer makes of it: what it does not believe is the caller's trouble."""
    try:
        do()
    except (SpecError, TamperError) as error:
        return Answer(REFUSED, why=str(error))
    return Answer(KNOWN)
