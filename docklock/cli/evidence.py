"""`docklock evidence CONTAINER`: write a container's evidence to one file, whole or redacted.
`docklock evidence erase CONTAINER --values CLASSES`: erase stored values for good.

Not here: the file's format (chainlite.bundle), its checks (chainlite.verify), what is taken out
(chainlite.redaction, docklock.evidence.erasing). A container named `erase` goes by its id.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from chainlite.errors import About

if TYPE_CHECKING:
    from argparse import Namespace

    from docklock.paths import Paths


def run_evidence(argv: list[str], paths: Paths) -> int:
    """Write the file; TamperError if what this host holds is not whole."""
    from chainlite.bundle import STATES
    from chainlite.redaction import parse_classes
    from chainlite.trust import read_note
    from docklock.cli.arguments import Parser
    from docklock.cli.prove import add_chain_options
    from docklock.evidence.export import NOTHING, write_evidence
    from docklock.evidence.operations import record_operation
    from docklock.evidence.reading import find_evidence

    if argv[:1] == ["erase"]:
        return _run_erase(argv[1:], paths)
    parser = Parser(
        prog="docklock evidence",
        description="Write a container's evidence to one file.",
        epilog="`docklock evidence erase CONTAINER --values CLASSES` erases stored values.",
        examples=(
            "docklock evidence -o web.evidence web",
            "docklock evidence --redact argv,paths web",
        ),
    )
    parser.add_argument("container", metavar="CONTAINER")
    parser.add_argument("-o", "--output", metavar="FILE", help="else CONTAINER.evidence, here")
    parser.add_argument(
        "--redact", metavar="CLASSES", help="leave values out: argv,paths,addresses,strings,env,all"
    )
    parser.add_argument(
        "--checkpoint",
        metavar="FILE",
        action="append",
        default=[],
        help="show that the host's log continues this checkpoint; may be given several times",
    )
    parser.add_argument(
        "--final",
        metavar="FILE",
        help="write what of the host's log is final on the chain, for `verify --final`, and show "
        "that the log continues it",
    )
    add_chain_options(parser)
    options = parser.parse_args(argv)
    container = find_evidence(paths, options.container)
    output = options.output or f"{container[:12]}.evidence"
    with About(container):
        redact = parse_classes(options.redact, "--redact") if options.redact else NOTHING
        notes = tuple([read_note(path) for path in options.checkpoint])
        if options.final:
            notes += (_write_final(paths, options),)
        labels = (("redact", ",".join(sorted(redact))),) if redact else ()
        record_operation(paths, "evidence", container, labels)
        written = write_evidence(paths, container, output, redact=redact, notes=notes)
    for run in written.runs:
        sys.stdout.write(f"run {run.run} {STATES[run.state]}: {run.event_count} receipts\n")
    if written.redacted:
        sys.stdout.write(f"{written.redacted} values redacted\n")
    sys.stdout.write(f"{output}: {written.size_bytes} bytes\n")
    return 0


def _write_final(paths: Paths, options: Namespace) -> bytes:
    """The light proof of the newest final state of the host's log; its checkpoint."""
    from chainlite.proofs.light_format import encode_light
    from docklock.cli.prove import ask_finality, write_proof
    from docklock.evidence.final_proving import sign_final_checkpoint
    from docklock.evidence.keyring import get_fingerprint

    host = bytes.fromhex(get_fingerprint(paths))
    anchored = ask_finality(paths, options.chain, host, "newest", options.trusted_height)
    note = sign_final_checkpoint(paths, anchored)
    write_proof(options.final, encode_light(anchored))
    return note


def _run_erase(argv: list[str], paths: Paths) -> int:
    from chainlite.redaction import parse_classes
    from docklock.cli.arguments import Parser
    from docklock.evidence.erasing import erase_values
    from docklock.evidence.operations import record_operation
    from docklock.evidence.reading import find_evidence
    from docklock.outbox.holding import check_sent

    parser = Parser(
        prog="docklock evidence erase",
        description="Erase a stopped container's stored values for good; its proofs stay.",
        examples=("docklock evidence erase --values all job",),
    )
    parser.add_argument("container", metavar="CONTAINER")
    parser.add_argument(
        "--values", metavar="CLASSES", required=True, help="argv,paths,addresses,strings,env,all"
    )
    options = parser.parse_args(argv)
    container = find_evidence(paths, options.container)
    with About(container):
        classes = parse_classes(options.values, "--values")
        check_sent(paths, container)
        labels = (("values", ",".join(sorted(classes))),)
        record_operation(paths, "erase", container, labels)
        erased = erase_values(paths, container, classes)
    sys.stdout.write(
        f"{erased.segments} segments written anew; {erased.values} values of this container are "
        "gone for good\n"
    )
    return 0
