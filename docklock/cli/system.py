"""`docklock system df`, `prune` and `check`: what takes space, removing what nobody uses, and
whether the image store is whole.

Evidence takes space and is never pruned. Not here: how images and containers are removed.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from chainlite.errors import SpecError, StateError
from docklock.cli import options
from docklock.cli.containers import remove
from docklock.cli.options import Command, check_count, choose_verb, flag, text
from docklock.cli.prune_filters import PRUNE_FILTER, PruneFilters, parse_created_ns
from docklock.image.listing import show_size
from docklock.image.remove import remove_image
from docklock.image.store import ImageStore
from docklock.lifecycle import is_live, list_containers, read_container

if TYPE_CHECKING:
    from docklock.paths import Paths

DF = Command(
    "system df",
    "[OPTIONS]",
    "Show what takes space.",
    (
        text("--format", help="a Go template, 'table TEMPLATE', table or json", metavar="FORMAT"),
        flag("-v", "--verbose", help="each image, container and evidence file"),
    ),
    examples=("docklock system df -v",),
)
PRUNE = Command(
    "system prune",
    "[OPTIONS]",
    "Remove containers that do not run and images without a name. Evidence stays.",
    (
        flag("-a", "--all", help="all images that no container uses, not only nameless ones"),
        PRUNE_FILTER,
        flag("-f", "--force", help="do not ask"),
    ),
    examples=(
        "docklock system prune -f",
        "docklock system prune -a",
    ),
)
CHECK = Command(
    "system check",
    "[OPTIONS]",
    "Read every blob of the image store against its digest; exit with 1 if it is not whole.",
    (text("--format", help="json: one object", metavar="json"),),
    examples=("docklock system check",),
)
BLOCK_BYTES = 512
WARNING = """WARNING! This will remove:
  - all containers that do not run
  - all {what}
Their evidence stays.
{filters}
Are you sure you want to continue? [y/N] """


def run_system(argv: list[str], paths: Paths) -> int:
    """`docklock system`: df, prune or check."""
    from docklock.cli.disk_usage import run_df

    verbs = {"check": (CHECK, run_check), "df": (DF, run_df), "prune": (PRUNE, run_prune)}
    verb = choose_verb("system", {name: command for name, (command, _) in verbs.items()}, argv)
    return verbs[verb][1](argv[1:], paths)


def run_check(argv: list[str], paths: Paths) -> int:
    """`docklock system check`: a line for each problem, and one that says what was read."""
    from docklock.image.check import check_store

    values, words = options.parse(CHECK, argv)
    check_count(CHECK, words, 0, 0)
    if values["format"] not in (None, "json"):
        raise SpecError("docklock system check: --format takes json")
    found = check_store(paths)
    if values["format"]:
        print(json.dumps(found._asdict()))
        return int(bool(found.problems))
    for image, why in found.problems:
        print(f"{image}: {why}")
    if found.leftovers:
        print(f"{found.leftovers} leftovers of writers that were killed: the next one removes them")
    size = show_size(found.blob_bytes)
    print(f"{found.images} images, {found.blobs} blobs, {size} read: ", end="")
    print(
        "NOT WHOLE: docklock rmi -f and another load, import or pull mend an image"
        if found.problems
        else "whole"
    )
    return int(bool(found.problems))


def run_prune(argv: list[str], paths: Paths) -> int:
    """`docklock system prune`: each removal is on record as if asked for by name."""
    values, words = options.parse(PRUNE, argv)
    check_count(PRUNE, words, 0, 0)
    filters = PruneFilters(PRUNE.name, values["filter"])
    if not values["force"]:
        what = "images that no container uses" if values["all"] else "images without a name"
        sys.stdout.write(WARNING.format(what=what, filters=filters.describe()))
        sys.stdout.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return 0
    before = measure_tree(paths.containers) + measure_tree(paths.images)
    containers = prune_containers(paths, filters)
    images = prune_images(paths, filters, is_all=values["all"])
    for name, lines in (("Containers", containers), ("Images", images)):
        if lines:
            print(f"Deleted {name}:", *lines, "", sep="\n")
    freed = before - measure_tree(paths.containers) - measure_tree(paths.images)
    print(f"Total reclaimed space: {show_size(max(0, freed))}")
    return 0


def prune_containers(paths: Paths, filters: PruneFilters) -> list[str]:
    """Remove every container that does not run and fits; their ids."""
    removed = []
    for container_id in list_containers(paths):
        if is_live(paths, container_id):
            continue
        try:
            container = read_container(paths, container_id)
            if not filters.fits(container.created_ns, dict(container.labels)):
                continue
            remove(paths, container_id, force=False)
        except StateError:
            continue  # it has just been started, or removed
        removed.append(container_id)
    return removed


def prune_images(paths: Paths, filters: PruneFilters, *, is_all: bool) -> list[str]:
    """Remove images that no container uses and that fit, nameless or all; Docker's lines."""
    lines: list[str] = []
    used, store = find_used(paths), ImageStore(paths)
    entries = store.list_entries()
    for entry in entries:
        if entry.image_id in used or (entry.reference and not is_all):
            continue
        if filters.is_any:
            image = store.read_image(entry, entries)
            if not filters.fits(parse_created_ns(image.created), dict(image.config.labels)):
                continue
        try:
            lines += remove_image(paths, entry.reference or entry.image_id, is_forced=False)
        except StateError:
            continue  # a container of it has just been made
    return lines


def find_used(paths: Paths) -> set[str]:
    """The images of all containers."""
    found = set()
    for container_id in list_containers(paths):
        try:
            found.add(read_container(paths, container_id).image_id)
        except StateError:
            continue
    return found


def measure_tree(path: str) -> int:
    """The bytes on disk of a file or directory; each inode once; other mounts are left out.

    Where a path gets longer than the kernel takes, what lies below is not counted.
    """
    size, seen, left = 0, set(), [path]
    device = None
    while left:
        here = left.pop()
        try:
            status = os.lstat(here)
            inner = os.listdir(here) if os.path.isdir(here) and not os.path.islink(here) else []
        except OSError:
            continue
        device = status.st_dev if device is None else device
        if status.st_dev != device or status.st_ino in seen:
            continue
        seen.add(status.st_ino)
        size += status.st_blocks * BLOCK_BYTES
        left += [f"{here}/{name}" for name in inner]
    return size
