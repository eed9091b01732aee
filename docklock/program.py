"""The words that run this docklock again, in a process of its own.

Not the words that ran this one: those may be relative to a directory that we have left. The new
process finds its modules where this one found them, and pays for no site-packages of its own.
"""

from __future__ import annotations

import os
import sys

from chainlite.lean import TYPE_CHECKING
from docklock.paths import get_paths

if TYPE_CHECKING:
    from docklock.paths import Paths


def find_program(paths: Paths) -> list[str]:
    """The words before a command; they name the root, if the environment does not."""
    where = [os.path.abspath(entry) for entry in sys.path if entry]
    text = (
        f"import sys; sys.path[:] = {where!r}; sys.argv[0] = 'docklock'; "
        "from docklock.cli.main import main; main()"
    )
    root = [] if paths == get_paths() else ["--root", paths.state, "--runroot", paths.run]
    return [sys.executable, "-S", "-c", text, *root]


def is_wanted(parent: int) -> bool:
    """Whether process `parent` is still this one's parent (0: whatever it is)."""
    return not parent or os.getppid() == parent
