"""`docklock notary VERB`: LogBlocks and PoE bundles of this host; hand them to a server.

Not here: what a notary does (enc.notary), its file's checks (chainlite.notarised), which `docklock
verify FILE` runs. `run` exits 3 where something bad was set aside,
`hand-in` where a server holds what contradicts what is here.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from docklock.paths import Paths
    from enc.notary.notary import Pass
    from enc.notary.store import Store

EXIT_ASIDE = 3


def run_notary(argv: list[str], paths: Paths) -> int:
    """Run the verb; StateError where its database cannot be read or written."""
    import sqlite3

    from chainlite.errors import StateError

    options = _parse(argv)
    verbs = {
        "run": _run,
        "status": _show_status,
        "logblocks": _show_blocks,
        "poe": _show_poe,
        "export": _export,
        "hand-in": _hand_in,
        "aside": _write_aside,
    }
    try:
        return verbs[options.verb](options, paths)
    except sqlite3.Error as error:
        raise StateError(f"the notary's database cannot be used: {error}") from None


def _parse(argv: list[str]) -> argparse.Namespace:
    import argparse

    from docklock.cli.arguments import Parser, add_format

    parser = Parser(
        prog="docklock notary",
        description="Verify this host's segments, group them in signed LogBlocks, say what each "
        "app's work comes to. The agent does it all the time; without it, `run` does one pass.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    run = verbs.add_parser(
        "run",
        help="one pass: take what is new, close what is due",
        examples=("docklock notary run --flush",),
    )
    run.add_argument("--flush", action="store_true", help="close what waits, however young")
    run.add_argument("--follow", action="store_true", help="pass after pass, until a signal")
    run.add_argument("--parent", type=int, default=0, help=argparse.SUPPRESS)
    status = verbs.add_parser(
        "status",
        help="the notary's key, its chains, what it set aside",
        examples=("docklock notary status",),
    )
    blocks = verbs.add_parser(
        "logblocks",
        help="list the LogBlocks of an app",
        examples=("docklock notary logblocks web",),
    )
    poe = verbs.add_parser(
        "poe",
        help="Phi and Gamma of each billing window of an app",
        examples=("docklock notary poe --window 2026-11-24T18:00Z web",),
    )
    poe.add_argument("--window", metavar="TIME", help="only this one: 2026-11-24T18:00Z")
    export = verbs.add_parser(
        "export",
        help="write an app's LogBlocks and bundles to one file",
        examples=("docklock notary export -o web.logblocks web",),
    )
    export.add_argument("-o", "--output", metavar="FILE", help="else APP.logblocks, here")
    handing = verbs.add_parser(
        "hand-in",
        help="hand this host's LogBlocks and PoE bundles to a server, which has its receipts",
        examples=("docklock notary hand-in archive",),
    )
    handing.add_argument("server", metavar="SERVER", help="as `docklock sync status` names it")
    handing.add_argument("--config", metavar="FILE", help="the file that names the servers")
    aside = verbs.add_parser(
        "aside",
        help="write a bad frame that was set aside to a file",
        examples=("docklock notary aside -o bad.frame 3",),
    )
    aside.add_argument("number", metavar="NUMBER", type=int, help="as `status` shows it")
    aside.add_argument("-o", "--output", metavar="FILE", help="else NUMBER.aside, here")
    for verb in (blocks, poe, export):
        verb.add_argument("app", metavar="APP", help="a container's name")
    for verb in (status, blocks, poe, handing):
        add_format(verb, "one object" if verb in (status, handing) else "one object a line")
    return parser.parse_args(argv)


def _run(options: argparse.Namespace, paths: Paths) -> int:
    from chainlite.errors import SpecError, StateError
    from docklock.notary import follow, run_once

    if not options.follow:
        done = run_once(paths, flush=options.flush)
        _tell(done, is_all=True)
        sys.stdout.write(_render_pass(done))
        if done.unread and not done.troubles:
            raise StateError(done.unread)
        return EXIT_ASIDE if done.troubles else 0
    if options.flush:
        raise SpecError("notary run: --flush is for one pass, not for --follow")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    said = ""

    def fail(text: str) -> None:
        nonlocal said
        if text != said:  # not every few seconds for as long as it lasts
            _say(text)
        said = text

    follow(paths, options.parent, lambda done: _tell(done, is_all=False), fail)
    return 0


def _say(text: str) -> None:
    print(f"docklock: notary: {text}", file=sys.stderr, flush=True)


def _tell(done: Pass, *, is_all: bool) -> None:
    """What stands still: all of it, or what is new."""
    from chainlite.report import escape

    for trouble in done.troubles:
        if not (is_all or trouble.is_new):
            continue
        where = "the host's log"
        if trouble.container:
            where = f"container {trouble.container[:12]} run {trouble.run}"
            where += f" stands still at receipt {trouble.first_index}"
        _say(f"{where}: {escape(trouble.why)} (set aside)")


def _render_pass(done: Pass) -> str:
    return (
        f"{done.segments} segments taken ({done.receipts} receipts), {done.blocks} LogBlocks, "
        f"{done.bundles} PoE bundles; {done.waiting} segments wait for their LogBlock\n"
    )


def _open(paths: Paths) -> Store:
    from docklock.notary import get_directory
    from enc.notary.store import Store

    return Store(get_directory(paths), None)


def _show_status(options: argparse.Namespace, paths: Paths) -> int:
    import json

    from chainlite.logblock import compute_notary_id
    from chainlite.report import escape
    from docklock.evidence.notary_key import encode_public

    with _open(paths) as store:
        public = store.get_public()
        shown = _describe_store(store)
    verifier = encode_public(public)
    shown = {"fingerprint": compute_notary_id(public).hex(), "public_key": verifier} | shown
    if options.json:
        sys.stdout.write(json.dumps(shown) + "\n")
        return 0
    lines = [f"fingerprint {shown['fingerprint']}", f"public key  {verifier}"]
    lines += [
        f"app {escape(chain['app'])}: {chain['logblocks']} LogBlocks of {chain['segments']} "
        f"segments, {chain['waiting']} wait"
        for chain in shown["chains"]
    ]
    lines += [
        f"STANDS STILL: container {run['container'][:12]} ({escape(run['app'])}) run {run['run']} "
        f"at receipt {run['receipt']}: {escape(run['why'])}"
        for run in shown["held"]
    ]
    lines += [
        f"aside {row['number']}: container {row['container'][:12] or '-'} run {row['run']} receipt "
        f"{row['receipt']}, {row['bytes']} bytes: {escape(row['why'])}"
        for row in shown["aside"]
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _describe_store(store: Store) -> dict[str, Any]:
    """The chains, the runs that stand still, what was set aside."""
    names = ("logblocks", "segments", "waiting")
    return {
        "chains": [
            dict(zip(names, store.count(number), strict=True)) | {"app": app, "host": host.hex()}
            for number, host, app in store.get_chain_names()
        ],
        "held": [
            {
                "container": run.name.container.hex(),
                "run": run.name.run,
                "app": run.app,
                "receipt": run.event_count,
                "why": run.held,
            }
            for host in store.find_hosts()
            for run in store.get_runs(host, "held != ''")
        ],
        "aside": [
            {
                "number": row.number,
                "container": row.container.hex(),
                "run": row.run,
                "receipt": row.first_index,
                "why": row.why,
                "bytes": len(row.evidence),
                "time_ms": str(row.time_ms),
            }
            for row in store.iterate_aside()
        ],
    }


def _show_blocks(options: argparse.Namespace, paths: Paths) -> int:
    import json

    from chainlite.logblock import compute_block_hash, decode_block
    from chainlite.report import format_time

    with _open(paths) as store:
        found = [
            (decode_block(row.block), compute_block_hash(row.block))
            for number, _, app in store.get_chain_names()
            if app == options.app
            for row, _ in store.iterate_blocks(number)
        ]
    _check_found(options.app, found)
    for block, digest in found:
        if options.json:
            shown = {
                "host": block.host.hex(), "height": block.height, "hash": digest.hex(),
                "time": str(block.time), "segments": block.segment_count,
                "receipts": block.event_count, "root": block.root.hex(),
                "log_size": block.log_size, "totals": [str(value) for value in block.totals],
            }  # fmt: skip
            sys.stdout.write(json.dumps(shown) + "\n")
        else:
            sys.stdout.write(
                f"{block.height:<6} {format_time(block.time // 10**9)}  "
                f"{block.segment_count:>4} segments {block.event_count:>5} receipts  "
                f"{digest.hex()[:16]}\n"
            )
    return 0


def _show_poe(options: argparse.Namespace, paths: Paths) -> int:
    import json
    import time

    from chainlite.economy.poe_bundle import decode_bundle
    from chainlite.economy.poe_index import DEFAULT_TERMS
    from chainlite.logblock import compute_notary_id
    from chainlite.notary_report import describe_bundle, render_bundle
    from enc.notary.notary import compute_bundle

    start = _parse_window(options.window) if options.window else None
    with _open(paths) as store:
        notary, now_ms = compute_notary_id(store.get_public()), time.time_ns() // 1_000_000
        windows = [row for row in store.get_windows(options.app) if start in (None, row.start)]
        _check_found(options.app, windows)
        for row in windows:
            if row.bundle:
                made = decode_bundle(row.bundle)
            else:
                made = compute_bundle(store, notary, options.app, row.start, DEFAULT_TERMS, now_ms)
            if options.json:
                text = json.dumps(describe_bundle(made) | {"signed": bool(row.bundle)})
            else:
                text = render_bundle(made) + ("" if row.bundle else " (so far, not signed)")
            sys.stdout.write(text + "\n")
    return 0


def _parse_window(text: str) -> int:
    """The start of the window that a time lies in: RFC 3339 with or without seconds, UTC if none
    is named."""
    from datetime import UTC, datetime

    from chainlite.economy.poe_bundle import WINDOW_SECONDS
    from chainlite.errors import SpecError

    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise SpecError(f"--window {text}: want a time as 2026-11-24T18:00Z") from None
    second = int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())
    return second // WINDOW_SECONDS * WINDOW_SECONDS


def _check_found(app: str, found: list[Any]) -> None:
    from chainlite.errors import StateError

    if not found:
        raise StateError(f"{app}: no LogBlock of it (yet); `docklock notary status` lists apps")


def _export(options: argparse.Namespace, paths: Paths) -> int:
    from docklock.notary import write_export

    output = options.output or f"{options.app}.logblocks"
    state = write_export(paths, options.app, output)
    blocks = sum(len(host.blocks) for host in state.hosts)
    size = os.path.getsize(output)
    sys.stdout.write(
        f"{output}: {blocks} LogBlocks, {len(state.bundles)} PoE bundles, {size} bytes\n"
    )
    return 0


def _hand_in(options: argparse.Namespace, paths: Paths) -> int:
    import asyncio
    import json

    from chainlite.errors import StateError
    from chainlite.report import escape
    from docklock.handing import hand_in
    from docklock.outbox.status import find_servers

    servers = {one.name: one for one in find_servers(paths, options.config)}
    if options.server not in servers:
        known = ", ".join(servers) or "none"
        raise StateError(f"{options.server}: no server of the settings is called that: {known}")
    for one in asyncio.run(hand_in(paths, servers[options.server])):
        if options.json:
            sys.stdout.write(json.dumps(one._asdict()) + "\n")
        else:
            held = f"{one.height} LogBlocks are held, {one.new} of them new"
            held += f"; {one.bundles} PoE bundles, {one.new_bundles} of them new"
            sys.stdout.write(f"{escape(one.app)}: {held}\n")
    return 0


def _write_aside(options: argparse.Namespace, paths: Paths) -> int:
    from chainlite.errors import StateError

    with _open(paths) as store:
        found = [row for row in store.iterate_aside() if row.number == options.number]
    if not found:
        raise StateError(f"{options.number}: nothing of this number was set aside")
    output = options.output or f"{options.number}.aside"
    with open(output, "xb") as file:
        file.write(found[0].evidence)
    sys.stdout.write(f"{output}: {len(found[0].evidence)} bytes\n")
    return 0
