"""Text of strangers made harmless: what is drawn is what it says, and no more. Pure.

A container's names, paths, logs and errors may hold escape sequences, marks that turn the line
round, invisible letters, lone surrogates, or megabytes. After this each letter is printable, has
no effect on its neighbours, and there are at most `limit` of them.
"""

from __future__ import annotations

from functools import lru_cache
from unicodedata import category

LIMIT_DEFAULT = 256
"""Of one piece of text: more than the widest cell, less than what slows a line down."""
MARKS_MAX = 2
"""Combining marks on one letter: two are Vietnamese, twenty cover the lines above."""
CACHED_MAX = 4096
CACHED_LENGTH_MAX = 256

_ESCAPED = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
_MARKS = frozenset(("Mn", "Me"))
_DELETE = 0x7F


def make_harmless(text: str, limit: int = LIMIT_DEFAULT) -> str:
    """Return text of at most `limit` letters that may be drawn; what was cut is told by its count.

    A control is drawn as its picture (escape: the sign for ESC), what has no picture as its number.
    """
    if len(text) <= CACHED_LENGTH_MAX:
        return _make_cached(text, limit)
    return _make(text, limit)


def _make(text: str, limit: int) -> str:
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text
    drawn, used, marks = [], 0, 0
    for letter in text[:limit]:
        marks = marks + 1 if category(letter) in _MARKS else 0
        shown = _escape(letter) if marks <= MARKS_MAX else ""
        if used + len(shown) > limit:
            break
        drawn.append(shown)
        used += len(shown)
    else:
        if len(text) <= limit:
            return "".join(drawn)
    return _cut(drawn, used, len(text), limit)


_make_cached = lru_cache(CACHED_MAX)(_make)


def _escape(letter: str) -> str:
    if letter.isascii():
        if letter.isprintable():
            return letter
        return chr(0x2421 if ord(letter) == _DELETE else 0x2400 + ord(letter))
    kind = category(letter)
    if kind in _ESCAPED:
        return f"\\u{ord(letter):04x}" if ord(letter) <= 0xFFFF else f"\\U{ord(letter):08x}"
    return " " if kind == "Zs" else letter


def _cut(drawn: list[str], used: int, length: int, limit: int) -> str:
    """Take letters off the end until a note of how many are missing fits."""
    while True:
        note = f"…(+{length - len(drawn):,})"
        if used + len(note) <= limit:
            return "".join(drawn) + note
        if not drawn:
            return note[:limit]
        used -= len(drawn.pop())


def make_line(parts: tuple[str, ...], limit: int = LIMIT_DEFAULT) -> str:
    """Several texts on one line, harmless, a space between two."""
    return make_harmless(" ".join(part[: limit + 1] for part in parts), limit)
