"""Where forks are kept, and which there are. Not here: what they say and who keeps them (forks)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docklock.paths import Paths

SUFFIX = ".fork"


def list_forks(paths: Paths) -> list[str]:
    """The files of all forks that are kept here."""
    directory = get_directory(paths)
    names = os.listdir(directory) if os.path.isdir(directory) else []
    return sorted(f"{directory}/{name}" for name in names if name.endswith(SUFFIX))


def get_directory(paths: Paths) -> str:
    """The directory of the files."""
    return f"{paths.state}/forks"
