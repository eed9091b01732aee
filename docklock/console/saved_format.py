"""The file of a saved source: answers as JSON, each with the moment it was given. Pure.

Not here: who gives them again (saved.py), who records them (saving.py). Every fact is written by
its NamedTuple's field names; a field that is at its default may be left out, any other name is
refused, so a file says what it means or is not read. README.md has the format.
"""

from __future__ import annotations

import math
import types
import typing
from functools import cache
from typing import NamedTuple

from chainlite.errors import SpecError
from docklock.console import facts
from docklock.json_text import encode_json, parse_json

FORMAT = "docklock-console"
VERSION = 1
FILE_BYTES_MAX = 256 << 20
ANSWERS_MAX = 100_000
ITEMS_MAX = 200_000
"""Of one list: 10,000 containers twenty times over."""
INTEGER_MAX = 2**63

Decode = typing.Callable[[object], object]

CALLS: dict[str, tuple[object, tuple[type, ...]]] = {
    "overview": (facts.Overview, ()),
    "details": (facts.Details, (str,)),
    "log": (tuple[facts.LogLine, ...], (str,)),
    "feed": (facts.FeedPart, (str,)),
    "past": (tuple[facts.Event, ...], (str,)),
    "receipt": (facts.ReceiptFacts, (str, int, int)),
    "checked_receipt": (facts.ReceiptFacts, (str, int, int)),
    "verdicts": (tuple[facts.Verdict, ...], ()),
    "verify": (tuple[facts.Verdict, ...], (str,)),
    "denials": (tuple[facts.Denial, ...], (str,)),
    "proposal": (facts.Proposal, (str, str, str, str)),
    "chain": (facts.ChainFacts, ()),
    "sync": (facts.SyncFacts, ()),
    "alerts": (tuple[facts.Alert, ...], ()),
}
"""Each call, what it answers, and what it is asked with: a container, a receipt's run and index;
a denial's container, op, errno and rule."""


class Answer(NamedTuple):
    """What a source answered at a moment: `call` is one of CALLS, `of` what it was asked with."""

    call: str
    at_ns: int
    answer: typing.Any
    of: tuple[str | int, ...] = ()


class Saved(NamedTuple):
    """All of a file. The answers are in the order of their moments."""

    name: str
    answers: tuple[Answer, ...]
    note: str = ""


def encode_saved(name: str, answers: typing.Iterable[Answer], note: str = "") -> bytes:
    """The file of these answers, put in the order of their moments."""
    rows = [
        {"at_ns": at_ns, "call": call, "of": list(of), "answer": _encode(answer)}
        for call, at_ns, answer, of in sorted(answers, key=lambda each: each.at_ns)
    ]
    heads: dict[str, object] = {"format": FORMAT, "version": VERSION, "name": name, "note": note}
    lines = [encode_json(row) for row in rows]
    return "".join(
        (encode_json(heads)[:-1], ',"answers":[\n', ",\n".join(lines), "\n]}\n")
    ).encode()


def parse_saved(data: bytes, where: str) -> Saved:
    """What a file says. SpecError with the place if it is none, or says what no fact is."""
    if len(data) > FILE_BYTES_MAX:
        raise SpecError(f"{where}: {len(data)} bytes, more than {FILE_BYTES_MAX}")
    try:
        document = parse_json(data, object_pairs_hook=_make_object, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{where}: not a saved console: {error}") from None
    try:
        return _parse_document(document)
    except _WrongError as error:
        raise SpecError(f"{where}: {error}") from None


class _WrongError(Exception):
    """What is wrong; each list and object around it puts its part of the place before it."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
        self.place = ""

    def add(self, part: str) -> _WrongError:
        self.place = part + self.place
        return self

    def __str__(self) -> str:
        return f"{self.place.lstrip('.')}: {self.why}" if self.place else self.why


def _parse_document(document: object) -> Saved:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise _WrongError(f"not {FORMAT!r}").add(".format")
    if document.get("version") != VERSION:
        raise _WrongError(f"this program reads {VERSION}").add(".version")
    _check_names(document, {"format", "version", "name", "answers"}, {"note"})
    answers: list[Answer] = []
    place = ""
    try:
        place = ".answers"
        for row in _check_list(document["answers"], ANSWERS_MAX):
            place = f".answers[{len(answers)}]"
            answer = _parse_answer(row)
            if answers and answer.at_ns < answers[-1].at_ns:
                raise _WrongError("earlier than the answer before it").add(".at_ns")
            answers.append(answer)
    except _WrongError as error:
        raise error.add(place) from None
    name = _decode_field(document, "name", _decode_text)
    note = _decode_field(document, "note", _decode_text) if "note" in document else ""
    return Saved(name, tuple(answers), note)


def _parse_answer(row: object) -> Answer:
    if not isinstance(row, dict):
        raise _WrongError("not an object")
    _check_names(row, {"at_ns", "call", "answer"}, {"of"})
    call = row["call"]
    if not isinstance(call, str) or call not in CALLS:
        raise _WrongError(f"{call!r:.40} is none of {', '.join(CALLS)}").add(".call")
    kind, words = CALLS[call]
    of = row.get("of", [])
    if not isinstance(of, list) or [type(word) for word in of] != list(words):
        wanted = ", ".join(word.__name__ for word in words)
        raise _WrongError(f"{call} is asked with [{wanted}]").add(".of")
    at_ns = _decode_field(row, "at_ns", _decode_integer)
    return Answer(call, at_ns, _decode_field(row, "answer", _get_decode(kind)), tuple(of))


def _decode_field(value: dict[str, object], name: str, decode: Decode) -> typing.Any:
    try:
        return decode(value[name])
    except _WrongError as error:
        raise error.add(f".{name}") from None


def _encode(value: typing.Any) -> object:
    if isinstance(value, tuple):
        names: tuple[str, ...] | None = getattr(value, "_fields", None)
        if names is None:
            return [_encode(item) for item in value]
        defaults: dict[str, object] = getattr(value, "_field_defaults", {})
        return {
            name: _encode(item)
            for name, item in zip(names, value, strict=True)
            if name not in defaults or defaults[name] != item
        }
    if isinstance(value, float) and not math.isfinite(value):
        return facts.UNKNOWN  # JSON has no such number, and nobody knows it
    return value


@cache
def _get_decode(kind: object) -> Decode:
    """What reads a value of this type from JSON, and refuses every other with a _WrongError."""
    simple = _SIMPLE.get(kind)
    if simple is not None:
        return simple
    arguments = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        [inner] = [_get_decode(each) for each in arguments if each is not types.NoneType]
        return lambda value: None if value is None else inner(value)
    if typing.get_origin(kind) is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return _make_list(_get_decode(arguments[0]))
        return _make_fixed([_get_decode(each) for each in arguments])
    return _make_named(kind)


def _make_named(kind: typing.Any) -> Decode:
    decodes = {name: _get_decode(hint) for name, hint in typing.get_type_hints(kind).items()}
    optional = set(kind._field_defaults)
    required = set(kind._fields) - optional

    def decode_named(value: object) -> object:
        if not isinstance(value, dict):
            raise _WrongError(f"not an object ({kind.__name__})")
        if not (required <= value.keys() <= decodes.keys()):
            _check_names(value, required, optional)
        name = ""
        fields = {}
        try:
            for name, field in value.items():
                fields[name] = decodes[name](field)
        except _WrongError as error:
            raise error.add(f".{name}") from None
        return kind(**fields)

    return decode_named


def _make_list(decode: Decode) -> Decode:
    def decode_list(value: object) -> object:
        items = _check_list(value, ITEMS_MAX)
        return _decode_items(items, [decode] * len(items))

    return decode_list


def _make_fixed(decodes: list[Decode]) -> Decode:
    def decode_fixed(value: object) -> object:
        items = _check_list(value, ITEMS_MAX)
        if len(items) != len(decodes):
            raise _WrongError(f"{len(items)} items where {len(decodes)} belong")
        return _decode_items(items, decodes)

    return decode_fixed


def _decode_items(items: list[object], decodes: list[Decode]) -> tuple[object, ...]:
    values: list[object] = []
    try:
        for decode, item in zip(decodes, items, strict=True):
            values.append(decode(item))
    except _WrongError as error:
        raise error.add(f"[{len(values)}]") from None
    return tuple(values)


def _decode_text(value: object) -> object:
    if not isinstance(value, str):
        raise _WrongError("not a text")
    return value


def _decode_integer(value: object) -> object:
    if type(value) is not int or abs(value) >= INTEGER_MAX:
        raise _WrongError("not a whole number of 64 bits")
    return value


def _decode_float(value: object) -> object:
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) is int and abs(value) < INTEGER_MAX:
        return value
    raise _WrongError("not a number")


def _decode_bool(value: object) -> object:
    if not isinstance(value, bool):
        raise _WrongError("neither true nor false")
    return value


_SIMPLE: dict[object, Decode] = {
    str: _decode_text,
    int: _decode_integer,
    float: _decode_float,
    bool: _decode_bool,
}


def _check_list(value: object, most: int) -> list[object]:
    if not isinstance(value, list):
        raise _WrongError("not a list")
    if len(value) > most:
        raise _WrongError(f"{len(value)} items, more than {most}")
    return value


def _check_names(value: dict[str, object], required: set[str], optional: set[str]) -> None:
    for name in sorted(required - value.keys()):
        raise _WrongError("is missing").add(f".{name}")
    for name in sorted(value.keys() - required - optional):
        raise _WrongError("no such field").add(f".{name[:40]!r}")


def _make_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return value


def _refuse(word: str) -> object:
    raise ValueError(f"{word} is no number")
