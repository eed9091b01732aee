"""Facts whose every text is hostile, and what must never reach a terminal of it."""

from __future__ import annotations

import re
import typing
from typing import Any
from unicodedata import category

from docklock.console import facts

MARKS = (
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x9b2J",
    "a\rb\nc\td\x08\x7f",
    "abc\u202edcb\u2066\u200f",
    "\ud800\udfff",
    "[red]markup[/red] [@click=app.bell]x[/]",
    "e" + "\u0301" * 200,
    "\u4e2d\u6587" * 50,
)
HUGE = "/" + "x" * 1_000_000
RAW = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def make_hostile(kind: type, number: int = 0, **known: Any) -> Any:
    """A fact of this class: each text hostile, each count a number, each tuple of two items."""
    hints = typing.get_type_hints(kind)
    return kind(**{name: _make(hint, number, name) for name, hint in hints.items()} | known)


def get_text(number: int) -> str:
    return HUGE if number % 11 == 10 else MARKS[number % len(MARKS)]


def _make(hint: Any, number: int, name: str) -> Any:
    origin = typing.get_origin(hint)
    if origin is tuple:
        kinds = typing.get_args(hint)
        if kinds[-1] is Ellipsis:
            return tuple(_make(kinds[0], number + step, name) for step in range(2))
        return tuple(_make(each, number + step, name) for step, each in enumerate(kinds))
    if hint is str:
        return get_text(number + sum(map(ord, name)))
    if hint is bool:
        return False
    if hint in (int, float):
        return hint(7)
    if isinstance(hint, type) and issubclass(hint, tuple):
        return make_hostile(hint, number + 1)
    return None  # bool | None


def find_raw(text: str) -> list[str]:
    """What in a text would steer a terminal, turn its line, or cannot be written."""
    found = RAW.findall(text)
    return found + [letter for letter in text if category(letter) in ("Cs", "Zl", "Zp")]


def iterate_kinds() -> list[type]:
    return [
        kind for kind in vars(facts).values() if isinstance(kind, type) and hasattr(kind, "_fields")
    ]
