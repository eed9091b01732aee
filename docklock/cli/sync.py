"""`docklock sync status|now|run|enrol|proof|receipts`: this host's evidence to its servers.

Not here: sending (docklock.outbox), who the servers are (agent.toml, [[server]]), receipts of calls
(call_receipts). Exit codes: `now` 0 all servers have all, 1 something is due still, 3 somebody
contradicts themselves, or a server has raised an alert; `status` 0, or 3 as `now`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from docklock.cli import call_receipts, options
from docklock.cli.options import Command, UsageError, check_count, flag, text

if TYPE_CHECKING:
    from docklock.agent.config import Settings
    from docklock.outbox.sending import Outbox, Outcome
    from docklock.outbox.settings import Server
    from docklock.outbox.status import ServerStatus
    from docklock.paths import Paths

CONFIG = text("--config", help="the file that names the servers (agent.toml)", metavar="FILE")
FORMAT = text("--format", help="json: one object", metavar="json")
COMMANDS = {
    "status": Command(
        "sync status", "[OPTIONS]",
        "Show how far each server is, and what is wrong.",
        (CONFIG, FORMAT),
        examples=("docklock sync status",),
    ),
    "now": Command(
        "sync now", "[OPTIONS]",
        "Send each server what it has not, and wait; 1 if something is due still.",
        (CONFIG, FORMAT),
        examples=("docklock sync now",),
    ),
    "run": Command(
        "sync run", "[OPTIONS]",
        "As now; with --follow for as long as it is wanted.",
        (
            CONFIG,
            flag("--follow", help="pass after pass, until a signal"),
            text("--parent", help="end with this process", metavar="PID"),
            FORMAT,
        ),
        examples=("docklock sync run --follow",),
    ),
    "enrol": Command(
        "sync enrol", "[OPTIONS] SERVER GRANT",
        "Enrol this host at a server, with the file that `docklock bpci grant` has written there.",
        (CONFIG,),
        examples=("docklock sync enrol archive host.grant",),
    ),
    "proof": Command(
        "sync proof", "[OPTIONS] SERVER",
        "Write the proof that a server holds this host's log, from its last acknowledgement: for "
        "`verify FILE --log-key KEYS`.",
        (CONFIG, text("-o", "--output", help="write to this file (SERVER.tlog-proof)",
                      metavar="FILE")),
                      examples=("docklock sync proof -o archive.tlog-proof archive",),
    ),
    "receipts": Command(
        "sync receipts", "[OPTIONS] [AUDIT-ID]",
        "List the calls that servers have answered, newest first; write one as a file for `verify "
        "FILE --log-key KEYS`; compare with a server's.",
        (CONFIG, text("--server", help="of this one alone", metavar="NAME"),
         *call_receipts.OPTIONS),
         examples=("docklock sync receipts --server archive",),
    ),
}  # fmt: skip
HEADERS = ["SERVER", "STATE", "ACKNOWLEDGED", "BEHIND", "BYTES", "SECONDS", "NEXT TRY"]
EXIT_DUE, EXIT_CONTRADICTED = 1, 3


def run_sync(argv: list[str], paths: Paths) -> int:
    """`docklock sync VERB`."""
    verb = options.choose_verb("sync", COMMANDS, argv)
    values, words = options.parse(COMMANDS[verb], argv[1:])
    own = {"enrol": _enrol, "proof": _prove, "receipts": _show_receipts}
    if verb in own:
        return own[verb](values, words, paths)
    check_count(COMMANDS[verb], words, 0, 0)
    if values["format"] not in (None, "json", "text"):
        raise UsageError(f"docklock sync {verb}: --format takes json or text")
    if verb == "status":
        from docklock.outbox.status import find_servers

        return _show(values, paths, find_servers(paths, values["config"]))
    from docklock.agent.config_file import read_config

    settings = read_config(values["config"])
    _note_file(paths, settings)
    if not settings.servers:
        return _show(values, paths, ()) if not values.get("follow") else 0
    from docklock.outbox.door import HttpDoor
    from docklock.outbox.sending import Outbox
    from docklock.outbox.signing import HostCalls

    calls = HostCalls(paths)
    outbox = Outbox(paths, settings.servers, lambda server: HttpDoor(server, calls))
    return (_follow if values.get("follow") else _send)(values, paths, outbox)


def _prove(values: dict[str, Any], words: list[str], paths: Paths) -> int:
    """What an auditor is handed: it speaks for itself, with the server's keys alone."""
    check_count(COMMANDS["proof"], words, 1, 1)
    from chainlite.bpci.acknowledgement import decode_acknowledgement
    from chainlite.errors import StateError
    from chainlite.report import format_time
    from docklock.cli.prove import write_proof
    from docklock.outbox.sent import Sent, has_sent

    server = _find_server(values, words[0], paths)
    found = []
    if has_sent(paths):
        with Sent(paths) as sent:
            found = sent.get_acknowledgements(server.origin, 1)
    if not found:
        raise StateError(f"{words[0]} has acknowledged nothing yet")
    made = decode_acknowledgement(found[0])
    output = values["output"] or f"{words[0].replace('/', '_')}.tlog-proof"
    write_proof(output, made.proof)
    when = format_time(made.time_ms // 1000)
    print(
        f"{output}: {words[0]} holds the first {made.held.size} leaves of this host's log ({when})"
    )
    return 0


def _show_receipts(values: dict[str, Any], words: list[str], paths: Paths) -> int:
    check_count(COMMANDS["receipts"], words, 0, 1)
    origin = None
    if values["server"]:
        origin = _find_server(values, values["server"], paths).origin
    return call_receipts.show_host_calls(values, words, paths, origin)


def _find_server(values: dict[str, Any], name: str, paths: Paths) -> Server:
    from chainlite.errors import StateError
    from docklock.nearest import suggest
    from docklock.outbox.status import find_servers

    servers = {one.name: one for one in find_servers(paths, values["config"])}
    if name not in servers:
        hint = suggest(name, servers)
        raise StateError(f"{name}: no server of the settings is called that{hint}")
    return servers[name]


def _enrol(values: dict[str, Any], words: list[str], paths: Paths) -> int:
    check_count(COMMANDS["enrol"], words, 2, 2)
    from chainlite.bpci.grant import GRANT_LIMIT_BYTES
    from docklock.chain.directory import read_bounded
    from docklock.outbox.door import HttpDoor
    from docklock.outbox.sending import Outbox

    server = _find_server(values, words[0], paths)
    grant = read_bounded(words[1], GRANT_LIMIT_BYTES)
    outbox = Outbox(paths, (server,), HttpDoor)

    async def run() -> None:
        try:
            await outbox.enrol(server, grant)
        finally:
            outbox.close()

    asyncio.run(run())
    print(f"enrolled at {server.name}: `docklock sync now`")
    return 0


def _note_file(paths: Paths, settings: Settings) -> None:
    """Where the servers are named: `status`, `info` and `evidence erase` look there from now on."""
    from docklock.outbox.sent import Sent, has_sent

    if settings.servers or has_sent(paths):
        with Sent(paths) as sent:
            sent.put_file(settings.file)


def _send(values: dict[str, Any], paths: Paths, outbox: Outbox) -> int:
    from chainlite.errors import TamperError
    from docklock.outbox.following import settle

    async def run() -> list[Outcome]:
        try:
            return await settle(outbox)
        finally:
            outbox.close()

    outcomes = asyncio.run(run())
    for outcome in outcomes:
        if outcome.error is not None:
            print(f"docklock: {outcome.error}", file=sys.stderr)
    _show(values, paths, outbox.servers)
    if any(isinstance(outcome.error, TamperError) for outcome in outcomes):
        return EXIT_CONTRADICTED
    return EXIT_DUE if any(outcome.is_due for outcome in outcomes) else 0


def _follow(values: dict[str, Any], paths: Paths, outbox: Outbox) -> int:
    import gc

    from docklock.cli.parent import read_parent
    from docklock.outbox.following import follow

    gc.enable()  # it lives longer than a command
    parent = read_parent(values["parent"], "sync run")
    said: dict[str, str] = {}

    def tell(server: Server, what: str) -> None:
        """What is wrong with a server, once for as long as it is so."""
        if said.get(server.origin, "") != what:
            said[server.origin] = what
            print(f"docklock: outbox: {what or f'{server.name} is well'}", file=sys.stderr,
                  flush=True)  # fmt: skip

    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    asyncio.run(follow(paths, outbox, parent, tell))
    return 0


def _show(values: dict[str, Any], paths: Paths, servers: tuple[Server, ...]) -> int:
    from docklock.outbox.status import read_status

    found = read_status(paths, servers)
    if values["format"] == "json":
        from docklock.json_text import encode_json

        sys.stdout.write(encode_json({"servers": [one.describe() for one in found]}) + "\n")
    elif found:
        sys.stdout.write(render_status(found))
    return EXIT_CONTRADICTED if any(one.is_contradicted for one in found) else 0


def render_status(found: list[ServerStatus]) -> str:
    """A row for each server, and below what is wrong with it."""
    from chainlite.report import escape, format_time
    from docklock.image.listing import show_table
    from docklock.outbox.sent import STATES

    rows, troubles = [], []
    for one in found:
        standing, name = one.standing, f"{one.server.name}: "
        rows.append([
            one.server.name,
            STATES[standing.state],
            f"{standing.size} of {one.size}",
            str(one.lag.leaves),
            f"{one.lag.size_bytes:,}",
            f"{one.lag.age_s:.1f}",
            format_time(standing.next_ms // 1000) if standing.next_ms else "",
        ])  # fmt: skip
        if standing.trouble:
            troubles.append(f"{name}{standing.trouble.removeprefix(name)}\n")
        for alert in one.alerts:
            when = format_time(alert.time_ms // 1000)
            what = f"alert {alert.kind} at leaf {alert.leaf}, {when}: {alert.why}"
            troubles.append(f"{name}{escape(what)}\n")
    return show_table(HEADERS, rows) + "".join(troubles)
