"""`docklock prove CONTAINER INDEX`: write the proof of one receipt to a small file.

With --final it leads on to the seals of a chain's validators. Not here: bytes and checks
(chainlite.proof, chainlite.proofs), who finds the parts (docklock.evidence.proving,
final_proving; docklock.chain).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from chainlite.proofs.light_format import LightProof
    from docklock.paths import Paths

DIGITS_MAX = 19
"""What fits in SQLite's integers."""


def run_prove(argv: list[str], paths: Paths) -> int:
    """Write the file, which `verify` checks alone."""
    from chainlite.errors import SpecError
    from chainlite.proven import render_holder
    from chainlite.redaction import parse_classes
    from chainlite.trust import read_note
    from docklock.cli.arguments import Parser
    from docklock.client import flush
    from docklock.evidence.export import NOTHING
    from docklock.evidence.proving import make_proof
    from docklock.evidence.reading import find_evidence

    parser = Parser(
        prog="docklock prove",
        description="Write the proof of one receipt to a file.",
        examples=(
            "docklock prove web 12",
            "docklock prove --values paths -o mount.proof web 1:3",
        ),
    )
    parser.add_argument("container", metavar="CONTAINER")
    parser.add_argument("index", metavar="[RUN:]INDEX", help="as `docklock receipts` shows it")
    parser.add_argument("-o", "--output", metavar="FILE", help="else CONTAINER-RUN-INDEX.proof")
    parser.add_argument(
        "--values", metavar="CLASSES", help="tell values: argv,paths,addresses,strings,env,all"
    )
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="prove under this checkpoint of the host's log"
    )
    parser.add_argument(
        "--final", action="store_true", help="prove that it is final on the chain, too"
    )
    add_chain_options(parser)
    options = parser.parse_args(argv)
    if options.final and options.checkpoint:
        raise SpecError("prove: --final proves under the chain's anchor, not under a --checkpoint")
    run, index = parse_index(options.index)
    container = find_evidence(paths, options.container)
    classes = parse_classes(options.values, "--values") if options.values else NOTHING
    note = read_note(options.checkpoint) if options.checkpoint else b""
    flush(paths, container)
    if options.final:
        from docklock.evidence.final_proving import make_final_proof

        def find(host: bytes, leaf_index: int) -> LightProof:
            return ask_finality(paths, options.chain, host, str(leaf_index), options.trusted_height)

        data, made = make_final_proof(paths, container, run, index, classes=classes, find=find)
        output = options.output or f"{container[:12]}-{run}-{index}.final"
        write_proof(output, data)
        sys.stdout.write(f"{output}: {len(data)} bytes; final in block {made.header.height}\n")
        return 0
    data, proven = make_proof(paths, container, run, index, classes=classes, note=note)
    output = options.output or f"{container[:12]}-{run}-{index}.proof"
    write_proof(output, data)
    held = render_holder(proven)
    sys.stdout.write(f"{output}: {len(data)} bytes; its epoch's certificate is {held}\n")
    return 0


def add_chain_options(parser: ArgumentParser) -> None:
    """Which node --final asks, and what the reader trusts of its chain."""
    parser.add_argument(
        "--chain",
        metavar="DIR",
        help="--final: the node's directory (chain in the state directory)",
    )
    parser.add_argument(
        "--trusted-height", metavar="HEIGHT", default="0",
        help="--final: the reader trusts the header at this height (0: the genesis)",
    )  # fmt: skip


def ask_finality(
    paths: Paths, chosen: str | None, host: bytes, leaf: str, trusted_height: str
) -> LightProof:
    """The light proof of an anchor of a host's log with this leaf, from a node's directory.

    StateError where there is no node, or no anchor yet.
    """
    return _ask_light(paths, chosen, f"/finality/{host.hex()}/{leaf}/{trusted_height}")


def ask_evidence(paths: Paths, chosen: str | None, name: bytes, trusted_height: str) -> LightProof:
    """The light proof of evidence, by whom it removed or its transaction; StateError for none."""
    return _ask_light(paths, chosen, f"/evidence/{name.hex()}/{trusted_height}")


def _ask_light(paths: Paths, chosen: str | None, target: str) -> LightProof:
    from chainlite.proofs.light_format import decode_light
    from docklock.chain.directory import get_directory, read_chain
    from docklock.chain.reading import query

    directory = get_directory(paths, chosen)
    return decode_light(bytes.fromhex(query(directory, target)["proof"]), read_chain(directory).id)


def parse_index(text: str) -> tuple[int, int]:
    """Run and index of `INDEX` (of run 0) or `RUN:INDEX`; SpecError if it is neither."""
    from chainlite.errors import SpecError

    run, has_run, index = text.rpartition(":")
    words = (run, index) if has_run else (index,)
    if not all(word.isascii() and word.isdigit() and len(word) < DIGITS_MAX for word in words):
        raise SpecError(f"{text!r}: want an index as `docklock receipts` shows it: 5, or 1:5")
    return int(run or "0"), int(index)


def write_proof(path: str, data: bytes) -> None:
    """The file, whole under its name or absent."""
    from chainlite.errors import StateError

    temporary = f"{path}.{os.getpid()}.part"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError as error:
        raise StateError(f"{path}: cannot write the proof: {error.strerror}") from None
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
