"""`docklock image prune` and `container prune`: remove what nobody uses, of one kind.

Not here: how (docklock.cli.system, which prunes both kinds).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from docklock.cli import options
from docklock.cli.options import Command, check_count, flag
from docklock.cli.prune_filters import PRUNE_FILTER, PruneFilters
from docklock.cli.system import measure_tree, prune_containers, prune_images
from docklock.image.listing import show_size

if TYPE_CHECKING:
    from docklock.paths import Paths

FORCE = flag("-f", "--force", help="do not ask")
IMAGES = Command(
    "image prune",
    "[OPTIONS]",
    "Remove images without a name.",
    (flag("-a", "--all", help="all images that no container uses"), PRUNE_FILTER, FORCE),
    examples=("docklock image prune -a -f",),
)
CONTAINERS = Command(
    "container prune", "[OPTIONS]", "Remove containers that do not run; their evidence stays.",
    (PRUNE_FILTER, FORCE),
    examples=("docklock container prune -f",),
)  # fmt: skip
QUESTION = "Are you sure you want to continue? [y/N] "
WARNINGS = {
    "dangling": "WARNING! This will remove all dangling images.",
    "all": "WARNING! This will remove all images without at least one container associated to"
    " them.",
    "containers": "WARNING! This will remove all stopped containers.",
}


def run_image_prune(argv: list[str], paths: Paths) -> int:
    """`docklock image prune`: each removal is on record as if asked for by name."""
    values, words = options.parse(IMAGES, argv)
    check_count(IMAGES, words, 0, 0)
    filters = PruneFilters(IMAGES.name, values["filter"])
    if not values["force"] and not ask(WARNINGS["all" if values["all"] else "dangling"], filters):
        return 0
    before = measure_tree(paths.images)
    lines = prune_images(paths, filters, is_all=values["all"])
    tell("Images", lines, before, measure_tree(paths.images))
    return 0


def run_container_prune(argv: list[str], paths: Paths) -> int:
    """`docklock container prune`: each removal is on record as if asked for by name."""
    values, words = options.parse(CONTAINERS, argv)
    check_count(CONTAINERS, words, 0, 0)
    filters = PruneFilters(CONTAINERS.name, values["filter"])
    if not values["force"] and not ask(WARNINGS["containers"], filters):
        return 0
    before = measure_tree(paths.containers)
    lines = prune_containers(paths, filters)
    tell("Containers", lines, before, measure_tree(paths.containers))
    return 0


def ask(warning: str, filters: PruneFilters) -> bool:
    """Docker's question; only y and yes are consent."""
    sys.stdout.write(f"{warning}\n{filters.describe()}{QUESTION}")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def tell(noun: str, lines: list[str], before: int, after: int) -> None:
    """What was removed, and the bytes that this freed."""
    if lines:
        print(f"Deleted {noun}:", *lines, "", sep="\n")
    print(f"Total reclaimed space: {show_size(max(0, before - after))}")
