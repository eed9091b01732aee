"""The OpenAPI 3.1 document of a server: each route with its terms, its description, the cage's.

What one address takes and answers is said beside its route (describing); what every caged or
public call is asked, and how it may be refused, here. Not here: who may call what (cage.routes).
Invariants: the document has the operations of the table of routes and no others; each reason for
which a call is refused is in it. Source: OpenAPI 3.1.1; RFC 9421, RFC 9457, RFC 9530.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from chainlite.bpci.describing import BINARY, PROBLEM, STRING, Answer
from chainlite.cage import asgi, prices, refusal, signature
from chainlite.cage.routes import Access
from chainlite.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chainlite.bpci.describing import Body, Descriptions, Operation, Schema
    from chainlite.cage.routes import Route

PATH = "/v1/openapi.json"
VERSION = "1"
RETRIED = (429, 503, 507)
"""Answers that say when to come again."""

UNSIGNED = (
    "no-signature", "bad-signature", "not-covered", "missing-component", "unknown-component",
    "duplicate-component", "unknown-parameter", "another-algorithm", "another-tag", "another-body",
    "unknown-key", "bad-nonce", "no-time", "expired", "from-the-future", "replayed",
)  # fmt: skip
OF_ALL = (
    Answer(400, "The head can be read in more than one way.",
           reasons=("malformed-field", "malformed-target")),
    Answer(404, "Nothing is declared there.", reasons=("no-route",)),
    Answer(405, "The path knows another method.", reasons=("no-method",)),
    Answer(408, "No whole body in time.", reasons=("too-slow",)),
    Answer(413, "The body is above the limit of its address.", reasons=("too-large",)),
    Answer(414, "The target is too long.", reasons=("too-large",)),
    Answer(421, "The server does not have that name.", reasons=("another-server",)),
    Answer(429, "No credits left: who waits as long as is said is let through.",
           reasons=("too-many",)),
    Answer(431, "The fields are too many, or too long.", reasons=("too-large",)),
    Answer(500, "The server's own fault.", reasons=("failed", "too-large")),
    Answer(503, "Too much at once, or the store is full.", reasons=("busy", "store", "too-many")),
)  # fmt: skip
OF_ACCESS = {
    Access.CAGED: (
        Answer(401, "The signature is not one of this call.", reasons=UNSIGNED),
        Answer(403, "The key was revoked.", reasons=("revoked",)),
    ),
    Access.MUTUAL_TLS: (Answer(403, "No client certificate.", reasons=("no-certificate",)),),
    Access.PUBLIC: (),
}
_SCHEMES = {
    "signature-input": f'`{signature.LABEL}=("@method" "@authority" "@path" "@query" '
    '"content-digest");created=SECONDS;nonce="...";keyid="...";alg="ed25519";'
    f'tag="{signature.TAG}"`, and Content-Type and Content-Encoding where they are there '
    "(RFC 9421). `created` is at most 60 s ago and 5 s ahead; a nonce is good for one call.",
    "signature": "`cage=:BASE64:`: Ed25519 over the signature base of RFC 9421.",
    "content-digest": "`sha-256=:BASE64:` of the body, of no bytes where there is none (RFC 9530).",
}
_FIELDS = {
    "X-Audit-Id": "Of this call: 32 hex digits.",
    "X-Rate-Pass": "Credits: `left=812, price=2.000, refill=20, level=0` (RFC 9651).",
}
_SIGNED_FIELDS = {
    "X-Actor": "Whose key signed the call.",
    "X-Receipt": "The call's receipt, a byte sequence (RFC 9651).",
    "Content-Digest": "Of the body (RFC 9530).",
    "Signature-Input": "What the server's signature covers: this answer, and that request.",
    "Signature": "The server's (RFC 9421). An answer to a call that was not let in has none.",
}
_ABOUT = """\
A server that takes hosts' evidence, verifies it, and can deny none of what it acknowledged.

A caged call is signed by its caller, once (HTTP message signatures, RFC 9421), and its answer by
the server, with a receipt. A public one needs nothing. A refusal is a problem (RFC 9457)."""


def make_document(routes: Iterable[Route], descriptions: Descriptions) -> dict[str, object]:
    """The document; SpecError for a route without a description, or one without a route."""
    paths = dict[str, dict[str, object]]()
    left = dict(descriptions)
    for route in routes:
        name = f"{route.method} {route.pattern}"
        described = left.pop(name, None)
        if described is None:
            raise SpecError(f"{name}: it is not described")
        path = paths.setdefault(route.pattern.replace(":path}", "}"), {})
        path[route.method.lower()] = _make_operation(route, described)
    if left:
        raise SpecError(f"{min(left)}: described, and no route")
    return {
        "openapi": "3.1.1",
        "info": {"title": "Docklock BPCI", "version": VERSION, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": _make_components(),
        "x-limits": _make_limits(),
    }


def encode_document(routes: Iterable[Route], descriptions: Descriptions) -> bytes:
    """The document as it is served."""
    return json.dumps(make_document(routes, descriptions), separators=(",", ":")).encode() + b"\n"


def _make_limits() -> dict[str, object]:
    """Of the cage, for every call."""
    tariff = prices.Tariff()
    return {
        "fields": asgi.FIELDS_MAX,
        "fields-bytes": asgi.FIELDS_BYTES_MAX,
        "target-bytes": asgi.TARGET_BYTES_MAX,
        "credits": tariff.capacity_m // 1000,
        "credits-refill-per-second": tariff.refill_m_per_s // 1000,
    }


def _make_operation(route: Route, described: Operation) -> dict[str, object]:
    made: dict[str, object] = {
        "operationId": described.name,
        "summary": described.summary,
        "security": [],
        "x-access": route.access.value,
        "x-credits": route.cost_m / 1000,
        "x-limits": {
            "request-bytes": route.request_bytes_max,
            "response-bytes": route.response_bytes_max,
            "body-seconds": route.body_timeout_s,
        },
        "responses": _make_responses(route, described),
    }
    if described.text:
        made["description"] = described.text
    if route.access is Access.CAGED:
        made["security"] = [{name: [] for name in _SCHEMES}]
    parameters = [
        {
            "name": one.name,
            "in": one.place,
            "required": one.is_required,
            "description": one.what,
            "schema": one.schema,
        }
        for one in described.parameters
    ]
    if described.codings:
        parameters.append(
            {
                "name": "Content-Encoding",
                "in": "header",
                "required": False,
                "description": "Of the body.",
                "schema": {"enum": list(described.codings)},
            }
        )
    if parameters:
        made["parameters"] = parameters
    if described.request:
        made["requestBody"] = {"required": True, "content": _make_content(described.request)}
    return made


def _make_responses(route: Route, described: Operation) -> dict[str, object]:
    """What the address answers, and how the cage refuses, by status."""
    refused = _list_refusals(route.access)
    own = {one.status for one in described.answers}
    responses = dict[str, object]()
    for status in sorted(own | {one.status for one in refused}):
        if status not in own:
            responses[str(status)] = _refer("responses", _name_refusal(route.access, status))
            continue
        answers = [one for one in (*described.answers, *refused) if one.status == status]
        responses[str(status)] = _make_response(route.access, status, answers)
    return responses


def _list_refusals(access: Access) -> tuple[Answer, ...]:
    """The cage's."""
    return (*OF_ACCESS[access], *OF_ALL)


def _name_refusal(access: Access, status: int) -> str:
    return f"{access.name.lower()}-{status}"


def _refer(kind: str, name: str) -> dict[str, object]:
    return {"$ref": f"#/components/{kind}/{name}"}


def _make_response(access: Access, status: int, answers: Iterable[Answer]) -> dict[str, object]:
    content = _make_content([body for one in answers for body in one.bodies])
    reasons = sorted({reason for one in answers for reason in one.reasons})
    if reasons:
        problem = _make_problem(status, reasons)
        known = content.get(PROBLEM)
        content[PROBLEM] = {"schema": {"oneOf": [known["schema"], problem]} if known else problem}
    return {
        "description": " ".join(dict.fromkeys(one.what for one in answers)),
        "headers": {name: _refer("headers", name) for name in _list_fields(access, status)},
        "content": content,
    }


def _make_content(bodies: Iterable[Body]) -> dict[str, dict[str, Schema]]:
    return {one.media: {} if one.media == BINARY else {"schema": one.schema} for one in bodies}


def _make_problem(status: int, reasons: list[str]) -> Schema:
    """A refusal (chainlite.cage.refusal)."""
    return {
        "type": "object",
        "properties": {
            "type": {"enum": [f"{refusal.TYPE_PREFIX}{one}" for one in reasons]},
            "title": STRING,
            "status": {"const": status},
            "detail": STRING,
            "instance": {"type": "string", "pattern": "^urn:docklock:audit:[0-9a-f]{32}$"},
        },
        "required": ["type", "title", "status", "detail", "instance"],
        "additionalProperties": False,
    }


def _list_fields(access: Access, status: int) -> list[str]:
    """Of an answer; those that a signed answer alone has are not required."""
    wanted = list(_FIELDS)
    if access is Access.CAGED:
        wanted += _SIGNED_FIELDS
    return [*wanted, "Retry-After"] if status in RETRIED else wanted


def _make_components() -> dict[str, object]:
    schemes = {
        name: {"type": "apiKey", "in": "header", "name": name.title(), "description": what}
        for name, what in _SCHEMES.items()
    }
    fields: dict[str, Schema] = {
        name: {"description": what, "schema": STRING}
        for name, what in (_FIELDS | _SIGNED_FIELDS).items()
    }
    seconds = {"type": "integer", "minimum": 1}
    fields["Retry-After"] = {"description": "Seconds.", "required": True, "schema": seconds}
    responses = {
        _name_refusal(access, one.status): _make_response(access, one.status, (one,))
        for access in Access
        for one in _list_refusals(access)
    }
    return {"securitySchemes": schemes, "headers": fields, "responses": responses}
