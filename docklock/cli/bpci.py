"""`docklock bpci init|keys|serve|audit|openapi`: a server that takes hosts' evidence.

Not here: who may do what there (bpci_access), exports (bpci_export), receipts of calls
(call_receipts), what it does (chainlite/bpci). Exit of `audit`: 0 nothing differs; 3 something
does, and each such row has a line.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, Any

from chainlite.errors import SpecError, StateError
from docklock.cli import bpci_access, bpci_export, call_receipts, options
from docklock.cli.options import Command, HelpWanted, check_count, listed, text

if TYPE_CHECKING:
    from docklock.paths import Paths

LISTEN_DEFAULT = "127.0.0.1:7390"
INIT = Command("bpci init", "DIRECTORY", "Make a server's key and its empty store; print its keys.")
KEYS = Command("bpci keys", "DIRECTORY", "Print the keys of a server's log (Ed25519, ML-DSA-44).")
SERVE = Command(
    "bpci serve",
    "[OPTIONS] DIRECTORY",
    "Take hosts' evidence, and serve the server's own log.",
    (
        text("--listen", help=f"where ({LISTEN_DEFAULT})", metavar="ADDRESS:PORT"),
        listed("--name", help="what callers name it (--listen), without a port also with "
               "--listen's; may be given several times",
               metavar="HOST[:PORT]"),
        text("--certificate", help="its chain, for TLS", metavar="FILE"),
        text("--private-key", help="the certificate's key", metavar="FILE"),
    ),
)  # fmt: skip
AUDIT = Command("bpci audit", "DIRECTORY", "Verify all that is stored; name each row that differs.")
OPENAPI = Command("bpci openapi", "", "Print the OpenAPI document of a server's addresses.")
SUBCOMMANDS = {
    "init": INIT, "keys": KEYS, "grant": bpci_access.GRANT, "members": bpci_access.MEMBERS,
    "revoke": bpci_access.REVOKE, "quota": bpci_access.QUOTA, "retention": bpci_access.RETENTION,
    "serve": SERVE, "audit": AUDIT, "export": bpci_export.EXPORT, "openapi": OPENAPI,
    "receipts": call_receipts.OF_SERVER,
}  # fmt: skip
COUNTS = {"openapi": 0, "grant": 3, "revoke": 2, "quota": 2, "retention": 2, "export": 2}
MORE = {"receipts": 1}
"""Words that may be there beside these."""


def run_bpci(argv: list[str], _: Paths) -> int:
    """`docklock bpci VERB`."""
    verb = argv[0] if argv else ""
    if verb in ("--help", "-h"):
        lines = [f"  {command.name:<14} {command.summary}" for command in SUBCOMMANDS.values()]
        raise HelpWanted("\n".join(["Usage: docklock bpci VERB ...", "", *lines]))
    if verb not in SUBCOMMANDS:
        raise options.UsageError(f"docklock bpci: want one of {', '.join(SUBCOMMANDS)}")
    values, words = options.parse(SUBCOMMANDS[verb], argv[1:])
    count = COUNTS.get(verb, 1)
    check_count(SUBCOMMANDS[verb], words, count, count + MORE.get(verb, 0))
    _check_extra()
    run = {
        "init": _init, "keys": _show_keys, "grant": bpci_access.grant,
        "members": bpci_access.show_members, "revoke": bpci_access.revoke,
        "quota": bpci_access.rule_quota, "retention": bpci_access.rule_retention, "serve": _serve,
        "audit": _audit, "export": bpci_export.export, "openapi": _show_document,
        "receipts": call_receipts.show_server_calls,
    }  # fmt: skip
    return run[verb](values, words)


def _check_extra() -> None:
    try:
        import uvicorn  # noqa: F401
    except ImportError:
        raise StateError("docklock bpci needs docklock[server]: pip install it") from None


def _init(_: dict[str, Any], words: list[str]) -> int:
    from chainlite.bpci.serving import make_server

    make_server(words[0])
    return _show_keys({}, words)


def _show_keys(_: dict[str, Any], words: list[str]) -> int:
    from chainlite.bpci.serving import load_server_key
    from chainlite.note import encode_vkey

    for key in load_server_key(words[0]).log_keys:
        print(encode_vkey(key))
    return 0


def _serve(values: dict[str, Any], words: list[str]) -> int:
    import asyncio

    from chainlite.bpci.serving import Listen, serve

    place = values["listen"] or LISTEN_DEFAULT
    address, _, port = place.rpartition(":")
    if not address or not port.isdigit() or int(port) > 65535:
        raise SpecError(f"docklock bpci serve: --listen {place}: want ADDRESS:PORT")
    if bool(values["certificate"]) != bool(values["private_key"]):
        raise SpecError("docklock bpci serve: --certificate and --private-key go together")
    for path in (values["certificate"], values["private_key"]):
        if path and not os.access(path, os.R_OK):
            raise SpecError(f"{path}: cannot read it")
    named = name_authorities(values["name"], port) or (place,)
    listen = Listen(
        address.strip("[]"), int(port), named, values["certificate"] or "",
        values["private_key"] or "",
    )  # fmt: skip
    gc.enable()  # it lives longer than a command
    asyncio.run(serve(words[0], listen, lambda url: print(f"serving on {url}", flush=True)))
    return 0


def name_authorities(names: list[str], port: str) -> tuple[str, ...]:
    """What callers may call the server: each name as given, without a port also with this one."""
    found = []
    for name in map(str.lower, names):
        found.append(name)
        if ":" not in name.rpartition("]")[2]:
            found.append(f"{name}:{port}")
    return tuple(found)


def _audit(_: dict[str, Any], words: list[str]) -> int:
    from chainlite.bpci.act_log import FILE
    from chainlite.bpci.audit import audit
    from chainlite.bpci.serving import load_server_key
    from chainlite.bpci.sqlite_store import SqliteStore
    from chainlite.report import escape

    key, count = load_server_key(words[0]), 0
    with SqliteStore(words[0], is_writer=False) as store:
        for damage in audit(store, key, f"{words[0]}/{FILE}"):
            place = f", leaf {damage.place}" if damage.place >= 0 else ""
            print(f"{damage.table}: {escape(damage.name)}{place}: {escape(damage.why)}")
            count += 1
    if not count:
        print("whole: every row is as it was written")
        return 0
    print(f"docklock: {count} rows differ", file=sys.stderr)
    return 3


def _show_document(_: dict[str, Any], __: list[str]) -> int:
    from chainlite.bpci.app import DESCRIPTIONS, ROUTES
    from chainlite.bpci.openapi import encode_document

    print(encode_document(ROUTES, DESCRIPTIONS).decode(), end="")
    return 0
