"""Walks a directory tree by descriptors so that no name leads out of it.

Every component is opened with O_NOFOLLOW; a symbolic link among the parents is followed by hand and
inside the tree, as if the tree were the root directory (what chroot, or openat2's
RESOLVE_IN_ROOT, would do). Not here: what is made there (unpack), what is read (layout).
Invariants: every open descriptor is a directory of the tree at most DEPTH_MAX below its root;
nobody else changes the tree meanwhile (it has a temporary name and its owner's lock).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import NamedTuple

from chainlite.errors import SpecError

DEPTH_MAX = 256
LINKS_MAX = 40
NAME_BYTES_MAX = 255
PATH_BYTES_MAX = 4095
DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _Directory(NamedTuple):
    name: bytes
    file: int
    depth: int


class Rooted:
    """A tree, and the chain of open directories that the last name led through.

    `make(parent, name)` makes a missing directory; without it a missing directory is an error.
    """

    def __init__(self, root: int, make: Callable[[int, bytes], None] | None = None) -> None:
        self._make = make
        self._root = os.dup(root)
        self._root_id = _get_id(root)
        self._chain: list[_Directory] = []

    def close(self) -> None:
        self._shorten(0)
        os.close(self._root)

    @property
    def root(self) -> int:
        return self._root

    def open_parent(self, parts: tuple[bytes, ...]) -> int:
        """The directory that `parts` name; valid until the next call. Not the caller's to close."""
        if len(parts) > DEPTH_MAX:
            raise SpecError(f"more than {DEPTH_MAX} directories deep")
        keep = 0
        for known, part in zip(self._chain, parts, strict=False):
            if known.name != part:
                break
            keep += 1
        self._shorten(keep)
        for part in parts[keep:]:
            at = self._chain[-1] if self._chain else _Directory(b"", self._root, 0)
            file, depth = self._enter(at.file, at.depth, part, LINKS_MAX)
            self._chain.append(_Directory(part, file, depth))
        return self._chain[-1].file if self._chain else self._root

    def open_file(self, name: bytes) -> int:
        """A regular file for reading; a symbolic link there is followed inside the tree."""
        parts = split_name(name)
        for _ in range(LINKS_MAX):
            if not parts:
                break
            parent = self.open_parent(parts[:-1])
            try:
                file = os.open(parts[-1], FILE_FLAGS, dir_fd=parent)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise SpecError(f"{name!r}: {os.strerror(error.errno or 0)}") from None
                parts = _join(parts[:-1], os.readlink(parts[-1], dir_fd=parent))
                continue
            if stat.S_ISREG(os.fstat(file).st_mode):
                return file
            os.close(file)
            break
        raise SpecError(f"{name!r} is not a file")

    def _enter(self, at: int, depth: int, name: bytes, links: int) -> tuple[int, int]:
        if depth >= DEPTH_MAX:
            raise SpecError(f"more than {DEPTH_MAX} directories deep")
        try:
            return os.open(name, DIRECTORY_FLAGS, dir_fd=at), depth + 1
        except FileNotFoundError:
            if self._make is None or links < LINKS_MAX:
                raise SpecError(f"the directory {name!r} does not exist") from None
            self._make(at, name)
            return os.open(name, DIRECTORY_FLAGS, dir_fd=at), depth + 1
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
        try:
            target = os.readlink(name, dir_fd=at)
        except OSError:
            return self._replace(at, depth, name, links)
        if not links:
            raise SpecError(f"more than {LINKS_MAX} symbolic links in a row")
        return self._follow(at, depth, target, links - 1)

    def _replace(self, at: int, depth: int, name: bytes, links: int) -> tuple[int, int]:
        """A parent that is no directory: only what `make` may replace (a whiteout) gives way."""
        if self._make is None or links < LINKS_MAX:
            raise SpecError(f"{name!r} is not a directory")
        self._make(at, name)
        return os.open(name, DIRECTORY_FLAGS, dir_fd=at), depth + 1

    def _follow(self, at: int, depth: int, target: bytes, links: int) -> tuple[int, int]:
        """Walks a link's target; `..` stops at the root, and an absolute target starts there."""
        if target.startswith(b"/"):
            at, depth = self._root, 0
        file = os.dup(at)
        for part in target.split(b"/"):
            if part in (b"", b"."):
                continue
            held = file
            try:
                if part != b"..":
                    file, depth = self._enter(held, depth, part, links)
                elif _get_id(held) == self._root_id:
                    file, depth = os.dup(held), 0
                else:
                    file, depth = os.open(b"..", DIRECTORY_FLAGS, dir_fd=held), depth - 1
            finally:
                os.close(held)
        return file, depth

    def _shorten(self, size: int) -> None:
        while len(self._chain) > size:
            os.close(self._chain.pop().file)


def split_name(name: bytes) -> tuple[bytes, ...]:
    """The components of a name in an archive: `/` and `./` are dropped, `..` is refused."""
    if len(name) > PATH_BYTES_MAX:
        raise SpecError(f"a name of {len(name)} bytes, at most {PATH_BYTES_MAX}")
    parts = tuple(part for part in name.split(b"/") if part not in (b"", b"."))
    if b".." in parts:
        raise SpecError("'..' in the name leads out of the layer")
    if any(len(part) > NAME_BYTES_MAX for part in parts):
        raise SpecError(f"a component of more than {NAME_BYTES_MAX} bytes")
    return parts


def _join(parts: tuple[bytes, ...], target: bytes) -> tuple[bytes, ...]:
    """A link's target as a name from the root; `..` stops there."""
    found = [] if target.startswith(b"/") else list(parts)
    for part in target.split(b"/"):
        if part == b"..":
            del found[-1:]
        elif part not in (b"", b"."):
            found.append(part)
    return tuple(found)


def _get_id(file: int) -> tuple[int, int]:
    found = os.fstat(file)
    return found.st_dev, found.st_ino
