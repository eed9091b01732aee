"""How large the log is that was published last: nothing smaller is ever signed again.

Not here: publishing (tiles). Read at each commit of the log, so it is a few lines and no more.
"""

from __future__ import annotations

import os

from chainlite.errors import TamperError

PUBLISHED = "checkpoint"
"""The file in the log's directory, beside the tiles."""


def read_published_size(path: str) -> int:
    """The size in the checkpoint that was published last; 0 if there is none. Checks no signature.

    TamperError where it is not one: then nobody knows what was published.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        lines = os.read(fd, 512).split(b"\n")
    finally:
        os.close(fd)
    if len(lines) < 4 or not lines[1].isdigit():
        raise TamperError(f"{path}: not a checkpoint: `docklock log fsck` says more")
    return int(lines[1])
