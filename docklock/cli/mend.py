"""`docklock mend`: what the agent does after a crash or a boot, as a command of its own."""

from __future__ import annotations

from chainlite.lean import TYPE_CHECKING
from docklock.cli import options
from docklock.cli.options import Command, check_count, flag

if TYPE_CHECKING:
    from docklock.paths import Paths

MEND = Command(
    "mend",
    "[OPTIONS]",
    "Mend what lost its supervisor, and start what its restart policy says; print their ids.",
    (flag("--wanted", help="take the agent's request, and tell it when it is done"),),
    examples=("docklock mend",),
)


def run_mend(argv: list[str], paths: Paths) -> int:
    """`docklock mend`: 1 if a dead run cannot be mended now (its disk is full)."""
    values, words = options.parse(MEND, argv)
    check_count(MEND, words, 0, 0)
    if not values["wanted"]:
        return 0 if _mend(paths) else 1
    from docklock import wanted

    text, is_whole = wanted.take(paths), False
    try:
        is_whole = _mend(paths)
    finally:
        wanted.tell(paths, text, is_whole=is_whole)
    return 0 if is_whole else 1


def _mend(paths: Paths) -> bool:
    from docklock.cli.main import mend
    from docklock.revive import revive

    try:
        is_whole = mend(paths)
    except BrokenPipeError:  # who asked was killed: what is due is started all the same
        is_whole = True
    for container_id in revive(paths):
        print(container_id)
    return is_whole
