"""`docklock export` and `diff`: a container's root file system as a tar, and what it has changed.

Not here: how it is read (docklock.copy).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from chainlite.errors import About, StateError
from chainlite.report import escape
from docklock.cli import options
from docklock.cli.options import Command, check_count, text
from docklock.cli.save import write_output
from docklock.copy.diff import find_changes
from docklock.copy.export import RootStream
from docklock.copy.root import ContainerRoot
from docklock.evidence.operations import record_operation
from docklock.image.stream import CHUNK_BYTES
from docklock.lifecycle import find_container, read_container
from docklock.runtime import read_spec

if TYPE_CHECKING:
    from docklock.cli.save import Write
    from docklock.paths import Paths

EXPORT = Command(
    "export",
    "[OPTIONS] CONTAINER",
    "Write a container's root file system as a tar; to stdout without -o. Mounts are left out.",
    (text("-o", "--output", help="write there, whole or not at all", metavar="FILE"),),
    examples=(
        "docklock export -o web.tar web",
        "docklock export web | tar -t",
    ),
)
DIFF = Command(
    "diff",
    "[OPTIONS] CONTAINER",
    "Show what a container has added (A), changed (C) and deleted (D).",
    (text("--format", help="a Go template, 'table TEMPLATE', table or json", metavar="FORMAT"),),
    examples=("docklock diff web", "docklock diff --format json web"),
)


def run_export(argv: list[str], paths: Paths) -> int:
    """`docklock export`: on record, for data leaves this host."""
    values, words = options.parse(EXPORT, argv)
    check_count(EXPORT, words, 1, 1)
    container_id = find_container(paths, words[0])
    with About(container_id):
        write_output("export", values["output"], lambda write: export(paths, container_id, write))
    return 0


def export(paths: Paths, container_id: str, write: Write) -> None:
    """The tar, through `write`."""
    with ContainerRoot(paths, container_id) as root:
        record_operation(paths, "export", container_id)
        stream = RootStream(root, lambda line: print(f"docklock: {line}", file=sys.stderr))
        try:
            while data := stream.read(CHUNK_BYTES):
                write(data)
        finally:
            stream.close()


def run_diff(argv: list[str], paths: Paths) -> int:
    """`docklock diff`: sorted by path; nothing for a container that changed nothing."""
    values, words = options.parse(DIFF, argv)
    check_count(DIFF, words, 1, 1)
    container = read_container(paths, find_container(paths, words[0]))
    if not container.layers:
        raise StateError(f"container {container.name} has no image: there is nothing to compare")
    mounted = frozenset(os.fsencode(mount.destination) for mount in read_spec(container).mounts)
    changes = find_changes(f"{container.bundle}/upper", container.layers, mounted)
    rows = [{"Type": kind, "Path": escape(os.fsdecode(path))} for path, kind in changes]
    if values["format"] in (None, "table"):
        sys.stdout.write("".join(f"{row['Type']} {row['Path']}\n" for row in rows))
        return 0
    from docklock.cli.template import show_rows

    sys.stdout.write(show_rows(rows, values["format"], {"Type": "CHANGE TYPE", "Path": "PATH"}))
    return 0
