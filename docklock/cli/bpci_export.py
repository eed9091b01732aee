"""`docklock bpci export DIRECTORY FILE`: what a server holds, sealed, for somebody else's machine.

Not here: what is in it (chainlite.bpci.exporting), its checks (`docklock verify FILE --log-key
KEYS`). Exit codes: 0; 1 there is no such tenant, or the file cannot be written; 2 it cannot be
asked so; 3 what is stored does not hold, and where: no file is written.
"""

from __future__ import annotations

import time
from typing import Any

from docklock.cli.options import Command, UsageError, text

EXPORT = Command(
    "bpci export",
    "[OPTIONS] DIRECTORY FILE",
    "Write a tenant's receipts with all proofs, sealed by the server, to a file for verify.",
    (
        text("--tenant", help="whose", metavar="NAME"),
        text("--host", help="of this host only, by its id", metavar="ID"),
        text("--container", help="of this container only, by its name or id", metavar="NAME|ID"),
        text("--from", help="from this time on: 10m, RFC 3339 or Unix time", metavar="TIME"),
        text("--to", help="up to this time", metavar="TIME"),
    ),
    examples=("docklock bpci export --tenant acme --from 24h /srv/bpci acme.export",),
)


def export(values: dict[str, Any], words: list[str]) -> int:
    """Write the file while the directory may be served; `values` are those of EXPORT."""
    from chainlite.bpci.asking import narrow_export, parse_named
    from chainlite.bpci.exporting import make_scope, write_export
    from chainlite.bpci.serving import get_now_ms, load_server_key
    from chainlite.bpci.sqlite_store import SqliteStore
    from docklock.cli.receipts import parse_since
    from docklock.evidence.export import write_whole

    directory, path = words
    if not values["tenant"]:
        raise UsageError("docklock bpci export: name the tenant with --tenant")
    now_ns, query = time.time_ns(), dict[str, str]()
    for name in ("from", "to"):
        if values[name]:
            query[name] = str(parse_since(values[name], now_ns, f"--{name}"))
    if values["host"]:
        query["host"] = values["host"]
    key = load_server_key(directory)
    scope = narrow_export(make_scope(key, values["tenant"]), query)
    if values["container"]:
        scope = parse_named(scope, values["container"])
    with SqliteStore(directory, is_writer=False) as store, write_whole(path) as file:
        parts = write_export(store, key, scope, file.write, get_now_ms())
        size = file.tell()
    print(f"{path}: {size} bytes in {parts} parts: `docklock verify {path} --log-key KEYS`")
    return 0
