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


def find_program(paths: Paths, *, parent: int = 0) -> list[str]:
    """The words before a command; they name the root, if the environment does not.

    With `parent` the command ends when that process, or the thread of it that began it, does.
    """
    where = [os.path.abspath(entry) for entry in sys.path if entry]
    bound = f"from docklock.program import end_with; end_with({parent}); " if parent else ""
    text = (
        f"import sys; sys.path[:] = {where!r}; sys.argv[0] = 'docklock'; {bound}"
        "from docklock.cli.main import main; main()"
    )
    root = [] if paths == get_paths() else ["--root", paths.state, "--runroot", paths.run]
    return [sys.executable, "-S", "-c", text, *root]


def end_with(parent: int) -> None:
    """End this process when its parent does; at once, if that is gone already."""
    from docklock.kernel.process import SIGTERM, set_death_signal

    set_death_signal(SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


def is_wanted(parent: int) -> bool:
    """Whether process `parent` is still this one's parent (0: whatever it is)."""
    return not parent or os.getppid() == parent
