"""`docklock prove CONTAINER INDEX`: write the proof of one receipt to a small file.

Not here: its bytes and checks (chainlite.proof), who finds its parts (docklock.evidence.proving).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docklock.paths import Paths

DIGITS_MAX = 19
"""What fits in SQLite's integers."""


def run_prove(argv: list[str], paths: Paths) -> int:
    """Write the file, which `verify` checks alone."""
    import argparse

    from chainlite.proven import render_holder
    from chainlite.redaction import parse_classes
    from chainlite.trust import read_note
    from docklock.client import flush
    from docklock.evidence.export import NOTHING
    from docklock.evidence.proving import make_proof
    from docklock.evidence.reading import find_evidence

    parser = argparse.ArgumentParser(
        prog="docklock prove", description="Write the proof of one receipt to a file."
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
    options = parser.parse_args(argv)
    run, index = parse_index(options.index)
    container = find_evidence(paths, options.container)
    classes = parse_classes(options.values, "--values") if options.values else NOTHING
    note = read_note(options.checkpoint) if options.checkpoint else b""
    flush(paths, container)
    data, proven = make_proof(paths, container, run, index, classes=classes, note=note)
    output = options.output or f"{container[:12]}-{run}-{index}.proof"
    _write(output, data)
    held = render_holder(proven)
    sys.stdout.write(f"{output}: {len(data)} bytes; its epoch's certificate is {held}\n")
    return 0


def parse_index(text: str) -> tuple[int, int]:
    """Run and index of `INDEX` (of run 0) or `RUN:INDEX`; SpecError if it is neither."""
    from chainlite.errors import SpecError

    run, has_run, index = text.rpartition(":")
    words = (run, index) if has_run else (index,)
    if not all(word.isascii() and word.isdigit() and len(word) < DIGITS_MAX for word in words):
        raise SpecError(f"{text!r}: want an index as `docklock receipts` shows it: 5, or 1:5")
    return int(run or "0"), int(index)


def _write(path: str, data: bytes) -> None:
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
