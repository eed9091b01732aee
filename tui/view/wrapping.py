"""Text folded to a width, at blanks where there are any. Pure; the text is harmless already."""

from __future__ import annotations

from unicodedata import category, east_asian_width

LINES_MAX = 1000


def get_width(text: str) -> int:
    """How many cells a text takes: wide letters two, marks on a letter none, all others one."""
    if text.isascii():
        return len(text)
    return sum(_get_width(letter) for letter in text)


def _get_width(letter: str) -> int:
    if category(letter) in ("Mn", "Me"):
        return 0
    return 2 if east_asian_width(letter) in ("W", "F") else 1


def wrap(text: str, width: int) -> tuple[str, ...]:
    """Lines of at most `width` cells; a word that is wider is cut."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        joined = f"{line} {word}" if line else word
        if get_width(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        *full, line = _cut(word, width)
        lines += full
        if len(lines) >= LINES_MAX:
            break
    return (*lines[:LINES_MAX], line)


def _cut(word: str, width: int) -> list[str]:
    """A word in pieces of at most `width` cells, or of one letter where that is wider."""
    pieces, piece, used = [], "", 0
    for letter in word:
        needed = get_width(letter)
        if piece and used + needed > width:
            pieces.append(piece)
            piece, used = "", 0
        piece += letter
        used += needed
    return [*pieces, piece]
