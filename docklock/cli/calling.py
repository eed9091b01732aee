"""How `docklock audit` and `docklock admin` name a server and the member that calls it.

Not here: what is asked (audit, admin), how it is signed (docklock.auditor).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docklock.cli.options import UsageError, text

if TYPE_CHECKING:
    from chainlite.note import VerifierKey
    from docklock.auditor.calls import ServerCalls

SERVER = text("--server", help="its URL", metavar="URL")
SERVER_KEY = text("--server-key", help="what `docklock bpci keys` prints there", metavar="FILE")
KEY = text("--key", help="the member's key (`docklock audit key`)", metavar="FILE")
CA_FILE = text("--ca-file", help="whose certificates to believe", metavar="FILE")
FORMAT = text("--format", help="json: one object", metavar="json")
CALL = (SERVER, SERVER_KEY, KEY, CA_FILE, FORMAT)


def read_server(values: dict[str, Any], command: str) -> tuple[str, tuple[VerifierKey, ...]]:
    """The server's URL, and both keys of its log."""
    from chainlite.trust import OPTION_LIMIT_BYTES, parse_log_keys, read_file

    for name in ("server", "server_key"):
        if not values[name]:
            option = name.replace("_", "-")
            raise UsageError(f"docklock {command}: name the server with --{option}")
    data = read_file(values["server_key"], OPTION_LIMIT_BYTES)
    keys = parse_log_keys([data.decode("ascii", errors="replace")])
    if not keys:
        raise UsageError(f"{values['server_key']}: want both keys of the server's log")
    return values["server"], keys


def open_calls(values: dict[str, Any], command: str) -> ServerCalls:
    """Calls of the member whose key is named, to the server that is."""
    from docklock.auditor.calls import ServerCalls
    from docklock.auditor.key import load_key, read_enrolled

    url, log_keys = read_server(values, command)
    if not values["key"]:
        raise UsageError(f"docklock {command}: name the member's key with --key")
    enrolled, key = read_enrolled(values["key"]), load_key(values["key"])
    return ServerCalls(url, log_keys, key, values["ca_file"] or "", enrolled)
