"""/etc/docklock/agent.toml: its schema, and errors that name file, key and line. Pure.

Not here: reading the file (cli/agent.py), what a setting does (main.py).
"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any, NamedTuple

from chainlite.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable

FILE_DEFAULT = "/etc/docklock/agent.toml"
FILE_BYTES_MAX = 65_536
SCAN_SECONDS_MAX = 3600
SOCKET_CHARS_MAX = 4096
LEVELS = ("error", "warning", "info", "debug")


class Settings(NamedTuple):
    """What the file may say. An empty `socket` is agent.sock in the run directory."""

    socket: str = ""
    log_level: str = "info"
    scan_seconds: int = 30
    notary: bool = True


class _Wrong(Exception):
    """Why a value is refused."""


def _check_socket(value: object) -> str:
    if not isinstance(value, str):
        raise _Wrong("expected a string")
    if not value.startswith("/") or "\0" in value or len(value) > SOCKET_CHARS_MAX:
        raise _Wrong("expected an absolute path")
    return value


def _check_level(value: object) -> str:
    if not isinstance(value, str):
        raise _Wrong("expected a string")
    if value not in LEVELS:
        raise _Wrong(f"expected one of {', '.join(LEVELS)}")
    return value


def _check_seconds(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Wrong("expected an integer")
    if not 1 <= value <= SCAN_SECONDS_MAX:
        raise _Wrong(f"expected 1 to {SCAN_SECONDS_MAX}")
    return value


def _check_switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("expected true or false")
    return value


# key of the file -> how its value is checked; the field is the key with underscores
SCHEMA: dict[str, Callable[[object], object]] = {
    "socket": _check_socket,
    "log-level": _check_level,
    "scan-seconds": _check_seconds,
    "notary": _check_switch,
}


def parse_config(data: bytes, file: str) -> Settings:
    """The settings of a file's bytes; SpecError names `file`, line and key."""
    if len(data) > FILE_BYTES_MAX:
        raise SpecError(f"{file}: {len(data)} bytes, at most {FILE_BYTES_MAX} are read")
    try:
        text = data.decode()
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise SpecError(f"{file}: line {line}: not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{file}: {_say_where(error)}") from None
    found: dict[str, Any] = {}
    for key, value in document.items():
        try:
            if key not in SCHEMA:
                raise _Wrong(f"unknown key; known are {', '.join(SCHEMA)}")
            found[key.replace("-", "_")] = SCHEMA[key](value)
        except _Wrong as why:
            raise SpecError(f"{file}: line {find_line(text, key)}: {key}: {why}") from None
    return Settings(**found)


def find_line(text: str, key: str) -> int:
    """The line, from 1, on which the top-level `key` of a good document begins.

    The first whole lines that parse and have the key end with its value; it begins after the last
    ones that parse without it.
    """
    lines = text.splitlines(keepends=True)
    begin = 0
    for end in range(1, len(lines) + 1):
        try:
            document = tomllib.loads("".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
        if key in document:
            break
        begin = end
    return begin + 1


def _say_where(error: tomllib.TOMLDecodeError) -> str:
    """tomllib's words with the line first, as in all other errors."""
    what, _, where = str(error).partition(" (at ")
    return f"{where.rstrip(')')}: {what}" if where else what
