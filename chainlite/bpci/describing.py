"""How an address is described for the OpenAPI document: what it takes, what it answers. Pure.

Who adds an address to a table of routes writes its Operation beside it, in a DESCRIPTIONS of the
same module: `"METHOD /pattern": Operation(...)`. What the cage asks and answers for every address
is not said there (openapi). Source: OpenAPI 3.1.1; JSON Schema 2020-12; RFC 9457.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    Schema = Mapping[str, object]
    Descriptions = Mapping[str, "Operation"]

JSON, BINARY, TEXT = "application/json", "application/octet-stream", "text/plain"
PROBLEM = "application/problem+json"
OPENMETRICS = "application/openmetrics-text"

BYTES: Schema = {"type": "string", "format": "binary"}
STRING: Schema = {"type": "string"}
BASE64: Schema = {"type": "string", "contentEncoding": "base64"}
HEX_32: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
U64: Schema = {"type": "string", "pattern": "^(0|[1-9][0-9]{0,19})$"}
"""A decimal number below 2 ** 64, as a text: JSON's numbers are not exact everywhere."""
COUNT: Schema = {"type": "integer", "minimum": 0}


class Parameter(NamedTuple):
    """Of a path, which needs it, or of a query; `place` is "path" or "query"."""

    name: str
    what: str
    schema: Schema = STRING
    place: str = "path"
    is_required: bool = True


class Body(NamedTuple):
    """A media type, and the schema of what has it."""

    media: str
    schema: Schema = BYTES


class Answer(NamedTuple):
    """A status, when it is given, and the bodies that it may have.

    `reasons`: the last part of `type` of a problem (RFC 9457); its body is described by them.
    """

    status: int
    what: str
    bodies: tuple[Body, ...] = ()
    reasons: tuple[str, ...] = ()


class Operation(NamedTuple):
    """One address: its name for programs, what it does, what it takes and answers."""

    name: str
    summary: str
    answers: tuple[Answer, ...]
    parameters: tuple[Parameter, ...] = ()
    request: tuple[Body, ...] = ()
    text: str = ""
    codings: tuple[str, ...] = ()
    """Of the request's body, by Content-Encoding; none: only as it is."""


def make_object(**fields: Schema) -> Schema:
    """The schema of an object that has these fields and no others."""
    return make_partial(tuple(fields), **fields)


def make_partial(needed: tuple[str, ...], /, **fields: Schema) -> Schema:
    """The schema of an object that has no fields but these, and those that are needed."""
    return {
        "type": "object",
        "properties": fields,
        "required": list(needed),
        "additionalProperties": False,
    }


def make_nullable(schema: Schema) -> Schema:
    """The schema of what may be null."""
    return {"oneOf": [schema, {"type": "null"}]}


def make_array(schema: Schema, limit: int) -> Schema:
    """The schema of a list."""
    return {"type": "array", "items": schema, "maxItems": limit}


UNREADABLE = Answer(503, "The store cannot be read.", reasons=("store",))
UNWRITABLE = Answer(503, "The store cannot be written.", reasons=("store",))
