"""witness.toml: which logs a witness cosigns, and its peers; errors that name line and key. Pure.

Not here: reading the file (cli/witness.py), what a setting does (main.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from chainlite import note
from chainlite.consensus.validators import VALIDATORS_MAX
from chainlite.errors import SpecError
from chainlite.quorum import Member
from chainlite.quorum_file import Wrong, is_url, locate, read_keys
from chainlite.toml_lines import parse_document

if TYPE_CHECKING:
    from chainlite.note import VerifierKey

FILE_DEFAULT = "/etc/docklock/witness.toml"
LISTEN_DEFAULT = "127.0.0.1:7380"
LOGS_MAX = 4096
LOG_KEYS_MAX = VALIDATORS_MAX
"""A chain's log has the keys of all its validators."""
PEERS_MAX = 32
SECONDS_MAX = 3600
KNOWN = ("listen", "gossip-seconds", "log", "peer")


class Log(NamedTuple):
    """A log whose checkpoints are cosigned: its keys, and where it serves its tiles ("" if not)."""

    keys: tuple[VerifierKey, ...]
    url: str = ""

    @property
    def origin(self) -> str:
        """The log's name, which is that of its keys."""
        return self.keys[0].name


class Settings(NamedTuple):
    """What the file may say."""

    listen: str = LISTEN_DEFAULT
    gossip_seconds: int = 30
    logs: tuple[Log, ...] = ()
    peers: tuple[Member, ...] = ()


def parse_settings(data: bytes, file: str) -> Settings:
    """The settings of a file's bytes; SpecError names `file`, line and key."""
    document, text = parse_document(data, file)
    section = "log"
    try:
        for key in document:
            if key not in KNOWN:
                raise Wrong(f"unknown key; known are {', '.join(KNOWN)}", key)
        logs = [_read_log(*one) for one in _get_tables(document, "log", LOGS_MAX)]
        _check_names([log.origin for log in logs])
        section = "peer"
        peers = [_read_peer(*one) for one in _get_tables(document, "peer", PEERS_MAX)]
        settings = Settings(
            _read_listen(document.get("listen", LISTEN_DEFAULT)),
            _read_seconds(document.get("gossip-seconds", 30)),
            tuple(logs),
            tuple(peers),
        )
        _check_names([peer.name for peer in peers])
    except Wrong as why:
        raise locate(why, document, text, file, section) from None
    return settings


def parse_log(text: str, where: str = "--log") -> VerifierKey:
    """A log's key: of type 1, or 6 beside it. SpecError."""
    key = note.parse_vkey(text, where)
    if key.kind == note.COSIGNED_ED25519:
        raise SpecError(f"{where}: a witness's key, not a log's (type 1, or 6 beside it)")
    return key


def add_logs(settings: Settings, texts: list[str]) -> Settings:
    """The settings with the logs of these keys; keys of one log go together. SpecError."""
    found: dict[str, Log] = {log.origin: log for log in settings.logs}
    for text in texts:
        key = parse_log(text)
        before = found.get(key.name, Log(()))
        found[key.name] = before._replace(keys=tuple(dict.fromkeys((*before.keys, key))))
    return settings._replace(logs=tuple(found.values()))


def split_listen(listen: str) -> tuple[str, int]:
    """Address and port of ADDRESS:PORT; SpecError if it is not that."""
    address, _, port = listen.rpartition(":")
    if not address or not port.isdigit() or not port.isascii() or int(port) > 65_535:
        raise SpecError("want ADDRESS:PORT")
    return address.removeprefix("[").removesuffix("]"), int(port)


def _get_tables(document: dict[str, Any], name: str, most: int) -> list[tuple[Any, int]]:
    tables = document.get(name, [])
    if not isinstance(tables, list) or len(tables) > most:
        raise Wrong(f"want at most {most} tables [[{name}]]", name)
    return [(table, index) for index, table in enumerate(tables)]


def _read_log(table: object, index: int) -> Log:
    table = _check_table(table, ("keys", "url"), "log", index)
    texts = table.get("keys")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not 1 <= len(texts) <= LOG_KEYS_MAX:
        raise Wrong(f"want 1 to {LOG_KEYS_MAX} keys", "keys", index)
    found = []
    for text in texts:
        try:
            found.append(parse_log(text if isinstance(text, str) else "", "key"))
        except SpecError as error:
            raise Wrong(str(error).removeprefix("key: "), "keys", index) from None
    if len({key.name for key in found}) != 1:
        raise Wrong("keys of two logs", "keys", index)
    return Log(tuple(found), _read_url(table.get("url", ""), index, is_needed=False))


def _read_peer(table: object, index: int) -> Member:
    table = _check_table(table, ("name", "keys", "url"), "peer", index)
    name = table.get("name")
    if not isinstance(name, str) or not note.is_name(name):
        raise Wrong("want the name of the witness's key", "name", index)
    keys = read_keys(table.get("keys"), name, index)
    return Member(name, "", _read_url(table.get("url"), index, is_needed=True), keys)


def _check_table(table: object, known: tuple[str, ...], section: str, index: int) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise Wrong(f"want a table [[{section}]]", section)
    for key in table:
        if key not in known:
            raise Wrong(f"unknown key; known are {', '.join(known)}", key, index)
    return table


def _read_url(url: object, index: int, *, is_needed: bool) -> str:
    if not isinstance(url, str) or ((is_needed or url) and not is_url(url)):
        raise Wrong("want http://HOST:PORT, or a path below it", "url", index)
    return url.rstrip("/")


def _read_listen(value: object) -> str:
    try:
        split_listen(value if isinstance(value, str) else "")
    except SpecError as error:
        raise Wrong(str(error), "listen") from None
    assert isinstance(value, str)
    return value


def _read_seconds(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= SECONDS_MAX:
        raise Wrong(f"want 1 to {SECONDS_MAX}", "gossip-seconds")
    return value


def _check_names(names: list[str]) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise Wrong(f"{name} is named twice", "keys", index)
