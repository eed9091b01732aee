"""A server's addresses: what each asks of who calls it, and what it answers.

`ROUTES` is the table that the cage holds every call to. The hot path is raw ASGI (ingest); the rest
reads the store through a connection of its own. Not here: the cage, sockets, files (serving).
Invariants: everything but the server's own log and its state is caged; a host is shown what is its
own and nothing else; nothing here writes, but what members hands the desk.
Source: C2SP tlog-tiles for /checkpoint and /tile.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route as Address

from chainlite import cosignature, tile
from chainlite.bpci import (
    addresses,
    blocks,
    handing,
    ingest,
    members,
    members_addresses,
    openapi,
    own_log,
    pipeline_addresses,
    reading,
    reading_addresses,
    refill_addresses,
    refill_app,
)
from chainlite.bpci.actor import require_host, require_sure
from chainlite.bpci.addresses import ALERTS_SHOWN_MAX
from chainlite.bpci.batch import WIRE_LIMIT_BYTES
from chainlite.bpci.office import Office
from chainlite.cage.refusal import CONTENT_TYPE, Refusal
from chainlite.cage.routes import Access, Route
from chainlite.errors import DocklockError, SpecError, StateError, TamperError

if TYPE_CHECKING:
    from starlette.requests import Request

    from chainlite.bpci.actor import Authenticate
    from chainlite.bpci.at_rest import ServerKey
    from chainlite.bpci.desk import Desk
    from chainlite.bpci.store import Store
    from chainlite.cage.asgi import Receive, Scope, Send
    from chainlite.proofs.light_client import LightClient

ROUTES = (
    Route(
        "POST", ingest.PATH, Access.CAGED, request_bytes_max=WIRE_LIMIT_BYTES,
        body_timeout_s=ingest.READ_S,
    ),
    Route("GET", "/v1/hosts/{host}", Access.CAGED),
    *members.ROUTES,
    Route("GET", "/checkpoint", Access.PUBLIC, 100),
    Route("GET", "/tile/{rest:path}", Access.PUBLIC, 100, response_bytes_max=32 << 20),
    Route("GET", "/healthz", Access.PUBLIC, 10),
    Route("GET", "/readyz", Access.PUBLIC, 100),
    Route("GET", "/metrics", Access.PUBLIC, 100),
    Route("GET", openapi.PATH, Access.PUBLIC, 100),
    *reading.ROUTES,
    *refill_app.ROUTES,
    *handing.ROUTES,
    *blocks.ROUTES,
)  # fmt: skip
DESCRIPTIONS = {
    **addresses.DESCRIPTIONS,
    **members_addresses.DESCRIPTIONS,
    **reading_addresses.DESCRIPTIONS,
    **refill_addresses.DESCRIPTIONS,
    **pipeline_addresses.DESCRIPTIONS,
}
"""Of all of ROUTES; who adds routes adds what is said of them, both from a module of its own."""
FOREVER = {"cache-control": "public, max-age=31536000, immutable"}


class App:
    """The ASGI application that goes into the cage."""

    def __init__(
        self,
        desk: Desk,
        reader: Store,
        key: ServerKey,
        authenticate: Authenticate,
        auditing: reading.Reading,
        chain: LightClient | None = None,
    ) -> None:
        self._desk, self._store, self._key = desk, reader, key
        self._authenticate = authenticate
        self._ingest = ingest.Ingest(desk, authenticate)
        self._document = openapi.encode_document(ROUTES, DESCRIPTIONS)
        self.office = Office(desk.intake, desk.intake.store, key)
        self._members = members.Members(desk, self.office, reader, key, authenticate, get_now_ms)
        self._rest = Starlette(
            routes=[
                Address("/v1/hosts/{host}", self._show_host),
                *self._members.addresses,
                Address("/checkpoint", self._show_checkpoint),
                Address("/tile/{rest:path}", self._show_tile),
                Address("/healthz", self._show_health),
                Address("/readyz", self._show_ready),
                Address("/metrics", self._show_metrics),
                Address(openapi.PATH, self._show_document),
                *auditing.addresses,
                *refill_app.Refilling(desk, reader, authenticate).list_addresses(),
                *handing.Handing(desk, reader, authenticate).addresses,
                *blocks.Blocks(chain).addresses,
            ],
            exception_handlers={DocklockError: _answer_error, HTTPException: _answer_nothing},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One call, or the server's start and stop."""
        if scope["type"] == "http" and scope["path"] == ingest.PATH:
            await self._ingest(scope, receive, send)
            return
        await self._rest(scope, receive, send)

    async def _show_host(self, request: Request) -> Response:
        ingest.check_whole(self._desk)
        actor = self._authenticate(request.scope)
        require_sure(actor)
        host = require_host(actor)
        if request.path_params["host"] != host.hex():
            raise Refusal(403, "not-yours", "a host is shown its own state")
        row = self._store.find_host(host)
        if row is None:
            raise Refusal(404, "no-host", "the host is not enrolled")
        alerts = self._store.read_alerts(host, 0, ALERTS_SHOWN_MAX)
        shown = [
            {"kind": one.kind, "leaf_index": str(one.leaf_index), "time_ms": str(one.time_ms)}
            for one in alerts
        ]
        return JSONResponse(
            {
                "host": host.hex(),
                "size": str(row.size),
                "receipts": str(row.receipts),
                "open_runs": row.open_runs,
                "log_leaf": str(row.log_leaf),
                "root": row.root.hex(),
                "alerts": shown,
            }
        )

    async def _show_checkpoint(self, _: Request) -> Response:
        note = self._store.find_log()[1]
        if not note:
            raise Refusal(404, "empty", "the server's log has no leaf yet")
        return Response(note, headers={"cache-control": "no-cache"}, media_type="text/plain")

    async def _show_tile(self, request: Request) -> Response:
        try:
            wanted = tile.parse_path(f"tile/{request.path_params['rest']}")
            size, _ = self._store.find_log()
            data = own_log.make_tile(self._store, size, wanted)
        except (SpecError, StateError) as error:
            raise Refusal(404, "no-tile", str(error)) from None
        return Response(data, headers=FOREVER, media_type="application/octet-stream")

    async def _show_health(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _show_ready(self, _: Request) -> Response:
        """Whether what is stored is what this server has signed, and batches can be taken."""
        size, note = self._store.find_log()
        if size:
            try:
                state = cosignature.check_checkpoint(note, self._key.log_keys)
            except SpecError as error:
                raise TamperError(f"the log's checkpoint: {error}") from None
            if state.size != size:
                raise TamperError("the log's checkpoint is of another size")
        if not self._desk.is_running:
            raise StateError("no batch can be taken")
        ingest.check_whole(self._desk)
        return PlainTextResponse("ready\n")

    async def _show_metrics(self, _: Request) -> Response:
        desk, restore = self._desk, self._desk.intake.restore.status
        figures = (
            ("receipts_kept", "counter", "Receipts that were verified and kept.", desk.receipts),
            ("batches_answered", "counter", "Batches that were answered.", desk.batches),
            ("commits", "counter", "Commits, each for what waited together.", desk.commits),
            ("waiting_batches", "gauge", "Batches that wait.", desk.waiting),
            ("waiting_bytes", "gauge", "Bytes of batches that wait.", desk.waiting_bytes),
            ("log_leaves", "gauge", "Leaves of the server's log.", self._store.find_log()[0]),
            ("restoring", "gauge", "1 while the log is filled again.", int(restore.is_on)),
            ("restoring_goal_leaves", "gauge", "Leaves that it had.", restore.goal),
            ("restoring_hosts_waited", "gauge", "Hosts that have to come.", len(restore.waits)),
        )
        lines = []
        for name, kind, what, value in figures:
            sample = f"bpci_{name}_total" if kind == "counter" else f"bpci_{name}"
            lines += [f"# HELP bpci_{name} {what}", f"# TYPE bpci_{name} {kind}"]
            if name.endswith("_bytes"):
                lines.append(f"# UNIT bpci_{name} bytes")
            lines.append(f"{sample} {value}")
        text = "\n".join([*lines, "# EOF", ""])
        kind = "application/openmetrics-text; version=1.0.0; charset=utf-8"
        return Response(text, media_type=kind)

    async def _show_document(self, _: Request) -> Response:
        return Response(self._document, media_type="application/json")


def get_now_ms() -> int:
    """Unix time."""
    return time.time_ns() // 1_000_000


async def _answer_error(request: Request, error: Exception) -> Response:
    """A refusal as it is; what is wrong with the store as the server's trouble."""
    refusal = error
    if not isinstance(refusal, Refusal):
        after_s = ingest.BROKEN_AFTER_S
        refusal = Refusal(503, "store", str(error), retry_after_s=after_s)
    body = ingest.encode_refusal(request.scope, refusal)
    headers = {"cache-control": "no-store"}
    if refusal.retry_after_s:
        headers["retry-after"] = str(refusal.retry_after_s)
    return Response(body, refusal.status, headers, media_type=CONTENT_TYPE)


async def _answer_nothing(request: Request, _: Exception) -> Response:
    """What is an address for the cage and none for starlette: one with a line feed."""
    return await _answer_error(request, Refusal(404, "no-route", "nothing is declared there"))
