"""What a message signature is over: the values of covered components, a line each.

Not here: who signs and which components have to be covered (signature). Invariants: a line feed
ends a line and is never in a value, so that a base has one reading; a component is there once;
what is unknown (`;sf`, `;bs`, `;tr`, a derived component that RFC 9421 does not name) is refused.
Source: RFC 9421 sections 2.1 to 2.5.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, quote

from chainlite.cage.fields import parse_dictionary, parse_inner_list
from chainlite.cage.refusal import refuse_field, unsigned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

QUERY_PARAMETERS_MAX = 64
CACHED_LISTS = 256

_SIGNABLE = bytes([9, *range(32, 127)])
_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")


class Request(NamedTuple):
    """A request as it is on the wire; `fields` by lower-case name, lines of one name joined.

    `path` and `query` keep their percent-encoding; `query` is without its question mark.
    """

    method: str
    scheme: str
    authority: str
    path: str
    query: str
    fields: Mapping[str, str]


class Response(NamedTuple):
    """A response; `fields` as those of a request."""

    status: int
    fields: Mapping[str, str]


class Component(NamedTuple):
    """A covered component: its name, its parameters, and how its line in a base begins."""

    name: str
    is_of_request: bool
    key: str
    parameter: str
    line: str


_DERIVED: dict[str, Callable[[Request], str]] = {
    "@method": lambda request: request.method,
    "@authority": lambda request: request.authority,
    "@scheme": lambda request: request.scheme,
    "@path": lambda request: request.path or "/",
    "@query": lambda request: "?" + request.query,
    "@request-target": lambda request: get_target(request),
    "@target-uri": lambda request: f"{request.scheme}://{request.authority}{get_target(request)}",
}


def get_target(request: Request) -> str:
    """Path and query as they were asked for; RFC 9421 calls it the origin form."""
    return (request.path or "/") + (f"?{request.query}" if request.query else "")


class Components(NamedTuple):
    """What an inner list covers; `plain` are the names of those without parameters."""

    each: tuple[Component, ...]
    plain: frozenset[str]
    plain_bytes: frozenset[bytes]
    texts: frozenset[str]


@lru_cache(maxsize=CACHED_LISTS)
def parse_components(inner: str) -> Components:
    """The components that an inner list covers; Refusal where one is malformed or there twice."""
    components: list[Component] = []
    for value, parameters, text in parse_inner_list(inner, "covered components"):
        named = dict(parameters)
        is_of_request, key = named.pop("req", False), named.pop("key", "")
        parameter = named.pop("name", "") if value == "@query-param" else ""
        if (
            named
            or not isinstance(value, str)
            or not isinstance(key, str)
            or not isinstance(parameter, str)
            or is_of_request not in (True, False)
            or not text.startswith('"')
            or not _NAME.fullmatch(value.removeprefix("@"))
            or (value.startswith("@") and key)
            or (value == "@query-param") != bool(parameter)
        ):
            raise unsigned("unknown-component", f"component {text} is not one that is known here")
        components.append(Component(value, bool(is_of_request), key, parameter, f"{text}: "))
    if len({component[:4] for component in components}) != len(components):
        raise unsigned("duplicate-component", "a component is covered twice")
    plain = frozenset(one.name for one in components if one.line == f'"{one.name}": ')
    return Components(
        tuple(components),
        plain,
        frozenset(name.encode() for name in plain),
        frozenset(one.line.removesuffix(": ") for one in components),
    )


def make_signature_base(
    inner: str, parameters: str, message: Request | Response, request: Request | None = None
) -> bytes:
    """The signature base of a message; `request` is the one that a response answers.

    `inner` is the list of components and `parameters` what follows it, both as serialised.
    """
    lines = []
    for component in parse_components(inner).each:
        name, is_of_request, key, _, line = component
        source = message
        if is_of_request:
            if request is None:
                raise unsigned("unknown-component", f"{line}there is no such request")
            source = request
        if name[0] == "@":
            value = _get_derived(component, source)
        elif name in source.fields:
            value = source.fields[name]
            if key:
                value = _get_member(component, value)
        else:
            raise unsigned("missing-component", f"{line}covered, and not there")
        lines.append(line + value)
    lines.append(f'"@signature-params": {inner}{parameters}')
    return encode_base(lines)


def encode_base(lines: list[str]) -> bytes:
    """A base of these lines; Refusal where a value in one of them would end it."""
    base = "\n".join(lines).encode("utf-8", "replace")
    # Fast: what is left without the bytes that may be there is the ends of the lines.
    if base.translate(None, _SIGNABLE) != b"\n" * (len(lines) - 1):
        raise refuse_field("a covered value has a byte that no field may have")
    return base


def _get_derived(component: Component, source: Request | Response) -> str:
    name = component.name
    if isinstance(source, Response):
        if name == "@status":
            return str(source.status)
    elif name in _DERIVED:
        return _DERIVED[name](source)
    elif name == "@query-param":
        return _get_query_parameter(component.parameter, source)
    raise unsigned("unknown-component", f"{component.line}not one of this message")


def _get_member(component: Component, value: str) -> str:
    member = parse_dictionary(value, component.name).get(component.key)
    if member is None:
        raise unsigned("missing-component", f"{component.line}covered, and not there")
    return member.text


def _get_query_parameter(name: str, request: Request) -> str:
    """RFC 9421 section 2.2.8: decoded as a form's, encoded again; the name is given encoded."""
    try:
        pairs = parse_qsl(
            request.query, keep_blank_values=True, max_num_fields=QUERY_PARAMETERS_MAX
        )
    except ValueError:
        raise unsigned("missing-component", "the query has too many parameters") from None
    found = [quote(value, safe="") for key, value in pairs if quote(key, safe="") == name]
    if len(found) != 1:
        raise unsigned("missing-component", f"the query has {name} {len(found)} times, not once")
    return found[0]
