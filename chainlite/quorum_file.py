"""witnesses.toml: whom a host asks and a verifier believes; errors that name line and key. Pure.

Not here: reading the file, what a quorum means (quorum).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chainlite import note, quorum
from chainlite.cosignature import parse_witness
from chainlite.errors import SpecError
from chainlite.toml_lines import find_line, parse_document

if TYPE_CHECKING:
    from collections.abc import Callable

    from chainlite.note import VerifierKey
    from chainlite.quorum import Member, Quorum

WITNESSES_MAX = 32
KEYS_MAX = 2
URL_CHARS_MAX = 2048
TOP_KEYS = ("operator", "need", "bad", "witness")
WITNESS_KEYS = ("name", "operator", "url", "keys")


class Wrong(Exception):
    """Why a value is refused, and where it is: a key of the file, or of the witness at `index`."""

    def __init__(self, why: str, key: str, index: int = -1) -> None:
        super().__init__(why)
        self.key, self.index = key, index


def parse_quorum(data: bytes, file: str) -> Quorum:
    """The quorum of a file's bytes; SpecError names `file`, line and key."""
    document, text = parse_document(data, file)
    try:
        return _read(document)
    except Wrong as why:
        raise locate(why, document, text, file, "witness") from None


def _read(document: dict[str, Any]) -> Quorum:
    for key in document:
        if key not in TOP_KEYS:
            raise Wrong(f"unknown key; known are {', '.join(TOP_KEYS)}", key)
    tables = document.get("witness", [])
    if not isinstance(tables, list) or len(tables) > WITNESSES_MAX:
        raise Wrong(f"want at most {WITNESSES_MAX} tables [[witness]]", "witness")
    found = quorum.Quorum(
        _read_name(document.get("operator"), "operator", -1),
        _read_count(document.get("need"), "need"),
        _read_count(document.get("bad", 0), "bad"),
        tuple([_read_member(table, index) for index, table in enumerate(tables)]),
    )
    try:
        quorum.check_quorum(found)
    except SpecError as error:
        key, _, why = str(error).partition(": ")
        raise Wrong(why, key) from None
    return found


def _read_member(table: object, index: int) -> Member:
    if not isinstance(table, dict):
        raise Wrong("want a table [[witness]]", "witness")
    for key in table:
        if key not in WITNESS_KEYS:
            raise Wrong(f"unknown key; known are {', '.join(WITNESS_KEYS)}", key, index)
    name = table.get("name")
    if not isinstance(name, str) or not note.is_name(name):
        raise Wrong("want the name of the witness's key", "name", index)
    operator = _read_name(table.get("operator"), "operator", index)
    url = table.get("url", "")
    if not isinstance(url, str) or len(url) > URL_CHARS_MAX or (url and not is_url(url)):
        raise Wrong("want http://HOST:PORT, or a path below it", "url", index)
    return quorum.Member(name, operator, url.rstrip("/"), read_keys(table.get("keys"), name, index))


def is_url(url: str) -> bool:
    """Whether it is plain HTTP to a host, without a user, a query or a fragment."""
    rest = url.removeprefix("http://")
    host = rest.partition("/")[0]
    return (
        rest != url
        and url.isascii()
        and url.isprintable()
        and bool(host)
        and not set(rest) & set("@?# \\")
    )


def read_keys(value: object, name: str, index: int) -> tuple[VerifierKey, ...]:
    """A witness's key, or one of each type, as a file writes them; Wrong if they are not."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not 1 <= len(texts) <= KEYS_MAX:
        raise Wrong("want one key, or one of each type", "keys", index)
    found: list[VerifierKey] = []
    for text in texts:
        if not isinstance(text, str):
            raise Wrong("want texts NAME+ID+BASE64", "keys", index)
        try:
            found.append(parse_witness(text, "key"))
        except SpecError as error:
            raise Wrong(str(error).removeprefix("key: "), "keys", index) from None
        if found[-1].name != name:
            raise Wrong(f"is of {found[-1].name}, not of {name}", "keys", index)
    if len({key.kind for key in found}) != len(found):
        raise Wrong("two keys of one type", "keys", index)
    return tuple(found)


def _read_name(value: object, key: str, index: int) -> str:
    if not isinstance(value, str) or not note.is_name(value):
        raise Wrong(f"want a name of 1 to {note.NAME_LIMIT} characters, no spaces", key, index)
    return value


def _read_count(value: object, key: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= WITNESSES_MAX:
        raise Wrong(f"want a number from 0 to {WITNESSES_MAX}", key)
    return value


def locate(why: Wrong, whole: dict[str, Any], text: str, file: str, section: str) -> SpecError:
    """The error that names file, line and key; tables of keys are `[[section]]`."""
    line = find_line(text, _make_search(whole, why, section))
    return SpecError(f"{file}: line {line}: {why.key}: {why}")


def _make_search(
    whole: dict[str, Any], why: Wrong, section: str
) -> Callable[[dict[str, Any]], bool]:
    """What finds the key; if it is missing, its table, or the first line."""
    key, index = why.key, why.index
    if index < 0:
        return lambda document: key in document or key not in whole
    wanted = key if key in whole[section][index] else ""

    def has(document: dict[str, Any]) -> bool:
        tables = document.get(section, [])
        return len(tables) > index and (not wanted or wanted in tables[index])

    return has
