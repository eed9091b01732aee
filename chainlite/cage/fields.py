"""Structured fields, as far as message signatures need them: dictionaries of inner lists and items.

Read strictly: only the one form that a serialiser writes, so that the text of a member is its
serialisation and nothing is written again. Not here: what a signature means (signature). Refused:
decimals, dates, display strings, `;name=?1`, spaces that a serialiser does not write, names twice.
Source: RFC 9651 sections 3 and 4; RFC 9421 section 2.1.2 on members by key.
"""

from __future__ import annotations

import binascii
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from chainlite.cage.refusal import refuse_field

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

TEXT_MAX = 8192
MEMBERS_MAX = 8
PARAMETERS_MAX = 8
ITEMS_MAX = 48
CACHED_LISTS = 256
CACHED_FIELDS = 64

Value = int | str | bytes | bool
"""A token is read as a string: no parameter of ours can be one."""

_KEY = r"[a-z*][a-z0-9_.*-]*"
_STRING = r'"(?:[ !#-\[\]-~]|\\["\\])*"'
_TOKEN = r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*"
_BARE = rf"(?:{_STRING}|:[A-Za-z0-9+/]*={{0,2}}:|\?[01]|(?:0|-?[1-9][0-9]{{0,14}})|{_TOKEN})"
_PARAMETERS = rf"(?:;{_KEY}(?:={_BARE})?)*"
_INNER = rf"\((?:{_BARE}{_PARAMETERS}(?: {_BARE}{_PARAMETERS})*)?\)"
_MEMBER = re.compile(
    rf"({_KEY})(?:=(?:({_INNER})|({_BARE})))?({_PARAMETERS})(?:[ \t]*,[ \t]*(?=[^ \t,])|\Z)"
)
_PARAMETER = re.compile(rf";({_KEY})(?:=({_BARE}))?")
_LIST = re.compile(_INNER)
_ITEM = re.compile(rf"({_BARE})({_PARAMETERS})")


class Member(NamedTuple):
    """One member of a dictionary: an inner list or a bare item, and its parameters, as texts."""

    inner: str
    bare: str
    parameters: str

    @property
    def text(self) -> str:
        """Its serialisation, without its key."""
        return (self.inner or self.bare) + self.parameters


class Item(NamedTuple):
    """An item of an inner list; `text` is its serialisation with its parameters."""

    value: Value
    parameters: tuple[tuple[str, Value], ...]
    text: str


def refuse(what: str, why: str) -> NoReturn:
    """The field is malformed."""
    raise refuse_field(f"{what}: {why}")


@lru_cache(maxsize=CACHED_FIELDS)
def parse_dictionary(text: str, what: str) -> Mapping[str, Member]:
    """The members by key; Refusal where the text is not the serialisation of a dictionary.

    A request's signature is read twice: when it is verified, and when its answer covers it.
    """
    if len(text) > TEXT_MAX:
        refuse(what, f"longer than {TEXT_MAX} bytes")
    members: dict[str, Member] = {}
    at = 0
    while at < len(text):
        found = _MEMBER.match(text, at)
        if found is None:
            refuse(what, f"not a dictionary as RFC 9651 serialises it (byte {at})")
        key, inner, bare, parameters = found.groups()
        if key in members:
            refuse(what, f"{key} is there twice")
        if bare == "?1":
            refuse(what, f"{key}: true is written without a value")
        if len(members) == MEMBERS_MAX:
            refuse(what, f"more than {MEMBERS_MAX} members")
        members[key] = Member(inner or "", bare or ("" if inner else "?1"), parameters)
        at = found.end()
    return members


def parse_parameters(text: str, what: str) -> dict[str, Value]:
    """Parameters by name, in their order."""
    values: dict[str, Value] = {}
    for name, bare in _PARAMETER.findall(text):
        if name in values:
            refuse(what, f"parameter {name} is there twice")
        if bare == "?1":
            refuse(what, f"parameter {name}: true is written without a value")
        values[name] = parse_value(bare, what) if bare else True
    if len(values) > PARAMETERS_MAX:
        refuse(what, f"more than {PARAMETERS_MAX} parameters")
    return values


def parse_value(text: str, what: str) -> Value:
    """A bare item, which `parse_dictionary` has matched."""
    first = text[0]
    if first == '"':
        return text[1:-1].replace('\\"', '"').replace("\\\\", "\\") if "\\" in text else text[1:-1]
    if first == ":":
        return parse_bytes(text, what)
    if first == "?":
        return text == "?1"
    return int(text) if first in "-0123456789" else text


def parse_bytes(text: str, what: str) -> bytes:
    """A byte sequence, of base64 in its one canonical form."""
    if len(text) < 2 or text[0] != ":" or text[-1] != ":":
        refuse(what, "not a byte sequence")
    try:
        value = binascii.a2b_base64(text[1:-1], strict_mode=True)
    except (binascii.Error, ValueError):
        refuse(what, "not base64")
    if encode_bytes(value) != text:
        refuse(what, "base64 that is not canonical")
    return value


@lru_cache(maxsize=CACHED_LISTS)
def parse_inner_list(text: str, what: str) -> tuple[Item, ...]:
    """The items of an inner list, `(...)`; Refusal where it is none."""
    items = []
    if len(text) > TEXT_MAX or not _LIST.fullmatch(text):
        refuse(what, "not an inner list")
    for bare, parameters in _ITEM.findall(text, 1, len(text) - 1):
        values = tuple(parse_parameters(parameters, what).items())
        items.append(Item(parse_value(bare, what), values, bare + parameters))
    if len(items) > ITEMS_MAX:
        refuse(what, f"more than {ITEMS_MAX} items")
    return tuple(items)


def encode_bytes(value: bytes) -> str:
    """A byte sequence."""
    return f":{binascii.b2a_base64(value, newline=False).decode()}:"


def encode_string(value: str) -> str:
    """A string; `value` is printable ASCII."""
    assert value.isascii() and value.isprintable()
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
