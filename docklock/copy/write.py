"""Unpack a tar stream below a directory of a root that may be hostile, and may change meanwhile.

Not here: images' layers, which nobody else sees while they are unpacked (docklock.image.unpack).
Invariants, whatever the root's owner does: every directory is looked up inside the root; a file
is written into a new inode only (O_EXCL), so that no device, pipe or file of others is ever opened
for writing; owner, mode and times are set by descriptor, or without following a link.
As Docker: a file replaces a file, directories are merged, one is never replaced by the other.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from chainlite.errors import StateError
from docklock.copy.place import open_directory
from docklock.copy.rules import Target
from docklock.errors import KernelError
from docklock.image import tar
from docklock.image.rooted import split_name
from docklock.image.tar import TarEntry, TarReader, show_name
from docklock.image.unpack import FILE_FLAGS, fill_file, set_file, set_time
from docklock.inroot import make_directories

_NODES = {tar.CHAR: stat.S_IFCHR, tar.BLOCK: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}
_SPECIAL_BITS = stat.S_ISUID | stat.S_ISGID
PARENT_MODE = 0o755


class Rules(NamedTuple):
    """`owner` is (uid, gid) of all that is made, None for the archive's.

    `has_rights`: also device nodes, set-user-id bits and file capabilities. What comes out of a
    container has none unless it is asked for: there they would be rights on the host.
    """

    owner: tuple[int, int] | None
    has_rights: bool


class Writer:
    """Makes entries below `to.base` in `root`. `left_out` names what the rules left out."""

    def __init__(self, root: int, to: Target, reader: TarReader, rules: Rules) -> None:
        self._root, self._to, self._reader, self._rules = root, to, reader, rules
        self._parent = -1
        self._parent_parts: tuple[bytes, ...] | None = None
        self._times: dict[tuple[bytes, ...], int] = {}
        self.left_out: list[str] = []

    def run(self) -> None:
        """Unpack all. SpecError, StateError, KernelError; what was made by then stays."""
        try:
            for entry in self._reader:
                self._add(self._adapt(entry))
            for parts, mtime_ns in self._times.items():
                self._set_directory_time(parts, mtime_ns)
        finally:
            for fd in (self._parent, self._to.new.parent if self._to.new else -1):
                if fd >= 0:
                    os.close(fd)

    def _adapt(self, entry: TarEntry) -> TarEntry:
        if self._rules.owner is not None:
            entry = entry._replace(uid=self._rules.owner[0], gid=self._rules.owner[1])
        if not self._rules.has_rights:
            kept = tuple(pair for pair in entry.xattrs if pair[0] != b"security.capability")
            entry = entry._replace(mode=entry.mode & ~_SPECIAL_BITS, xattrs=kept)
        return entry

    def _add(self, entry: TarEntry) -> None:
        parts = split_name(entry.name)
        if not parts:
            self._add_base(entry)
            return
        if entry.kind in (tar.CHAR, tar.BLOCK) and not self._rules.has_rights:
            self.left_out.append(f"{show_name(entry.name)} is a device: left out")
            return
        parent = self._open_parent(parts[:-1])
        try:
            self._make(parent, parts, entry)
        except KernelError:
            raise
        except OSError as error:
            raise StateError(f"{self._show(parts)}: {error.strerror}") from None

    def _add_base(self, entry: TarEntry) -> None:
        """The directory itself: one that is there keeps its owner and mode."""
        new = self._to.new
        if new is not None and entry.kind == tar.DIRECTORY:
            try:
                make_directory(new.parent, new.name, entry)
            except OSError as error:
                raise StateError(f"{new.path}: {error.strerror}") from None

    def _open_parent(self, parts: tuple[bytes, ...]) -> int:
        if parts != self._parent_parts:
            path = self._join(parts)
            make_directories(self._root, path, mode=PARENT_MODE)
            if self._parent >= 0:
                os.close(self._parent)
            self._parent, self._parent_parts = -1, None
            self._parent = open_directory(self._root, path)
            self._parent_parts = parts
        return self._parent

    def _join(self, parts: tuple[bytes, ...]) -> str:
        return "/".join((self._to.base, *(os.fsdecode(part) for part in parts)))

    def _show(self, parts: tuple[bytes, ...]) -> str:
        return show_name(os.fsencode(self._join(parts)))

    def _make(self, parent: int, parts: tuple[bytes, ...], entry: TarEntry) -> None:
        name = parts[-1]
        self._check_old(parent, parts, entry)
        if entry.kind == tar.DIRECTORY:
            make_directory(parent, name, entry)
            self._times[parts] = entry.mtime_ns
        elif entry.kind == tar.HARD_LINK:
            self._link(parent, name, entry)
        elif entry.kind == tar.FILE:
            fill_file(os.open(name, FILE_FLAGS, 0o600, dir_fd=parent), self._reader, entry)
        elif entry.kind == tar.SYMLINK:
            os.symlink(entry.link, name, dir_fd=parent)
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
            set_time(name, parent, entry.mtime_ns)
        else:
            _make_node(parent, name, entry)

    def _check_old(self, parent: int, parts: tuple[bytes, ...], entry: TarEntry) -> None:
        """Make room for the entry; StateError, in Docker's words, where a directory is at stake."""
        try:
            old = os.stat(parts[-1], dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        shown = self._show(parts)
        if entry.kind == tar.DIRECTORY:
            if not stat.S_ISDIR(old.st_mode):
                raise StateError(f'cannot overwrite non-directory "{shown}" with directory')
        elif stat.S_ISDIR(old.st_mode):
            raise StateError(f'cannot overwrite directory "{shown}" with non-directory')
        else:
            os.unlink(parts[-1], dir_fd=parent)

    def _link(self, parent: int, name: bytes, entry: TarEntry) -> None:
        *directories, last = split_name(entry.link)
        source = open_directory(self._root, self._join(tuple(directories)))
        try:
            os.link(last, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)

    def _set_directory_time(self, parts: tuple[bytes, ...], mtime_ns: int) -> None:
        try:
            set_time(parts[-1], self._open_parent(parts[:-1]), mtime_ns)
        except FileNotFoundError:
            pass  # somebody has removed it


def make_directory(parent: int, name: bytes, entry: TarEntry) -> None:
    """A directory with the entry's owner and mode; one that is there gets them, too."""
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        pass
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(name, flags, dir_fd=parent)
    try:
        set_file(file, entry)
    finally:
        os.close(file)


def _make_node(parent: int, name: bytes, entry: TarEntry) -> None:
    """A device or a pipe; its mode is set on what was made, not on what has its name by then."""
    kind = _NODES[entry.kind]
    os.mknod(name, kind | 0o600, os.makedev(*entry.device), dir_fd=parent)
    node = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if stat.S_IFMT(os.fstat(node).st_mode) != kind:
            raise StateError(f"{show_name(entry.name)}: somebody else has replaced it")
        os.chown(f"/proc/self/fd/{node}", entry.uid, entry.gid)
        os.chmod(f"/proc/self/fd/{node}", entry.mode)
    finally:
        os.close(node)
    set_time(name, parent, entry.mtime_ns)
