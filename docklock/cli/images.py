"""The commands over images: import, load, rmi, tag. Docker's words and output shapes.

Not here: what they do (docklock.image), the list (image_list). Each takes its arguments without
its own name.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from chainlite.errors import DocklockError, SpecError
from docklock.cli import options
from docklock.cli.options import Command, check_count, flag, listed, text

if TYPE_CHECKING:
    from typing import BinaryIO

    from docklock.paths import Paths

IMPORT = Command(
    "import",
    "[OPTIONS] DIR|TAR|- [NAME[:TAG]]",
    "Make an image of a root file system: a directory, a tar, or - for a tar on stdin.",
    (
        listed("-c", "--change", help="a Dockerfile instruction to apply", metavar="TEXT"),
        text("-m", "--message", help="a comment for docklock history", metavar="TEXT"),
    ),
    examples=(
        "docklock import rootfs busybox",
        "tar -C rootfs -c . | docklock import -c 'CMD [\"/bin/sh\"]' - busybox:1",
    ),
)
LOAD = Command(
    "load",
    "[OPTIONS]",
    "Load images that docker, podman or skopeo saved; from stdin without -i.",
    (
        text("-i", "--input", help="tar or directory", metavar="FILE|DIR"),
        flag("-q", "--quiet", help="accepted for Docker's sake; nothing is shown"),
    ),
    examples=(
        "docklock load -i images.tar",
        "docker save debian:12 | docklock load",
    ),
)
RMI = Command(
    "rmi",
    "[OPTIONS] NAME|ID...",
    "Remove images: a name, and with the last one the image.",
    (flag("-f", "--force", help="also if it has more names, or a container uses it"),),
    examples=("docklock rmi busybox:1",),
)
TAG = Command(
    "tag",
    "SOURCE[:TAG] TARGET[:TAG]",
    "Give an image one more name.",
    examples=("docklock tag busybox registry.example.org/team/busybox:1.36",),
)


def run_import(argv: list[str], paths: Paths) -> int:
    """import DIR|TAR|- [NAME[:TAG]]: prints the image's ID."""
    import os

    from docklock.image.imports import import_directory, import_tar
    from docklock.image.reference import parse_reference

    values, words = options.parse(IMPORT, argv)
    check_count(IMPORT, words, 1, 2)
    source, name, changes = words[0], words[1] if words[1:] else "", values["change"]
    message = values["message"] or ""
    reference = parse_reference(name) if name else None
    if reference is not None and reference.digest:
        raise SpecError(f"{name}: an image is named NAME[:TAG]; its digest is computed")
    if source == "-":
        image_id = import_tar(paths, sys.stdin.buffer, "-", reference, changes, message)
    elif os.path.isdir(source):
        image_id = import_directory(paths, source, reference, changes, message)
    else:
        with _open(source) as file:
            image_id = import_tar(paths, file, source, reference, changes, message)
    print(image_id)
    return 0


def run_load(argv: list[str], paths: Paths) -> int:
    """load [-i FILE|DIR]: a docker archive or an OCI layout, from stdin without -i."""
    import os

    from docklock.image.archive import load_archive, load_directory
    from docklock.image.reference import parse_reference

    values, words = options.parse(LOAD, argv)
    check_count(LOAD, words, 0, 0)
    source = values["input"]
    if source is None:
        if sys.stdin.isatty():
            raise SpecError("load reads a tar from stdin, which is a terminal: use -i FILE")
        found = load_archive(paths, sys.stdin.buffer, "stdin")
    elif os.path.isdir(source):
        found = load_directory(paths, source)
    else:
        with _open(source) as file:
            found = load_archive(paths, file, source)
    for entry in found:
        if entry.reference:
            print(f"Loaded image: {parse_reference(entry.reference).familiar}")
        else:
            print(f"Loaded image ID: {entry.image_id}")
    return 0


def run_rmi(argv: list[str], paths: Paths) -> int:
    """rmi NAME|ID...: every one is tried; exit 1 if any could not be removed."""
    from docklock.image.remove import remove_image

    values, words = options.parse(RMI, argv)
    check_count(RMI, words, 1)
    exit_code = 0
    for name in words:
        try:
            lines = remove_image(paths, name, is_forced=values["force"])
        except DocklockError as error:
            from docklock.cli.denied import report_denial

            print(f"docklock: {error}", file=sys.stderr)
            exit_code = max(exit_code, error.exit_code)
            report_denial(paths, "rmi", error, error.exit_code)
        else:
            sys.stdout.write("".join(f"{line}\n" for line in lines))
    return exit_code


def run_tag(argv: list[str], paths: Paths) -> int:
    """tag SOURCE TARGET: prints nothing."""
    from docklock.image.naming import tag_image

    _, words = options.parse(TAG, argv)
    check_count(TAG, words, 2, 2)
    tag_image(paths, words[0], words[1])
    return 0


def _open(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror}") from None
