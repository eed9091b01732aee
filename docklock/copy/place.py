"""Find what a path means in a root that may be hostile, and may change while we look.

A root is a descriptor: a container's, or the host's own `/` (the other end of a copy goes by the
same rules). Every lookup is openat2 with RESOLVE_IN_ROOT (docklock.inroot), or one name in an open
directory, not followed: so no lookup leaves the root at any moment
(tests/e2e/test_cp.py::test_a_hostile_container_leads_nothing_out).
Not here: Docker's rules for trailing slashes (docklock.copy.rules).
"""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

from chainlite.errors import StateError
from docklock.inroot import try_open

LINKS_MAX = 40
DIRECTORY = os.O_PATH | os.O_DIRECTORY
_ALL = ("", ".", "..")


class Place(NamedTuple):
    """`name` in the open directory `parent`, which is at `directory` in the root.

    `found` is None where nothing is there. `name` is `.` where the path has no name of its own.
    """

    parent: int
    directory: str
    name: bytes
    found: os.stat_result | None

    @property
    def path(self) -> str:
        return f"{self.directory}/{os.fsdecode(self.name)}"

    @property
    def is_directory(self) -> bool:
        return self.found is not None and stat.S_ISDIR(self.found.st_mode)


def find_place(root: int, path: str, *, follow: bool) -> Place:
    """Where `path`, from the root on, leads; `follow` a link at its end. StateError.

    The directory that the name is in must exist; it is the caller's to close.
    """
    for _ in range(LINKS_MAX):
        directory, _, name = path.rpartition("/")
        if name in _ALL:
            parent = open_directory(root, path)
            return Place(parent, path, b".", os.stat(".", dir_fd=parent))
        parent = open_directory(root, directory)
        target = b""
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if follow and stat.S_ISLNK(found.st_mode):
                target = os.readlink(os.fsencode(name), dir_fd=parent)
        except FileNotFoundError:
            return Place(parent, directory, os.fsencode(name), None)
        if not target:
            return Place(parent, directory, os.fsencode(name), found)
        os.close(parent)
        text = os.fsdecode(target)
        path = text if text.startswith("/") else f"{directory}/{text}"
    raise StateError(f"{path}: {os.strerror(errno.ELOOP)}")


def open_directory(root: int, path: str) -> int:
    """An O_PATH descriptor of the directory at `path` in the root; StateError if there is none."""
    fd = try_open(root, path, DIRECTORY)
    if fd < 0:
        raise StateError(f"{path or '/'}: {os.strerror(-fd)}")
    return fd
