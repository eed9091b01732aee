"""`docklock push`: Docker's words and lines. Not here: pushing itself (docklock.image.push)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from chainlite.errors import SpecError, StateError
from docklock.cli import options
from docklock.cli.options import Command, check_count, flag

if TYPE_CHECKING:
    from docklock.image.reference import Reference
    from docklock.image.store import Entry
    from docklock.paths import Paths

PUSH = Command(
    "push",
    "[OPTIONS] NAME[:TAG]",
    "Send an image to a registry.",
    (
        flag("-a", "--all-tags", help="all tags of the name"),
        flag("-q", "--quiet", help="print the image's name alone"),
    ),
    examples=("docklock push registry.example.org:5000/team/app:1",),
)


def run_push(argv: list[str], paths: Paths) -> int:
    """`docklock push`: a line a layer, then the digest."""
    from docklock.image.credentials import find_login
    from docklock.image.progress import Progress
    from docklock.image.push import push_image
    from docklock.image.reference import get_familiar_name, parse_reference
    from docklock.image.registry import Repository
    from docklock.image.store import ImageStore

    values, words = options.parse(PUSH, argv)
    check_count(PUSH, words, 1, 1)
    reference = parse_reference(words[0])
    if reference.digest:
        raise SpecError(f"{words[0]}: cannot push a digest reference")
    has_tag = ":" in words[0].rpartition("/")[2]
    if values["all_tags"] and has_tag:
        raise SpecError("tag can't be used with --all-tags/-a")
    is_quiet = values["quiet"]
    if not is_quiet and not values["all_tags"] and not has_tag:
        print(f"Using default tag: {reference.tag}", flush=True)
    entries = ImageStore(paths).list_entries()
    found = _choose(entries, reference, is_all=values["all_tags"])
    login = find_login(reference.name.partition("/")[0])
    if not is_quiet:
        shown = get_familiar_name(reference.name)
        print(f"The push refers to repository [{shown}]", flush=True)
    for entry in found:
        name = parse_reference(entry.reference)
        repository = Repository(name, login, actions="pull,push")
        push_image(paths, name, entry, repository, Progress(None if is_quiet else sys.stdout))
        if is_quiet:
            print(name.text)
    return 0


def _choose(entries: tuple[Entry, ...], reference: Reference, *, is_all: bool) -> list[Entry]:
    if is_all:
        found = [item for item in entries if item.reference.startswith(f"{reference.name}:")]
    else:
        found = [item for item in entries if item.reference == reference.text]
    if not found:
        raise StateError(f"An image does not exist locally with the tag: {reference.familiar}")
    return found
