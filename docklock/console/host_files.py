"""What a container has changed of its image, from the upper directory of its overlay.

A name that hides one of the image is D, one that the image has is C, another one A, as `docker
diff` says it; directories above a change are C as well. The tree is the container's, which changes
it meanwhile: no symbolic link is followed, no mount is entered.
Invariant: at most ENTRIES_MAX entries are looked at, for SPENT_MAX_NS at most
(tests/console/test_host_details.py).
"""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

from docklock.console.facts import FileChange
from docklock.image.unpack import OPAQUE_XATTR, is_whiteout
from docklock.kernel import mount as kernel
from docklock.supervisor.storage import scan_beneath

if TYPE_CHECKING:
    from collections.abc import Iterable

    from docklock.plan import Overlay

ENTRIES_MAX = 20_000
SPENT_MAX_NS = 200_000_000
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_RESOLVE = kernel.RESOLVE_BENEATH | kernel.RESOLVE_NO_SYMLINKS


class Found:
    """The first changes by name, and how many more there are; -1 if nobody counted to the end."""

    def __init__(self) -> None:
        self.changes: list[FileChange] = []
        self.more = 0


class Layers:
    """The layers of an image, open for questions."""

    def __init__(self, paths: tuple[str, ...]) -> None:
        self._fds: list[int] = []
        try:
            for path in paths:
                self._fds.append(os.open(path, _DIRECTORY))
        except OSError:
            self.close()
            raise

    def has(self, path: str) -> bool:
        """Whether the image has the name: in its topmost layer that says anything of it."""
        for layer in self._fds:
            fd = kernel.try_openat2(layer, path, os.O_PATH | os.O_NOFOLLOW, _RESOLVE)
            if fd < 0:
                continue
            try:
                return not is_whiteout(os.fstat(fd))
            finally:
                os.close(fd)
        return False

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)


def find_changes(overlay: Overlay, hidden: Iterable[str], limit: int) -> Found:
    """The first `limit` changes, a directory before what it holds. OSError if it is gone.

    `hidden` are what docklock itself mounts there, which is no change of the container's.
    """
    found, until_ns = Found(), time.monotonic_ns() + SPENT_MAX_NS
    upper = os.open(overlay.upper, _DIRECTORY)
    layers = None
    try:
        layers = Layers(overlay.lowers)
        left, count = [("", False)], 0
        while left and found.more >= 0:
            here, is_new = left.pop()
            below = []
            for name, status in sorted(read_directory(upper, here)):
                count += 1
                if count > ENTRIES_MAX or time.monotonic_ns() > until_ns:
                    found.more = -1
                    break
                path = f"{here}/{name}"
                if len(found.changes) >= limit:
                    found.more += 1
                else:
                    found.changes.append(judge(layers, path, status, is_new=is_new))
                if stat.S_ISDIR(status.st_mode):
                    below.append((path, is_new or is_opaque(upper, path)))
            left += reversed(below)
    finally:
        os.close(upper)
        if layers is not None:
            layers.close()
    found.changes = drop_hidden(found.changes, hidden)
    return found


def read_directory(top: int, path: str) -> list[tuple[str, os.stat_result]]:
    """Names and what they are; those that vanish meanwhile are left out."""
    found = []
    for entry in scan_beneath(top, f".{path}"):
        try:
            found.append((entry.name, entry.stat(follow_symlinks=False)))
        except OSError:
            continue
        if len(found) > ENTRIES_MAX:
            break
    return found


def judge(layers: Layers, path: str, status: os.stat_result, *, is_new: bool) -> FileChange:
    """One entry of the upper directory; `is_new`: nothing of the image shows below its parent."""
    if is_whiteout(status):
        return FileChange("D", path)
    kind = "C" if not is_new and layers.has(f".{path}") else "A"
    return FileChange(kind, path, status.st_size)


def drop_hidden(changes: list[FileChange], hidden: Iterable[str]) -> list[FileChange]:
    """Without what is hidden, and without directories that are only there to hold it."""
    taken = set(hidden)
    above = {path[:at] for path in taken for at in range(1, len(path)) if path[at] == "/"}
    kept = [one for one in changes if one.path not in taken]
    needed = {one.path[:at] for one in kept for at in range(len(one.path)) if one.path[at] == "/"}
    return [one for one in kept if one.path not in above or one.path in needed]


def is_opaque(top: int, path: str) -> bool:
    """Whether a directory shows nothing of the image's."""
    fd = kernel.try_openat2(top, f".{path}", os.O_RDONLY | os.O_DIRECTORY, _RESOLVE)
    if fd < 0:
        return False
    try:
        return os.getxattr(fd, OPAQUE_XATTR) == b"y"
    except OSError:
        return False
    finally:
        os.close(fd)
