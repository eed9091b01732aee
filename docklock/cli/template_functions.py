"""What a --format template can call: Go's own functions, and Docker's.

Not here: `and` and `or`, which stop early (template). Values are those of JSON: None, bool, int,
float, str, list, dict. Pure. Each raises ValueError with the reason for what it does not take.
Source: pkg.go.dev/text/template, "Functions"; docker/cli, templates/templates.go.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

NO_VALUE = "<no value>"
WIDTH_MAX = 1000
_VERB = re.compile(r"%([-+# 0]*)(\d*)((?:\.\d*)?)([a-zA-Z%])")

Functions = Mapping[str, Callable[..., object]]


def show(value: object) -> str:
    """A value as Go's templates write it: true, [a b], map[key:value]."""
    if value is None:
        return NO_VALUE
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{' '.join(map(show, value))}]"
    if isinstance(value, dict):
        pairs = (f"{key}:{show(value[key])}" for key in sorted(value))
        return f"map[{' '.join(pairs)}]"
    return str(value)


def is_true(value: object) -> bool:
    """Go's truth: what is empty or zero is false."""
    return bool(value)


def to_json(value: object) -> str:
    """Docker's: no spaces, nothing escaped that need not be."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _index(value: object, *keys: object) -> object:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(_text(key), "")
            continue
        if not isinstance(value, list | str):
            raise ValueError(f"cannot index {_name(value)}")
        if type(key) is not int or not 0 <= key < len(value):
            raise ValueError(f"index {show(key)} is out of range: there are {len(value)}")
        value = ord(value[key]) if isinstance(value, str) else value[key]
    return value


def _slice(value: object, *bounds: object) -> object:
    if not isinstance(value, list | str):
        raise ValueError(f"cannot slice {_name(value)}")
    low, high = (*bounds, *(0, len(value))[len(bounds) :])[:2]
    if type(low) is not int or type(high) is not int or not 0 <= low <= high <= len(value):
        raise ValueError(f"slice bounds are out of range: there are {len(value)}")
    return value[low:high]


def _len(value: object) -> int:
    if not isinstance(value, list | dict | str):
        raise ValueError(f"{_name(value)} has no length")
    return len(value.encode()) if isinstance(value, str) else len(value)


def _name(value: object) -> str:
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a text",
        dict: "a map",
    }
    return "nothing" if value is None else names.get(type(value), "a list")


def _equal(first: object, *others: object) -> bool:
    if not others:
        raise ValueError("eq needs something to compare with")
    return any(type(first) is type(other) and first == other for other in others)


def _compare(first: object, second: object) -> int:
    numbers = all(isinstance(one, int | float) and type(one) is not bool for one in (first, second))
    texts = isinstance(first, str) and isinstance(second, str)
    if not (numbers or texts):
        raise ValueError(f"cannot compare {_name(first)} with {_name(second)}")
    return int(first > second) - int(first < second)  # type: ignore[operator]


def _print(*values: object) -> str:
    """Go's Sprint: a space between two values of which none is a text."""
    text = ""
    for at, value in enumerate(values):
        is_apart = at and not isinstance(value, str) and not isinstance(values[at - 1], str)
        text += (" " if is_apart else "") + show(value)
    return text


def _println(*values: object) -> str:
    return " ".join(map(show, values)) + "\n"


def _printf(form: object, *values: object) -> str:
    left = list(values)

    def replace(found: re.Match[str]) -> str:
        flags, width, precision, verb = found.groups()
        if verb == "%":
            return "%"
        if not left:
            raise ValueError(f"printf: no value for %{verb}")
        if int(width or "0") > WIDTH_MAX:
            raise ValueError(f"printf: a width of at most {WIDTH_MAX}")
        return _format_verb(flags, width, precision, verb, left.pop(0))

    text = _VERB.sub(replace, _text(form))
    if left:
        raise ValueError(f"printf: {len(left)} values too many")
    return text


def _format_verb(flags: str, width: str, precision: str, verb: str, value: object) -> str:
    if verb in "dxXofeEgG" and isinstance(value, int | float) and type(value) is not bool:
        return f"%{flags}{width}{precision}{verb}" % value
    if verb in "vst" or (verb in "xX" and isinstance(value, str)):
        text = show(value)
        text = text.encode().hex() if verb in "xX" else text
        return f"%{flags.replace('0', '')}{width}{precision}s" % text
    if verb == "q" and isinstance(value, str):
        return f"%{flags.replace('0', '')}{width}s" % to_json(value)
    raise ValueError(f"printf: %{verb} does not take {_name(value)}")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a text, got {_name(value)}")
    return value


def _join(values: object, separator: object = "") -> str:
    if not isinstance(values, list):
        raise ValueError(f"join takes a list, not {_name(values)}")
    return _text(separator).join(map(show, values))


def _split(text: object, separator: object) -> list[str]:
    return _text(text).split(_text(separator)) if separator else list(_text(text))


def _title(text: object) -> str:
    return re.sub(r"(?<!\w)\w", lambda found: found.group().upper(), _text(text))


def _truncate(text: object, size: object) -> str:
    if type(size) is not int or size < 0:
        raise ValueError("truncate takes a number of characters")
    return _text(text)[:size]


def _pad(text: object, before: object, after: object) -> str:
    if not _text(text):
        return ""
    sizes = [size for size in (before, after) if type(size) is int and 0 <= size <= WIDTH_MAX]
    if len(sizes) != 2:
        raise ValueError(f"pad takes two numbers of at most {WIDTH_MAX}")
    return " " * sizes[0] + _text(text) + " " * sizes[1]


FUNCTIONS: Functions = MappingProxyType(
    {
        "eq": _equal,
        "ge": lambda first, second: _compare(first, second) >= 0,
        "gt": lambda first, second: _compare(first, second) > 0,
        "index": _index,
        "join": _join,
        "json": to_json,
        "le": lambda first, second: _compare(first, second) <= 0,
        "len": _len,
        "lower": lambda text: _text(text).lower(),
        "lt": lambda first, second: _compare(first, second) < 0,
        "ne": lambda first, second: not _equal(first, second),
        "not": lambda value: not is_true(value),
        "pad": _pad,
        "print": _print,
        "printf": _printf,
        "println": _println,
        "slice": _slice,
        "split": _split,
        "title": _title,
        "truncate": _truncate,
        "upper": lambda text: _text(text).upper(),
    }
)
# For a table's first line, whose values are the columns' heads: these leave them as they are.
HEAD_FUNCTIONS: Functions = MappingProxyType(
    dict(FUNCTIONS)
    | {
        name: lambda value, *_: value
        for name in ("join", "json", "lower", "split", "title", "truncate", "upper")
    }
)
