"""TOML of people's files: a document, or an error that names file and line; where a key stands.

Not here: what the keys may say (their own modules) and reading files. Pure.
"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

from chainlite.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable

FILE_BYTES_MAX = 65_536


def parse_document(data: bytes, file: str) -> tuple[dict[str, Any], str]:
    """The document of a file's bytes, and its text; SpecError names `file` and line."""
    if len(data) > FILE_BYTES_MAX:
        raise SpecError(f"{file}: {len(data)} bytes, at most {FILE_BYTES_MAX} are read")
    try:
        text = data.decode()
        return tomllib.loads(text), text
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise SpecError(f"{file}: line {line}: not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{file}: {_say_where(error)}") from None


def find_line(text: str, has: Callable[[dict[str, Any]], bool]) -> int:
    """The line, from 1, on which what `has` finds in a good document begins.

    The first whole lines that parse and have it end with its value; it begins after the last ones
    that parse without it.
    """
    lines = text.splitlines(keepends=True)
    begin = 0
    for end in range(1, len(lines) + 1):
        try:
            document = tomllib.loads("".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
        if has(document):
            break
        begin = end
    return begin + 1


def _say_where(error: tomllib.TOMLDecodeError) -> str:
    """tomllib's words with the line first, as in all other errors."""
    what, _, where = str(error).partition(" (at ")
    return f"{where.rstrip(')')}: {what}" if where else what
