"""A typed cursor over a parsed JSON document that knows its place in it.

`config.json: process.args[0]: expected a string, got 3` is what a caller reads when a document is
wrong. Not here: what a particular document means (docklock.spec, docklock.image).

Invariants: a document has no duplicate key, no NaN or Infinity and is UTF-8 (RFC 8259, sections 4,
6 and 8.1); null means absent, as Go's encoding/json reads it; every string is one the kernel can
take: no NUL byte, no lone surrogate. Pure: no I/O.
"""

from __future__ import annotations

from chainlite.errors import SpecError
from docklock.json_text import encode_json, parse_json

SIZE_MAX_BYTES = 16 * 1024 * 1024
SHOWN_MAX_CHARS = 60
INT_DIGITS_MAX = 40

# An index signature that mypy --strict accepts without `Any` spreading into the callers.
Json = object


class Cursor:
    """One value of a document and where it stands."""

    __slots__ = ("document", "path", "value")

    def __init__(self, value: Json, document: str, path: str = "") -> None:
        self.value = value
        self.document = document
        self.path = path

    @property
    def place(self) -> str:
        return f"{self.document}: {self.path}" if self.path else self.document

    @property
    def exists(self) -> bool:
        """False for a key that is not there and for null."""
        return self.value is not None

    def error(self, text: str) -> SpecError:
        """The SpecError to raise for this value; the place is put before `text`."""
        return SpecError(f"{self.place}: {text}")

    def get(self, key: str) -> Cursor:
        """The member `key`; a cursor that does not exist when it, or this object, is absent."""
        path = f"{self.path}.{key}" if self.path else key
        value = self.value
        if value is None:
            return Cursor(None, self.document, path)
        if not isinstance(value, dict):
            raise self._wrong("an object")
        return Cursor(value.get(key), self.document, path)

    def required(self, key: str) -> Cursor:
        """The member `key`, which has to be there."""
        found = self.get(key)
        if not found.exists:
            raise found.error("missing")
        return found

    def as_str(self, default: str | None = None) -> str:
        value = self._default(default)
        if not isinstance(value, str):
            raise self._wrong("a string")
        if "\0" in value:
            raise self.error("a NUL byte cannot be part of this string")
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise self.error("a lone surrogate cannot be part of this string")
        return value

    def as_int(self, low: int, high: int, default: int | None = None) -> int:
        """An integer in low..high, both inclusive. A float, even 1.0, is refused."""
        value = self._default(default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong("an integer")
        if not low <= value <= high:
            raise self.error(f"expected an integer in {low}..{high}, got {value}")
        return value

    def as_bool(self, *, default: bool | None = None) -> bool:
        value = self._default(default)
        if not isinstance(value, bool):
            raise self._wrong("true or false")
        return value

    def as_list(self) -> tuple[Cursor, ...]:
        """The elements; none when the list is absent."""
        value = self._default([])
        if not isinstance(value, list):
            raise self._wrong("a list")
        return tuple(
            Cursor(item, self.document, f"{self.path}[{index}]") for index, item in enumerate(value)
        )

    def as_map(self) -> dict[str, Cursor]:
        """The members in the document's order; none when the object is absent."""
        value = self._default({})
        if not isinstance(value, dict):
            raise self._wrong("an object")
        return {key: self.get(key) for key in value}

    def as_strings(self) -> tuple[str, ...]:
        return tuple(item.as_str() for item in self.as_list())

    def as_string_map(self) -> dict[str, str]:
        return {key: item.as_str() for key, item in self.as_map().items()}

    def as_choice(self, choices: tuple[str, ...], default: str | None = None) -> str:
        """A string that is one of `choices`."""
        value = self.as_str(default)
        if value not in choices:
            raise self.error(f"expected one of {', '.join(choices)}; got {_show(value)}")
        return value

    def _default(self, default: Json) -> Json:
        if self.value is None:
            if default is None:
                raise self.error("missing")
            return default
        return self.value

    def _wrong(self, expected: str) -> SpecError:
        return self.error(f"expected {expected}, got {_show(self.value)}")


def parse_document(data: bytes, document: str) -> Cursor:
    """The root of a JSON document; `document` names it in every error (a path or a digest)."""
    if len(data) > SIZE_MAX_BYTES:
        raise SpecError(f"{document}: {len(data)} bytes, at most {SIZE_MAX_BYTES} are read")
    try:
        value: Json = parse_json(
            data.decode("utf-8"),
            object_pairs_hook=_check_pairs,
            parse_constant=_refuse_constant,
            parse_int=_parse_int,
        )
    except UnicodeDecodeError as error:
        raise SpecError(f"{document}: byte {error.start}: not UTF-8") from None
    except ValueError as error:
        raise SpecError(f"{document}: {_locate(error)}") from None
    except RecursionError:
        raise SpecError(f"{document}: nested too deeply") from None
    except _RefusedError as error:
        raise SpecError(f"{document}: {error}") from None
    return Cursor(value, document)


def encode_document(value: Json) -> bytes:
    """Canonical JSON: keys sorted, no spaces, ASCII; the same value gives the same bytes."""
    return encode_json(value, sort_keys=True).encode()


def _locate(error: ValueError) -> str:
    """Where the text stops being JSON, and why."""
    from json import JSONDecodeError

    if not isinstance(error, JSONDecodeError):
        raise error
    return f"line {error.lineno} column {error.colno}: not JSON: {error.msg}"


class _RefusedError(Exception):
    """JSON that a parser takes and we do not."""


def _check_pairs(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _RefusedError(f"the key {_show(key)} stands twice in one object")
            seen.add(key)
    return found


def _refuse_constant(name: str) -> Json:
    raise _RefusedError(f"{name} is not JSON")


def _parse_int(text: str) -> int:
    # CPython's int() is quadratic and raises ValueError past 4,300 digits.
    if len(text) > INT_DIGITS_MAX:
        raise _RefusedError(f"an integer of {len(text)} digits, at most {INT_DIGITS_MAX} are read")
    return int(text)


def _show(value: Json) -> str:
    """A value as JSON would write it, shortened for an error message."""
    import json

    text = json.dumps(value)
    return text if len(text) <= SHOWN_MAX_CHARS else text[: SHOWN_MAX_CHARS - 3] + "..."
