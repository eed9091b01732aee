"""`docklock mend`: what the agent does after a crash or a boot, as a command of its own."""

from __future__ import annotations

from chainlite.lean import TYPE_CHECKING
from docklock.cli import options
from docklock.cli.options import Command, check_count

if TYPE_CHECKING:
    from docklock.paths import Paths

MEND = Command(
    "mend",
    "",
    "Mend what lost its supervisor, and start what its restart policy says; print their ids.",
)


def run_mend(argv: list[str], paths: Paths) -> int:
    """`docklock mend`: 1 if a dead run cannot be mended now (its disk is full)."""
    from docklock.cli.main import mend
    from docklock.revive import revive

    _, words = options.parse(MEND, argv)
    check_count(MEND, words, 0, 0)
    is_whole = mend(paths)
    for container_id in revive(paths):
        print(container_id)
    return 0 if is_whole else 1
