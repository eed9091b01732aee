"""A container's root file system as a tar: what `docklock export` writes.

What is mounted in it is not its own: a directory comes out empty, a file of length 0, as with
Docker. Not here: where the root is (root), how a tree becomes a tar (docklock.image.tree). The
container may be hostile and running: the tree is walked by descriptors, no link is followed, and
only regular files are opened.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from docklock.image import tar
from docklock.image.tar import TarEntry, show_name
from docklock.image.tarwrite import encode_header
from docklock.image.tree import TreeStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class RootStream(TreeStream):
    """The tar of the directory `root`, a descriptor; `note` is told what was gone by then."""

    def __init__(self, root: int, note: Callable[[str], None]) -> None:
        self._mount = read_mount_id(root)
        self._note = note
        super().__init__(f"/proc/self/fd/{root}")

    def _emit(self, directory: int, path: bytes, name: bytes, depth: int) -> Iterator[bytes]:
        try:
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            is_file = not stat.S_ISDIR(found.st_mode)
            # Files of an overlay whose layers lie on several file systems have other devices, too.
            if is_file and found.st_dev != self._device and not self._is_own(directory, name):
                yield encode_header(TarEntry(path, tar.FILE, 0o644, 0, 0, 0, 0))
                return
            yield from super()._emit(directory, path, name, depth)
        except FileNotFoundError:
            self._note(f"{show_name(path)} was removed while it was read")

    def _is_own(self, directory: int, name: bytes) -> bool:
        held = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            return read_mount_id(held) == self._mount
        finally:
            os.close(held)


def read_mount_id(fd: int) -> int:
    """Of the mount that an open file lies in."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        return next(int(line[7:]) for line in file if line.startswith("mnt_id:"))
