"""JSON text as the module json reads and writes it, without what that imports (re and enum, 6 ms).

The scanner and encoder are json's own, written in C. What they do not take at once, json itself
gets: so errors and odd input (a byte order mark, UTF-16) are its, and a Python without them works.
Not here: what a document may hold (docklock.document).
Source: CPython, Lib/json/decoder.py and encoder.py; tests/docklock/test_json_text.py compares.
"""

from __future__ import annotations

from chainlite.lean import TYPE_CHECKING

try:
    from _json import encode_basestring_ascii, make_encoder, make_scanner
except ImportError:
    make_encoder = make_scanner = None  # type: ignore[misc, assignment]

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SPACE = " \t\n\r"
_CONSTANTS = {"-Infinity": float("-inf"), "Infinity": float("inf"), "NaN": float("nan")}


class _Rules:
    """What the scanner asks its owner for."""

    strict = True
    object_hook = None
    parse_float = float

    def __init__(
        self,
        object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None,
        parse_constant: Callable[[str], Any] | None,
        parse_int: Callable[[str], Any] | None,
    ) -> None:
        self.object_pairs_hook = object_pairs_hook
        self.parse_constant = parse_constant or _CONSTANTS.__getitem__
        self.parse_int = parse_int or int


_usual: list[Any] = []
"""The scanner without rules of anybody's, once one was made."""


def parse_json(
    data: str | bytes,
    *,
    object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
    parse_constant: Callable[[str], Any] | None = None,
    parse_int: Callable[[str], Any] | None = None,
) -> Any:
    """As json.loads."""
    try:
        text = data if isinstance(data, str) else data.decode()
        has_rules = object_pairs_hook or parse_constant or parse_int
        if has_rules or not _usual:
            rules = _Rules(object_pairs_hook, parse_constant, parse_int)
            scan = make_scanner(rules)  # type: ignore[arg-type]
            if not has_rules:
                _usual.append(scan)
        else:
            scan = _usual[0]
        value, end = scan(text, len(text) - len(text.lstrip(_SPACE)))
        if not text[end:].strip(_SPACE):
            return value
    except (StopIteration, SystemError, TypeError, ValueError):
        pass  # json below says what is wrong; the scanner alone has no words for it
    import json

    return json.loads(
        data,
        object_pairs_hook=object_pairs_hook,
        parse_constant=parse_constant,
        parse_int=parse_int,
    )


def encode_json(value: object, *, sort_keys: bool = False, is_spaced: bool = False) -> str:
    """As json.dumps with the shortest separators, or with its usual ones; refuses NaN."""
    separators = (", ", ": ") if is_spaced else (",", ":")
    if make_encoder is None:
        import json

        return json.dumps(value, sort_keys=sort_keys, separators=separators, allow_nan=False)
    item, key = separators
    encode = make_encoder(
        {}, _refuse, encode_basestring_ascii, None, key, item, sort_keys, False, False
    )
    return "".join(encode(value, 0))


def _refuse(value: object) -> Any:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
