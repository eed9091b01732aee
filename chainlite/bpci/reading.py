"""The addresses of readers and auditors: hosts, containers, ranges, exports, search, alerts.

`ROUTES` is their part of the table that the cage holds every call to. What is asked is done in a
thread with a connection of its own, one after the other, so that hosts do not wait for auditors.
Not here: what is there (fleet), collected (exporting), found (searching) and wrong (alerting).
Invariants: everybody sees the own tenant's and nothing else; values, ranges and proofs are for
auditors; what waits is bounded; nothing here writes.
"""

from __future__ import annotations

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl

from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Address

from chainlite.bpci import alerting, asking, exporting, fleet
from chainlite.bpci.actor import Actor, Role, refuse_unseen, require
from chainlite.bpci.exporting import make_scope
from chainlite.bpci.searching import search
from chainlite.cage.refusal import Refusal
from chainlite.cage.routes import Access, Route
from chainlite.errors import SpecError
from chainlite.export_frames import encode_position
from chainlite.segment import PACKED_LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from starlette.requests import Request

    from chainlite.bpci.access import Access as Rules
    from chainlite.bpci.actor import Authenticate
    from chainlite.bpci.at_rest import ServerKey
    from chainlite.bpci.store import Store
    from chainlite.export_frames import Scope

Done = TypeVar("Done")

WAITING_MAX = 64
BUSY_AFTER_S = 2
QUERY_MAX = 32
PART_LIMIT_BYTES = 2 * exporting.FILL_BYTES + 2 * PACKED_LIMIT_BYTES
"""Of a part: it is full, takes one segment more, and what is around."""
NEXT = "next-cursor"
"""The field that says where a range goes on; without it this was the last part."""
ROUTES = (
    Route("GET", "/v1/audit/{app}/range", Access.CAGED, 4000, response_bytes_max=PART_LIMIT_BYTES),
    Route("GET", "/v1/export", Access.CAGED, 4000, response_bytes_max=PART_LIMIT_BYTES),
    Route("GET", "/v1/hosts", Access.CAGED),
    Route("GET", "/v1/containers", Access.CAGED),
    Route("GET", "/v1/search", Access.CAGED, 4000),
    Route("GET", "/v1/alerts", Access.CAGED),
    Route("GET", "/v1/alerts/{host}/{kind}/{leaf}/proof", Access.CAGED, 2000),
)


class Room:
    """One thread that reads a store, and those who wait for it."""

    def __init__(self, store: Store) -> None:
        """`store` is a reader's, and this thread's alone."""
        self._store = store
        self._thread = ThreadPoolExecutor(1, "bpci-reading")
        self.waiting = 0

    async def do(self, asked: Callable[[Store], Done]) -> Done:
        """What it comes to. Refusal (429): too many wait."""
        if self.waiting >= WAITING_MAX:
            raise Refusal(429, "busy", "too many are reading", retry_after_s=BUSY_AFTER_S)
        self.waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, asked, self._store)
        finally:
            self.waiting -= 1

    def close(self) -> None:
        """Wait for who reads; take nobody any more."""
        self._thread.shutdown(cancel_futures=True)


class Reading:
    """What answers them."""

    def __init__(
        self, room: Room, key: ServerKey, authenticate: Authenticate,
        clock_ms: Callable[[], int], rules: Rules,
    ) -> None:  # fmt: skip
        """`rules` is who may do what: of it are told quotas that were met, and who was revoked."""
        self._room, self._key, self._rules = room, key, rules
        self._authenticate, self._clock_ms = authenticate, clock_ms
        self.addresses = [
            Address("/v1/audit/{app}/range", self._show_range, methods=["GET"]),
            Address("/v1/export", self._show_export, methods=["GET"]),
            Address("/v1/hosts", self._list_hosts, methods=["GET"]),
            Address("/v1/containers", self._list_containers, methods=["GET"]),
            Address("/v1/search", self._search, methods=["GET"]),
            Address("/v1/alerts", self._list_alerts, methods=["GET"]),
            Address("/v1/alerts/{host}/{kind}/{leaf}/proof", self._show_proof, methods=["GET"]),
        ]

    def _admit(self, request: Request, role: Role, names: frozenset[str]) -> Admitted:
        """Who asks and what; Refusal where it may not, or asks for what cannot be."""
        actor = self._authenticate(request.scope)
        require(actor, role, actor.tenant)
        return Admitted(actor, asking.read_query(_split_query(request.scope), names))

    async def _show_range(self, request: Request) -> Response:
        try:
            admitted = self._admit(request, Role.AUDITOR, asking.RANGE_NAMES)
            scope = make_scope(self._key, admitted.actor.tenant)
            scope = asking.narrow_range(scope, request.path_params["app"], admitted.query)
        except SpecError as error:
            raise Refusal(400, "bad-query", str(error)) from None
        return await self._make_part(scope)

    async def _show_export(self, request: Request) -> Response:
        try:
            admitted = self._admit(request, Role.AUDITOR, asking.EXPORT_NAMES)
            scope = make_scope(self._key, admitted.actor.tenant)
            scope = asking.narrow_export(scope, admitted.query)
        except SpecError as error:
            raise Refusal(400, "bad-query", str(error)) from None
        return await self._make_part(scope)

    async def _make_part(self, scope: Scope) -> Response:
        now_ms = self._clock_ms()
        try:
            made = await self._room.do(partial(_write_part, self._key, scope, now_ms))
        except exporting.BadCursor as error:
            raise Refusal(400, "bad-query", str(error)) from None
        if made is None:
            raise refuse_unseen()
        data, after = made
        headers = {"cache-control": "no-store"}
        if after:
            headers[NEXT] = after
        return Response(data, headers=headers, media_type="application/octet-stream")

    async def _search(self, request: Request) -> Response:
        try:
            admitted = self._admit(request, Role.READER, asking.SEARCH_NAMES)
            asked = asking.parse_search(admitted.query)
        except SpecError as error:
            raise Refusal(400, "bad-query", str(error)) from None
        actor = admitted.actor
        with_values = _may_see_values(actor)
        if asked.path and not with_values:
            raise Refusal(403, "not-yours", "a path is a value: it is for auditors")
        do = partial(
            search, key=self._key, tenant=actor.tenant, asked=asked, with_values=with_values
        )
        found = await self._room.do(do)
        after = asking.encode_search_cursor(found.after) if found.after is not None else None
        return _answer(
            {"proven": False, "receipts": found.receipts, "damaged": found.damaged,
             "erased_segments": found.erased, "cursor": after}
        )  # fmt: skip

    async def _list_hosts(self, request: Request) -> Response:
        try:
            admitted = self._admit(request, Role.READER, asking.HOSTS_NAMES)
            first = asking.read_id(admitted.query, "cursor")
        except SpecError as error:
            raise Refusal(400, "bad-query", str(error)) from None
        actor = admitted.actor
        do = partial(
            fleet.list_hosts, revoked=dict(self._rules.revoked_hosts), tenant=actor.tenant,
            first=first,
        )  # fmt: skip
        found, after = await self._room.do(do)
        role = actor.role.value
        return _answer({"role": role, "hosts": found, "cursor": after.hex() or None})

    async def _list_containers(self, request: Request) -> Response:
        try:
            admitted = self._admit(request, Role.READER, asking.CONTAINERS_NAMES)
            query = admitted.query
            host = asking.read_id(query, "host")
            start = asking.parse_container_cursor(query.get("cursor", ""))
        except SpecError as error:
            raise Refusal(400, "bad-query", str(error)) from None
        do = partial(fleet.list_containers, tenant=admitted.actor.tenant, host=host, start=start)
        found, after = await self._room.do(do)
        return _answer({"containers": found, "cursor": after or None})

    async def _list_alerts(self, request: Request) -> Response:
        try:
            admitted = self._admit(request, Role.READER, asking.ALERT_NAMES)
            query = admitted.query
            host, first = asking.read_id(query, "host"), asking.read_id(query, "cursor")
            lag_s = asking.read_number(query, "lag_s", asking.LAG_S_DEFAULT, asking.LAG_S_MAX)
        except SpecError as error:
            raise Refusal(400, "bad-query", str(error)) from None
        tenant, now_ms = admitted.actor.tenant, self._clock_ms()
        do = partial(
            alerting.list_alerts, key=self._key, tenant=tenant, host=host, first=first,
            lag_s=lag_s, now_ms=now_ms,
        )  # fmt: skip
        found, after = await self._room.do(do)
        if not first:
            found = alerting.list_excesses(self._rules.excesses, tenant, host, now_ms) + found
        return _answer({"alerts": found, "cursor": after.hex() or None})

    async def _show_proof(self, request: Request) -> Response:
        try:
            admitted = self._admit(request, Role.AUDITOR, frozenset())
            words = request.path_params
            host = asking.read_id(words, "host")
            leaf = asking.read_number(words, "leaf", 0, asking.INDEX_MAX)
        except SpecError as error:
            raise Refusal(400, "bad-query", str(error)) from None
        do = partial(
            alerting.find_evidence, key=self._key, tenant=admitted.actor.tenant, host=host,
            kind=words["kind"], leaf_index=leaf,
        )  # fmt: skip
        evidence = await self._room.do(do)
        if evidence is None:
            raise refuse_unseen()
        if not evidence.trouble.proof:
            raise Refusal(404, "no-proof", "this alert has no file that convicts the host")
        headers = {"cache-control": "no-store"}
        return Response(evidence.trouble.proof, 200, headers, "application/octet-stream")


class Admitted(NamedTuple):
    """Who asks, and the query."""

    actor: Actor
    query: asking.Query


def _may_see_values(actor: Actor) -> bool:
    try:
        require(actor, Role.AUDITOR, actor.tenant)
    except Refusal:
        return False
    return True


def _write_part(
    key: ServerKey, scope: Scope, now_ms: int, store: Store
) -> tuple[bytes, str] | None:
    """A part and where the next one begins; None where there is no such app."""
    file = io.BytesIO()
    with store.moment():
        part = exporting.write_part(store, key, scope, file.write, now_ms)
        is_named = bool(scope.container or scope.app)
        is_all = scope.start is None and part.after is None
        if is_named and is_all and not part.has_runs and not exporting.is_known(store, scope):
            return None
    return file.getvalue(), encode_position(part.after).hex()


def _split_query(scope: MutableMapping[str, Any]) -> list[tuple[str, str]]:
    """The names and values of a query; SpecError where it is none."""
    try:
        text = scope["query_string"].decode("ascii")
        if not text:
            return []
        return parse_qsl(
            text, keep_blank_values=True, strict_parsing=True, errors="surrogateescape",
            max_num_fields=QUERY_MAX,
        )  # fmt: skip
    except ValueError:
        raise SpecError("query: want NAME=VALUE, joined by &") from None


def _answer(content: dict[str, Any]) -> Response:
    return JSONResponse(content, headers={"cache-control": "no-store"})
