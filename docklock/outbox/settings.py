"""The tables [[server]] of agent.toml: where this host's evidence goes. Pure.

Not here: the file's other keys (docklock.agent.config), reading tokens and certificates (door).
Invariants: a server is known by its log's key, never by its address; evidence with its values, and
a token, go over TLS or stay on this machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from chainlite import note
from chainlite.errors import SpecError
from chainlite.quorum_file import URL_CHARS_MAX, Wrong, is_url

if TYPE_CHECKING:
    from chainlite.note import VerifierKey

SECTION = "server"
SERVERS_MAX = 16
KEYS_MAX = 2
NAME_CHARS_MAX = 64
PATH_CHARS_MAX = 4096
KNOWN = ("name", "url", "keys", "token-file", "ca-file")
_TLS, _PLAIN = "https://", "http://"
_HERE = ("127.0.0.1", "[::1]", "localhost")


class Server(NamedTuple):
    """One server. `keys` are its log's: the Ed25519 one first, perhaps an ML-DSA one beside it.

    `name` is for people. An empty `token_file` is no token; an empty `ca_file` leaves to the
    system whose certificates are believed.
    """

    name: str
    url: str
    keys: tuple[VerifierKey, ...]
    token_file: str = ""
    ca_file: str = ""

    @property
    def origin(self) -> str:
        """The name of its log: what it is known by here, whatever it is called."""
        return self.keys[0].name


def read_servers(tables: object) -> tuple[Server, ...]:
    """The servers of a document's tables; Wrong says which key of which."""
    if not isinstance(tables, list) or len(tables) > SERVERS_MAX:
        raise Wrong(f"want at most {SERVERS_MAX} tables [[{SECTION}]]", SECTION)
    found: list[Server] = []
    for index, table in enumerate(tables):
        one = _read_server(table, index)
        if any(one.origin == other.origin for other in found):
            raise Wrong(f"{one.origin} is named twice", "keys", index)
        if any(one.name == other.name for other in found):
            raise Wrong(f"two servers called {one.name}", "name", index)
        found.append(one)
    return tuple(found)


def _read_server(table: object, index: int) -> Server:
    if not isinstance(table, dict):
        raise Wrong(f"want a table [[{SECTION}]]", SECTION)
    for key in table:
        if key not in KNOWN:
            raise Wrong(f"unknown key; known are {', '.join(KNOWN)}", key, index)
    url = _read_url(table.get("url"), index)
    return Server(
        _read_name(table.get("name", url.partition("://")[2]), index),
        url,
        _read_keys(table.get("keys"), index),
        _read_path(table, "token-file", index),
        _read_path(table, "ca-file", index),
    )


def _read_url(url: object, index: int) -> str:
    """https, or this machine: whoever reads along would read values and take the token."""
    if not isinstance(url, str) or len(url) > URL_CHARS_MAX:
        raise Wrong("want https://HOST:PORT, or a path below it", "url", index)
    is_secret = url.startswith(_TLS)
    if not is_url(_PLAIN + url.removeprefix(_TLS) if is_secret else url):
        raise Wrong("want https://HOST:PORT, or a path below it", "url", index)
    authority = url.partition("://")[2].partition("/")[0]
    name, _, port = authority.rpartition(":")
    if name and not authority.endswith("]") and not _is_port(port):
        raise Wrong(f"{port!r} is not a port", "url", index)
    host = authority if authority.endswith("]") else name or authority
    if not is_secret and host not in _HERE:
        raise Wrong("want https: plain http is for a server on this machine", "url", index)
    return url.rstrip("/")


def _is_port(text: str) -> bool:
    return text.isdigit() and text.isascii() and len(text) <= 5 and 0 < int(text) < 65_536


def _read_name(name: object, index: int) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= NAME_CHARS_MAX or not name.isprintable():
        raise Wrong(f"want 1 to {NAME_CHARS_MAX} printable characters", "name", index)
    return name


def _read_keys(value: object, index: int) -> tuple[VerifierKey, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not 1 <= len(texts) <= KEYS_MAX:
        raise Wrong("want the server's key, or one of each type", "keys", index)
    found: list[VerifierKey] = []
    for text in texts:
        if not isinstance(text, str):
            raise Wrong("want texts NAME+ID+BASE64", "keys", index)
        try:
            found.append(note.parse_vkey(text, "key"))
        except SpecError as error:
            raise Wrong(str(error).removeprefix("key: "), "keys", index) from None
    kinds = [key.kind for key in found]
    if kinds not in ([note.ED25519], [note.ED25519, note.COSIGNED_MLDSA44]):
        raise Wrong("want a log's key: of type 1 first, then perhaps of type 6", "keys", index)
    if len({key.name for key in found}) != 1:
        raise Wrong("keys of two servers", "keys", index)
    return tuple(found)


def _read_path(table: dict[str, Any], key: str, index: int) -> str:
    path = table.get(key, "")
    is_path = isinstance(path, str) and path.startswith("/") and "\0" not in path
    if key in table and (not is_path or len(path) > PATH_CHARS_MAX):
        raise Wrong("want an absolute path", key, index)
    return str(path)
