"""`docklock bpci init|keys|serve|audit|openapi`: a server that takes hosts' evidence.

Not here: who may do what there (bpci_access), exports (bpci_export), copies (bpci_copies), receipts
of calls (call_receipts), what it does (chainlite/bpci). Exit of `audit`: 0 nothing differs; 3
something does, and each such row has a line.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, Any

from chainlite.errors import SpecError, StateError
from docklock.cli import bpci_access, bpci_copies, bpci_export, call_receipts, options
from docklock.cli.options import Command, check_count, listed, text

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from chainlite.proofs.light_client import LightClient
    from docklock.paths import Paths

    ReadChain = Callable[[], AbstractAsyncContextManager[LightClient | None]]

LISTEN_DEFAULT = "127.0.0.1:7390"
OPERATOR = "bpci"
"""What a server calls itself among a chain's nodes."""
INIT = Command(
    "bpci init",
    "DIRECTORY",
    "Make a server's key and its empty store; print its keys.",
    examples=("docklock bpci init /srv/bpci",),
)
KEYS = Command(
    "bpci keys",
    "DIRECTORY",
    "Print the keys of a server's log (Ed25519, ML-DSA-44).",
    examples=("docklock bpci keys /srv/bpci > server.keys",),
)
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
        text("--genesis", help="the chain whose final blocks are shown", metavar="FILE"),
        listed("--chain-node", help="a node of it that introduces newcomers; may be given several "
               "times", metavar="HOST:PORT"),
        text("--header-checkpoint", metavar="FILE",
             help="believe this header of the chain, and show what follows from it"),
        listed("--witness-key", metavar="FILE|KEY",
               help="a witness whose cosignature of the header checkpoint counts"),
        text("--witness-policy", metavar="FILE", help="which witnesses must have cosigned it"),
    ),
    examples=(
        "docklock bpci serve --listen 0.0.0.0:7390 --name bpci.example.org"
        " --certificate chain.pem --private-key key.pem /srv/bpci",
    ),
)  # fmt: skip
AUDIT = Command(
    "bpci audit",
    "DIRECTORY",
    "Verify all that is stored; name each row that differs.",
    examples=("docklock bpci audit /srv/bpci",),
)
OPENAPI = Command(
    "bpci openapi",
    "",
    "Print the OpenAPI document of a server's addresses.",
    examples=("docklock bpci openapi > openapi.json",),
)
SUBCOMMANDS = {
    "init": INIT, "keys": KEYS, "grant": bpci_access.GRANT, "members": bpci_access.MEMBERS,
    "revoke": bpci_access.REVOKE, "quota": bpci_access.QUOTA, "retention": bpci_access.RETENTION,
    "serve": SERVE, "audit": AUDIT, "export": bpci_export.EXPORT, "openapi": OPENAPI,
    "receipts": call_receipts.OF_SERVER,
    "backup": bpci_copies.BACKUP, "restore": bpci_copies.RESTORE,
}  # fmt: skip
COUNTS = {
    "openapi": (0, 0), "grant": (3, 3), "revoke": (2, 2), "quota": (2, 2), "retention": (2, 2),
    "export": (2, 2), "receipts": (1, 2), "backup": (2, 2), "restore": (1, 2),
}  # fmt: skip


def run_bpci(argv: list[str], _: Paths) -> int:
    """`docklock bpci VERB`."""
    verb = options.choose_verb("bpci", SUBCOMMANDS, argv)
    values, words = options.parse(SUBCOMMANDS[verb], argv[1:])
    check_count(SUBCOMMANDS[verb], words, *COUNTS.get(verb, (1, 1)))
    _check_extra()
    run = {
        "init": _init, "keys": _show_keys, "grant": bpci_access.grant,
        "members": bpci_access.show_members, "revoke": bpci_access.revoke,
        "quota": bpci_access.rule_quota, "retention": bpci_access.rule_retention, "serve": _serve,
        "audit": _audit, "export": bpci_export.export, "openapi": _show_document,
        "backup": bpci_copies.run_backup, "restore": bpci_copies.run_restore,
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
    read_chain = _open_chain(values, words[0])
    gc.enable()  # it lives longer than a command

    async def run() -> None:
        async with read_chain() as chain:
            await serve(words[0], listen, lambda url: print(f"serving on {url}", flush=True), chain)

    asyncio.run(run())
    return 0


def _open_chain(values: dict[str, Any], server: str) -> ReadChain:
    """What opens the reader of the chain that is named, as a node in DIRECTORY/chain."""
    from contextlib import nullcontext

    if not values["genesis"]:
        if values["chain_node"] or values["header_checkpoint"]:
            raise SpecError("docklock bpci serve: of which chain? Name its --genesis")
        return nullcontext
    from chainlite.proofs.trusted import trust_genesis
    from docklock.chain.arriving import read_trusted
    from docklock.chain.directory import ChainDirectory, read_genesis_file
    from docklock.chain.onlooking import read_lightly
    from docklock.chain.settings import parse_address
    from docklock.chain.setup import init_node

    chain = read_genesis_file(values["genesis"])
    directory = ChainDirectory(os.path.abspath(f"{server}/chain"))
    wanted: dict[str, object] = {"operator": OPERATOR}
    if values["chain_node"]:
        wanted["introducers"] = tuple([parse_address(one) for one in values["chain_node"]])
    init_node(directory, wanted, chain)
    trusted = read_trusted(
        directory, values["header_checkpoint"], values["witness_key"], values["witness_policy"]
    )

    def warn(line: str) -> None:
        print(f"docklock: chain: {line}", file=sys.stderr, flush=True)

    return lambda: read_lightly(directory, chain, trusted or trust_genesis(chain.genesis), warn)


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
    from chainlite.bpci.restoring import read_mark
    from chainlite.bpci.serving import load_server_key
    from chainlite.bpci.sqlite_store import SqliteStore
    from chainlite.report import escape

    key, count, is_restoring = load_server_key(words[0]), 0, read_mark(words[0]) is not None
    with SqliteStore(words[0], is_writer=False) as store:
        for damage in audit(store, key, f"{words[0]}/{FILE}", is_restoring=is_restoring):
            place = f", leaf {damage.place}" if damage.place >= 0 else ""
            print(f"{damage.table}: {escape(damage.name)}{place}: {escape(damage.why)}")
            count += 1
    if not count and is_restoring:
        print("in restore: what is here is as it was written, and not all that was")
        return 0
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
