"""/etc/docklock/agent.toml: its schema, and errors that name file, key and line. Pure.

Not here: reading the file (cli/agent.py), what a setting does (main.py), the tables of servers
(docklock.outbox.settings).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from chainlite.errors import SpecError
from chainlite.quorum_file import Wrong, locate
from chainlite.toml_lines import find_line, parse_document
from docklock.outbox.settings import SECTION as SERVER
from docklock.outbox.settings import read_servers

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.outbox.settings import Server

FILE_DEFAULT = "/etc/docklock/agent.toml"
POLICY_DEFAULT = "/etc/docklock/witnesses.toml"
SCAN_SECONDS_MAX = 3600
PATH_CHARS_MAX = 4096
LEVELS = ("error", "warning", "info", "debug")
ROLES = ("validator", "follower", "submitter")
"""A follower never votes; a submitter is a follower that submits this host's log."""


class Settings(NamedTuple):
    """What the file may say. An empty `socket` is agent.sock in the run directory.

    An empty `witnesses` is /etc/docklock/witnesses.toml, if it is there. `submit` is the directory
    of this host's node of a chain (`docklock chain init`): there the host's log is anchored and its
    bodies are offered; empty: nowhere. `chain_role` is the role of the node that the agent keeps,
    one of ROLES, empty for none; `chain_dir` is its directory, empty for `chain` in the state
    directory. `servers` are where evidence goes; `file` is what was read, which
    the caller knows.
    """

    socket: str = ""
    log_level: str = "info"
    scan_seconds: int = 30
    notary: bool = True
    witnesses: str = ""
    witness_seconds: int = 60
    submit: str = ""
    chain_role: str = ""
    chain_dir: str = ""
    servers: tuple[Server, ...] = ()
    file: str = ""


class _Wrong(Exception):
    """Why a value is refused."""


def _check_path(value: object) -> str:
    if not isinstance(value, str):
        raise _Wrong("expected a string")
    if not value.startswith("/") or "\0" in value or len(value) > PATH_CHARS_MAX:
        raise _Wrong("expected an absolute path")
    return value


def _check_level(value: object) -> str:
    return _check_word(value, LEVELS)


def _check_role(value: object) -> str:
    return _check_word(value, ROLES)


def _check_word(value: object, known: tuple[str, ...]) -> str:
    if not isinstance(value, str):
        raise _Wrong("expected a string")
    if value not in known:
        raise _Wrong(f"expected one of {', '.join(known)}")
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
    "socket": _check_path,
    "log-level": _check_level,
    "scan-seconds": _check_seconds,
    "notary": _check_switch,
    "witnesses": _check_path,
    "witness-seconds": _check_seconds,
    "submit": _check_path,
}
# the same of the table [chain]; the field has `chain_` before its key
CHAIN = "chain"
CHAIN_SCHEMA: dict[str, Callable[[object], object]] = {
    "role": _check_role,
    "dir": _check_path,
}


def parse_config(data: bytes, file: str) -> Settings:
    """The settings of a file's bytes; SpecError names `file`, line and key."""
    document, text = parse_document(data, file)
    found: dict[str, Any] = {}
    for key, value in document.items():
        if key == CHAIN:
            found |= _read_chain(value, text, file)
            continue
        try:
            if key == SERVER:
                found["servers"] = read_servers(value)
                continue
            if key not in SCHEMA:
                raise _Wrong(f"unknown key; known are {', '.join((*SCHEMA, CHAIN, SERVER))}")
            found[key.replace("-", "_")] = SCHEMA[key](value)
        except Wrong as why:
            raise locate(why, document, text, file, SERVER) from None
        except _Wrong as why:
            raise SpecError(f"{file}: line {_find_key(text, key)}: {key}: {why}") from None
    return Settings(**found)


def _read_chain(table: object, text: str, file: str) -> dict[str, object]:
    """The fields of the table [chain]."""
    found: dict[str, object] = {}
    key = ""
    try:
        if not isinstance(table, dict):
            raise _Wrong("expected a table [chain]")
        for key, value in table.items():
            if key not in CHAIN_SCHEMA:
                raise _Wrong(f"unknown key; known are {', '.join(CHAIN_SCHEMA)}")
            found[f"{CHAIN}_{key}"] = CHAIN_SCHEMA[key](value)
        key = ""
        if "role" not in table:
            raise _Wrong(f"expected a role: one of {', '.join(ROLES)}")
    except _Wrong as why:
        name = f"{CHAIN}.{key}" if key else CHAIN
        raise SpecError(f"{file}: line {_find_chain_key(text, key)}: {name}: {why}") from None
    return found


def _find_key(text: str, key: str) -> int:
    return find_line(text, lambda document: key in document)


def _find_chain_key(text: str, key: str) -> int:
    def has(document: dict[str, Any]) -> bool:
        return CHAIN in document and (not key or key in document[CHAIN])

    return find_line(text, has)
