"""`docklock log checkpoint|proof|keys|serve|fsck`: this host's log, for others to check.

Not here: tiles and checkpoints (docklock.evidence.tiles), the server (tile_server), the checks
(log_check). Exit of fsck: 0 nothing wrong or all mended, 3 something is wrong.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from docklock.paths import Paths

PORT_DEFAULT = 7380
INTERVAL_S = 5.0


def run_log(argv: list[str], paths: Paths) -> int:
    """Publish, prove, serve or check the host log."""
    options = _parse(argv)
    verbs = {
        "checkpoint": _run_checkpoint,
        "proof": _run_proof,
        "keys": _run_keys,
        "serve": _run_serve,
        "fsck": _run_fsck,
    }
    return verbs[options.verb](options, paths)


def _run_checkpoint(_options: argparse.Namespace, paths: Paths) -> int:
    from docklock.evidence.tiles import publish

    sys.stdout.buffer.write(publish(paths))
    return 0


def _run_proof(options: argparse.Namespace, paths: Paths) -> int:
    from chainlite.tlogproof import encode_log_proof
    from docklock.evidence.tiles import make_log_proof

    data = encode_log_proof(make_log_proof(paths, options.index))
    if options.output == "-":
        sys.stdout.buffer.write(data)
    else:
        with open(options.output, "wb") as file:
            file.write(data)
    return 0


def _run_keys(_options: argparse.Namespace, paths: Paths) -> int:
    from chainlite.note import encode_vkey
    from docklock.evidence.tiles import publish, read_log_keys

    publish(paths)  # the first time makes the ML-DSA key
    for key in read_log_keys(paths):
        sys.stdout.write(f"{encode_vkey(key)}\n")
    return 0


def _run_serve(options: argparse.Namespace, paths: Paths) -> int:
    import asyncio

    from docklock.evidence.tile_server import TileServer

    host, port = _parse_address(options.listen)
    try:
        asyncio.run(TileServer(paths, options.interval).serve(host, port))
    except KeyboardInterrupt:
        return 0
    return 0


def _run_fsck(options: argparse.Namespace, paths: Paths) -> int:
    from docklock.evidence.log_check import check_log
    from docklock.evidence.log_repair import rebuild_log, repair_log

    report = check_log(paths)
    if report.defects and options.rebuild:
        report = rebuild_log(paths, report)
    elif report.defects and options.repair:
        report = repair_log(paths, report)
    if options.json:
        import json

        sys.stdout.write(json.dumps(report.describe()) + "\n")
    else:
        sys.stdout.write(report.render())
    return 3 if report.is_bad else 0


def _parse_address(text: str) -> tuple[str, int]:
    from chainlite.errors import SpecError

    host, found, port = text.rpartition(":")
    if not found or not port.isdigit() or int(port) > 65535:
        raise SpecError(f"log serve: --listen {text}: want ADDRESS:PORT")
    return host.strip("[]"), int(port)


def _parse(argv: list[str]) -> argparse.Namespace:
    from docklock.cli.arguments import Parser, add_format

    parser = Parser(prog="docklock log", description="This host's log.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser(
        "checkpoint",
        help="bring the tiles up to date; print the signed checkpoint",
        examples=("docklock log checkpoint",),
    )
    proof = verbs.add_parser(
        "proof",
        help="write the proof that a leaf is in the log",
        examples=("docklock log proof -o leaf.tlog-proof 120",),
    )
    proof.add_argument("index", metavar="INDEX", type=int)
    proof.add_argument(
        "-o", "--output", metavar="FILE", default="-", help="write to this file (- is stdout)"
    )
    verbs.add_parser(
        "keys",
        help="print both keys that sign checkpoints, a line each",
        examples=("docklock log keys > host.vkeys",),
    )
    serve = verbs.add_parser(
        "serve",
        help="serve checkpoint and tiles over HTTP, read-only",
        examples=("docklock log serve --listen 127.0.0.1:7370",),
    )
    listen = f"127.0.0.1:{PORT_DEFAULT}"
    serve.add_argument("--listen", metavar="ADDRESS:PORT", default=listen, help=f"where ({listen})")
    serve.add_argument(
        "--interval",
        metavar="SECONDS",
        type=float,
        default=INTERVAL_S,
        help="publish what is new so often; 0: somebody else does",
    )
    fsck = verbs.add_parser(
        "fsck",
        help="check database and tiles against the signed checkpoint",
        examples=(
            "docklock log fsck",
            "docklock log fsck --repair",
        ),
    )
    how = fsck.add_mutually_exclusive_group()
    how.add_argument("--repair", action="store_true", help="mend what a verified copy proves")
    how.add_argument("--rebuild", action="store_true", help="write host.db and all tiles anew")
    add_format(fsck, "one object")
    return parser.parse_args(argv)
