"""Paths inside a container's root that may be hostile: look up and make, never leaving it.

Every lookup is one openat2(2) with RESOLVE_IN_ROOT, so that a symbolic link of the image, absolute
or with .., ends inside the image; magic links (/proc/PID/fd, /proc/PID/exe) are never followed.
Not here: mounting (docklock.plan, docklock.kernel.mount). Linux >= 5.6.
"""

from __future__ import annotations

import errno
import os
import stat

from docklock.errors import KernelError
from docklock.kernel.call import make_error
from docklock.kernel.mount import (
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    try_openat2,
)

RETRIES_MAX = 32
_INSIDE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS


def try_open(root_fd: int, path: str, flags: int, *, links: bool = True, mode: int = 0) -> int:
    """Open `path` in the root, or return the negative errno: ELOOP at a link without `links`."""
    resolve = _INSIDE if links else _INSIDE | RESOLVE_NO_SYMLINKS
    for _ in range(RETRIES_MAX):
        fd = try_openat2(root_fd, path.strip("/") or ".", flags, resolve, mode)
        # EAGAIN: a rename raced with a `..`; openat2(2) says to try again.
        if fd != -errno.EAGAIN:
            return fd
    return -errno.EAGAIN


def open_path(root_fd: int, path: str, *, links: bool = True) -> int:
    """An O_PATH descriptor of what is at `path`; KernelError if nothing is."""
    fd = try_open(root_fd, path, os.O_PATH, links=links)
    if fd < 0:
        raise make_error(-fd, "openat2", f"open {path} in the container")
    return fd


def open_target(root_fd: int, path: str, *, directory: bool, links: bool = True) -> int:
    """An O_PATH descriptor of a mount point at `path`, made if it is missing."""
    fd = try_open(root_fd, path, os.O_PATH, links=links)
    if fd == -errno.ENOENT:
        make_directories(root_fd, path if directory else os.path.dirname(path), links=links)
        if not directory:
            _make_file(root_fd, path, links=links)
        fd = try_open(root_fd, path, os.O_PATH, links=links)
    if fd < 0:
        raise make_error(-fd, "openat2", f"open the mount point {path}")
    if stat.S_ISDIR(os.fstat(fd).st_mode) != directory:
        os.close(fd)
        number = errno.ENOTDIR if directory else errno.EISDIR
        hint = "a directory mounts on a directory, a file on a file"
        raise KernelError(number, "openat2", f"open the mount point {path}", hint)
    return fd


def make_directories(root_fd: int, path: str, *, links: bool = True, mode: int = 0o755) -> None:
    """Make the directory `path` and its parents, following links only inside the root."""
    parent, done = os.dup(root_fd), ""
    try:
        for name in path.strip("/").split("/"):
            if not name:
                continue
            done = f"{done}/{name}"
            fd = try_open(root_fd, done, os.O_PATH | os.O_DIRECTORY, links=links)
            if fd == -errno.ENOENT:
                # A dangling link makes this EEXIST: it is refused, not followed.
                _make_directory(parent, name, done, mode)
                fd = try_open(root_fd, done, os.O_PATH | os.O_DIRECTORY, links=links)
            if fd < 0:
                raise make_error(-fd, "openat2", f"open the directory {done} in the container")
            os.close(parent)
            parent = fd
    finally:
        os.close(parent)


def _make_directory(parent_fd: int, name: str, path: str, mode: int) -> None:
    try:
        os.mkdir(name, mode, dir_fd=parent_fd)
    except OSError as error:
        hint = "a dangling symbolic link of the image" if error.errno == errno.EEXIST else ""
        step = f"make the directory {path} in the container"
        raise KernelError(error.errno or 0, "mkdirat", step, hint) from None


def _make_file(root_fd: int, path: str, *, links: bool) -> None:
    flags = os.O_CREAT | os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
    fd = try_open(root_fd, path, flags, links=links, mode=0o644)
    if fd < 0:
        raise make_error(-fd, "openat2", f"make the file {path} in the container")
    os.close(fd)


def read_file(root_fd: int, path: str, size_max_bytes: int) -> bytes:
    """A regular file's content; empty if there is none, cut at `size_max_bytes`."""
    fd = try_open(root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    if fd < 0:
        return b""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        chunks, left = [], size_max_bytes
        while left > 0 and (chunk := os.read(fd, left)):
            chunks.append(chunk)
            left -= len(chunk)
        return b"".join(chunks)
    finally:
        os.close(fd)
