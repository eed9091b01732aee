"""`docklock evidence CONTAINER -o FILE`: write a container's evidence to one file.

Not here: the file's format (chainlite.bundle) and its checks (chainlite.verify).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docklock.paths import Paths


def run_evidence(argv: list[str], paths: Paths) -> int:
    """Write the file; TamperError if what this host holds is not whole."""
    import argparse

    from chainlite.bundle import STATES
    from docklock.evidence.export import write_evidence
    from docklock.evidence.reading import find_evidence

    parser = argparse.ArgumentParser(
        prog="docklock evidence", description="Write a container's evidence to one file."
    )
    parser.add_argument("container", metavar="CONTAINER")
    parser.add_argument("-o", "--output", metavar="FILE", required=True)
    options = parser.parse_args(argv)
    container = find_evidence(paths, options.container)
    written = write_evidence(paths, container, options.output)
    for run in written.runs:
        sys.stdout.write(f"run {run.run} {STATES[run.state]}: {run.event_count} receipts\n")
    sys.stdout.write(f"{options.output}: {written.size_bytes} bytes\n")
    return 0
