"""`docklock save`: images as one file that docker, podman, skopeo and docklock load.

Not here: what is in it (docklock.image.save).
"""

from __future__ import annotations

import os
import secrets
import stat
import sys
from typing import TYPE_CHECKING

from chainlite.errors import SpecError
from docklock.cli import options
from docklock.cli.options import Command, check_count, text
from docklock.image.save import FORMATS, OCI_DIRECTORY, DirectorySink, TarSink, save_images

if TYPE_CHECKING:
    from collections.abc import Callable

    Write = Callable[[bytes], object]

    from docklock.paths import Paths

SAVE = Command(
    "save",
    "[OPTIONS] IMAGE...",
    "Save images, as docker load takes them; to stdout without -o.",
    (
        text("-o", "--output", help="write there, whole or not at all", metavar="FILE|DIR"),
        text("--format", help=f"{FORMATS[0]} (the default), {FORMATS[1]} or {OCI_DIRECTORY}",
             metavar="FORMAT"),
    ),
    examples=(
        "docklock save -o images.tar debian:12 busybox", "docklock save busybox | docker load",
    ),
)  # fmt: skip


def run_save(argv: list[str], paths: Paths) -> int:
    """`docklock save`: nothing is left of one that fails."""
    values, words = options.parse(SAVE, argv)
    check_count(SAVE, words, 1)
    kind, output = values["format"] or FORMATS[0], values["output"]
    if kind not in FORMATS:
        raise SpecError(f"docklock save: --format takes {', '.join(FORMATS)}; not {kind!r}")
    if kind == OCI_DIRECTORY:
        if not output:
            raise SpecError(f"docklock save: --format {OCI_DIRECTORY} writes a directory: give -o")
        save_images(paths, words, kind, lambda: DirectorySink(output))
        return 0
    write_output(
        "save",
        output,
        lambda write: save_images(paths, words, kind, lambda: TarSink(write)),
    )
    return 0


def write_output(command: str, output: str | None, act: Callable[[Write], None]) -> None:
    """Let `act` write a tar to stdout or to a file, which is there afterwards whole or not at all.

    SpecError, in Docker's words, for a terminal and for a place where no file can be.
    """
    if not output:
        if sys.stdout.isatty():
            raise SpecError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
        act(sys.stdout.buffer.write)
        sys.stdout.buffer.flush()
        return
    directory = os.path.dirname(output) or "."
    if not os.path.isdir(directory):
        raise SpecError(f'invalid output path: directory "{directory}" does not exist')
    if os.path.isdir(output):
        raise SpecError(f'docklock {command}: invalid output path: "{output}" is a directory')
    if _is_special(output):
        with open(output, "wb") as file:
            act(file.write)
        return
    temporary = f"{directory}/.{os.path.basename(output)}.{secrets.token_hex(4)}"
    try:
        with open(temporary, "xb") as file:
            act(file.write)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, output)
    finally:
        if os.path.lexists(temporary):
            os.unlink(temporary)


def _is_special(path: str) -> bool:
    """A pipe or a device: it is written as it is."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return False
