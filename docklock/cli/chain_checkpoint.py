"""`docklock chain checkpoint`: the newest header, cosigned by witnesses, as a file.

Not here: how it is made (docklock.chain.witnessing), who believes it (chainlite.proofs.trusted).
Exit: 0 as many have cosigned as were asked for; 1 fewer have, and nothing is written; 3 a witness
has seen another history of this chain.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from docklock.agent.config import POLICY_DEFAULT
from docklock.cli.options import Option, UsageError, flag, listed, text

if TYPE_CHECKING:
    from chainlite.quorum import Quorum
    from docklock.chain.directory import ChainDirectory
    from docklock.chain.witnessing import Witnessed
    from docklock.paths import Paths

OPTIONS: tuple[Option, ...] = (
    listed("--witness", help="ask this witness; may be given several times", metavar="URL"),
    listed("--witness-key", help="a witness whose cosignature counts; may be given several times",
           metavar="FILE|KEY"),
    text("--witness-policy", metavar="FILE",
         help=f"ask its witnesses, and as many as it needs ({POLICY_DEFAULT}, without --witness)"),
    text("-o", "--output", help="write to this file (CHAIN-HEIGHT.header)", metavar="FILE"),
    flag("--keys", help="instead: print the keys that a witness is to know this chain by"),
)  # fmt: skip
CHAIN_DIGITS = 12


def run_checkpoint(values: dict[str, Any], paths: Paths) -> int:
    """Ask, write, and say who has cosigned."""
    from docklock.chain.directory import get_directory

    directory = get_directory(paths, values["dir"])
    if values["keys"]:
        return _print_keys(values, directory)
    import asyncio

    from chainlite.trust import read_witness_keys
    from docklock.chain.witnessing import have_cosigned, make_wanted, write_checkpoint

    keys = read_witness_keys(values["witness_key"])
    wanted = make_wanted(values["witness"], keys, _read_policy(values))
    found = asyncio.run(have_cosigned(paths, directory, wanted))
    for problem in found.problems:
        print(f"docklock: {problem}", file=sys.stderr)
    output, size = "", 0
    if not found.why:
        name = f"{_get_chain(found)[:CHAIN_DIGITS]}-{found.made.header.height}.header"
        output = values["output"] or name
        size = len(write_checkpoint(directory, wanted, found, os.path.abspath(output)))
    shown = describe_witnessed(found) | {"file": output, "bytes": size}
    if values["format"] == "json":
        from docklock.json_text import encode_json

        sys.stdout.write(f"{encode_json(shown)}\n")
    else:
        sys.stdout.write(render_witnessed(shown))
    return 1 if found.why else 0


def _print_keys(values: dict[str, Any], directory: ChainDirectory) -> int:
    from docklock.chain.witnessing import list_log_keys

    if values["witness"] or values["output"]:
        raise UsageError("docklock chain checkpoint: --keys asks no witness and writes no file")
    for key in list_log_keys(directory):
        print(key)
    return 0


def _read_policy(values: dict[str, Any]) -> Quorum | None:
    from chainlite.trust import read_policy

    path = values["witness_policy"] or ""
    if not path and not values["witness"] and os.path.exists(POLICY_DEFAULT):
        path = POLICY_DEFAULT
    return read_policy(path) if path else None


def _get_chain(found: Witnessed) -> str:
    """The chain's id in hex, as the note has it."""
    from chainlite import checkpoint

    return checkpoint.parse_claim(found.made.note).origin.removeprefix(checkpoint.CHAIN_PREFIX)


def describe_witnessed(found: Witnessed) -> dict[str, Any]:
    """As JSON has it."""
    from chainlite.ledger.header import compute_header_hash, encode_header
    from chainlite.quorum import describe_standing

    header = found.made.header
    return {
        "chain_id": _get_chain(found),
        "height": header.height,
        "block": compute_header_hash(encode_header(header)).hex(),
        "time_ms": header.timestamp_ms,
        "witnesses": [{"name": one.name, "time": one.time} for one in found.by],
        "policy": describe_standing(found.standing),
        "why": found.why,
        "problems": list(found.problems),
    }


def render_witnessed(shown: dict[str, Any]) -> str:
    """The same for people."""
    from chainlite.report import escape

    names = ", ".join(escape(one["name"]) for one in shown["witnesses"]) or "nobody"
    if shown["why"]:
        return f"block {shown['height']}: cosigned by {names}; {shown['why']}: nothing is written\n"
    return (
        f"{shown['file']}: {shown['bytes']} bytes; block {shown['height']} "
        f"({shown['block'][:16]}), cosigned by {names}\n"
    )
