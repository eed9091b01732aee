"""The commands over images: import, load, images, rmi. Docker's words and output shapes.

Not here: what they do (docklock.image). Each takes its arguments without its own name.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from chainlite.errors import DocklockError, SpecError

if TYPE_CHECKING:
    import argparse
    from typing import BinaryIO

    from docklock.image.store import Entry, ImageStore
    from docklock.paths import Paths

SHORT_ID_CHARS = 12
NONE = "<none>"


def run_import(argv: list[str], paths: Paths) -> int:
    """import DIR|TAR|- [NAME[:TAG]]: prints the image's ID."""
    import os

    from docklock.image.imports import import_directory, import_tar
    from docklock.image.reference import parse_reference

    parser = _make_parser("import", "Make an image from a root file system")
    parser.add_argument("source", metavar="DIR|TAR|-", help="directory, tar, or - for stdin")
    parser.add_argument("name", metavar="NAME[:TAG]", nargs="?", help="what to call the image")
    parser.add_argument(
        "-c", "--change", action="append", default=[], help="a Dockerfile instruction to apply"
    )
    options = parser.parse_args(argv)
    reference = parse_reference(options.name) if options.name else None
    if reference is not None and reference.digest:
        raise SpecError(f"{options.name}: an image is named NAME[:TAG]; its digest is computed")
    if options.source == "-":
        image_id = import_tar(paths, sys.stdin.buffer, "-", reference, options.change)
    elif os.path.isdir(options.source):
        image_id = import_directory(paths, options.source, reference, options.change)
    else:
        with _open(options.source) as file:
            image_id = import_tar(paths, file, options.source, reference, options.change)
    print(image_id)
    return 0


def run_images(argv: list[str], paths: Paths) -> int:
    """images [NAME[:TAG]]: Docker's table, newest first."""
    from docklock.image.store import ImageStore

    parser = _make_parser("images", "List images")
    parser.add_argument("name", metavar="NAME[:TAG]", nargs="?", help="only this name")
    parser.add_argument("-a", "--all", action="store_true", help="accepted; all are shown")
    parser.add_argument("-q", "--quiet", action="store_true", help="only IDs")
    parser.add_argument("--no-trunc", action="store_true", help="whole IDs")
    parser.add_argument("--digests", action="store_true", help="show manifest digests")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    options = parser.parse_args(argv)
    store = ImageStore(paths)
    rows = _get_rows(store, _filter(store.list_entries(), options.name), options)
    if options.quiet:
        sys.stdout.write("".join(f"{key}\n" for key in dict.fromkeys(row["ID"] for row in rows)))
    elif options.format == "json":
        import json

        sys.stdout.write("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))
    else:
        from docklock.image.listing import show_table

        digest = ("Digest",) if options.digests else ()
        keys = ("Repository", "Tag", *digest, "ID", "CreatedSince", "Size")
        head = {"ID": "IMAGE ID", "CreatedSince": "CREATED"}
        cells = [[row[key] for key in keys] for row in rows]
        sys.stdout.write(show_table([head.get(key, key.upper()) for key in keys], cells))
    return 0


def run_load(argv: list[str], paths: Paths) -> int:
    """load [-i FILE|DIR]: a docker archive or an OCI layout, from stdin without -i."""
    import os

    from docklock.image.archive import load_archive, load_directory
    from docklock.image.reference import parse_reference

    parser = _make_parser("load", "Load images that docker, podman or skopeo saved")
    parser.add_argument("-i", "--input", metavar="FILE|DIR", help="tar or directory; else stdin")
    parser.add_argument("-q", "--quiet", action="store_true", help="accepted; nothing is shown")
    options = parser.parse_args(argv)
    if options.input is None:
        if sys.stdin.isatty():
            raise SpecError("load reads a tar from stdin, which is a terminal: use -i FILE")
        found = load_archive(paths, sys.stdin.buffer, "stdin")
    elif os.path.isdir(options.input):
        found = load_directory(paths, options.input)
    else:
        with _open(options.input) as file:
            found = load_archive(paths, file, options.input)
    for entry in found:
        if entry.reference:
            print(f"Loaded image: {parse_reference(entry.reference).familiar}")
        else:
            print(f"Loaded image ID: {entry.image_id}")
    return 0


def run_rmi(argv: list[str], paths: Paths) -> int:
    """rmi NAME|ID...: every one is tried; exit 1 if any could not be removed."""
    from docklock.image.remove import remove_image

    parser = _make_parser("rmi", "Remove images")
    parser.add_argument("names", metavar="NAME|ID", nargs="+", help="images to remove")
    parser.add_argument("-f", "--force", action="store_true", help="also if it has more names")
    options = parser.parse_args(argv)
    exit_code = 0
    for name in options.names:
        try:
            lines = remove_image(paths, name, is_forced=options.force)
        except DocklockError as error:
            from docklock.cli.denied import report_denial

            print(f"docklock: {error}", file=sys.stderr)
            exit_code = max(exit_code, error.exit_code)
            report_denial(paths, "rmi", error, error.exit_code)
        else:
            sys.stdout.write("".join(f"{line}\n" for line in lines))
    return exit_code


def _open(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror}") from None


def _filter(entries: tuple[Entry, ...], name: str | None) -> tuple[Entry, ...]:
    """A name without a tag means all its tags."""
    if not name:
        return entries
    from docklock.image.reference import parse_reference

    wanted = parse_reference(name)
    if ":" in name.rpartition("/")[2]:
        return tuple(item for item in entries if item.reference == wanted.text)
    return tuple(item for item in entries if item.reference.startswith(f"{wanted.name}:"))


def _get_rows(
    store: ImageStore, entries: tuple[Entry, ...], options: argparse.Namespace
) -> list[dict[str, str]]:
    found = [(store.read_image(item, entries).created, item) for item in entries]
    found.sort(key=lambda pair: (pair[0], pair[1].reference), reverse=True)
    return [_get_row(item, created, options) for created, item in found]


def _get_row(entry: Entry, created: str, options: argparse.Namespace) -> dict[str, str]:
    from docklock.image.listing import show_created, show_size
    from docklock.image.reference import get_familiar_name

    name, at, _ = entry.reference.partition("@")
    name, _, tag = (name, "", "") if at else name.rpartition(":")
    created_at, since = show_created(created)
    return {
        "Containers": "N/A",
        "CreatedAt": created_at,
        "CreatedSince": since,
        "Digest": entry.digest if options.digests else NONE,
        "ID": entry.image_id if options.no_trunc else entry.image_id[7 : 7 + SHORT_ID_CHARS],
        "Repository": get_familiar_name(name) if name else NONE,
        "SharedSize": "N/A",
        "Size": show_size(entry.image_bytes),
        "Tag": tag or NONE,
        "UniqueSize": "N/A",
    }


def _make_parser(noun: str, text: str) -> argparse.ArgumentParser:
    import argparse

    return argparse.ArgumentParser(prog=f"docklock {noun}", description=text)
