"""Remove a directory tree that a hostile container filled: any depth, any names, no recursion."""

from __future__ import annotations

import errno
import os


def remove_tree(top: str) -> None:
    """Remove `top` and all below it; nothing happens if it is not there.

    A directory that is not empty is renamed into `top` and emptied later, so that neither the depth
    of the tree nor the length of its paths matters. Never follows a symbolic link. The tree must
    not be in use: its container is dead.
    """
    try:
        top_fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _remove_entries(top_fd)
    finally:
        os.close(top_fd)
    os.rmdir(top)


def _remove_entries(top_fd: int) -> None:
    moved = 0
    while names := os.listdir(top_fd):
        for name in names:
            try:
                os.unlink(name, dir_fd=top_fd)
                continue
            except IsADirectoryError:
                pass
            fd = os.open(
                name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top_fd
            )
            try:
                for child in os.listdir(fd):
                    moved = _remove_or_move(fd, child, top_fd, moved)
            finally:
                os.close(fd)
            os.rmdir(name, dir_fd=top_fd)


def _remove_or_move(fd: int, name: str, top_fd: int, moved: int) -> int:
    """Remove `name` in `fd`, or move it into the top as the next free number; the last number."""
    try:
        os.unlink(name, dir_fd=fd)
        return moved
    except IsADirectoryError:
        pass
    while True:
        moved += 1
        try:
            os.rename(name, f".docklock-{moved}", src_dir_fd=fd, dst_dir_fd=top_fd)
            return moved
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
