"""Unpacks one layer archive into an empty directory, as root, whatever the archive says.

Whiteouts become overlayfs's: `.wh.NAME` a character device 0/0, `.wh..wh..opq` the xattr
trusted.overlay.opaque. Not here: reading tar (tar), walking safely (rooted), digests (layer).
Invariants: nothing outside the directory is read, made, changed or removed; an entry that stands
twice replaces the first (two directories are merged), as in Docker; of the xattrs only `user.*`
and security.capability are taken, for the others belong to the host; every refusal is a SpecError
that names the entry. Source: OCI image-spec, layer.md; Docker pkg/archive, diff.go.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

from chainlite.errors import SpecError
from docklock.errors import KernelError
from docklock.image import tar
from docklock.image.rooted import DIRECTORY_FLAGS, Rooted, split_name
from docklock.image.tar import EntryError, TarEntry, TarReader, show_name

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
AUFS = b".wh..wh."
OPAQUE_XATTR = "trusted.overlay.opaque"
ID_MAX = 0xFFFFFFFE
FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# mtime outside these seconds is not kept by ext4 (256-byte inodes); it is pulled in.
MTIME_MIN_NS, MTIME_MAX_NS = -(1 << 31) * tar.NANO, 0x37FFFFFFF * tar.NANO

# The machine's fault, not the archive's.
_HINTS = {
    errno.ENOSPC: "the disk is full: free space, or choose another --root",
    errno.EDQUOT: "the disk quota is used up",
    errno.EIO: "the disk failed",
    errno.EROFS: "the image store is on a read-only file system: choose another --root",
    errno.EPERM: "unpacking a layer needs root with CAP_CHOWN, CAP_MKNOD and CAP_SYS_ADMIN, and a"
    " store that is not itself on overlayfs",
    errno.EACCES: "unpacking a layer needs root",
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files on this machine",
    errno.ENOMEM: "no memory left",
    errno.ENOTSUP: "the store's file system has no extended attributes: choose another --root",
}


class Limits(NamedTuple):
    """How much one layer may unpack to."""

    bytes_max: int = 32 << 30
    entries_max: int = 1_000_000


class Contents(NamedTuple):
    """What a layer holds: `size_bytes` counts the data of its files, holes included."""

    size_bytes: int
    entries: int


def unpack_layer(reader: TarReader, directory: str, limits: Limits) -> Contents:
    """Unpacks every entry; `directory` is ours, empty, and thrown away by the caller on error."""
    root = os.open(directory, DIRECTORY_FLAGS)
    unpacker = _Unpacker(root, reader, limits)
    try:
        for entry in reader:
            unpacker.add(entry)
        unpacker.finish()
    finally:
        unpacker.close()
        os.close(root)
    return Contents(unpacker.size_bytes, unpacker.entries)


class _Unpacker:
    """The tree so far, and the times that directories get once nothing is made in them."""

    def __init__(self, root: int, reader: TarReader, limits: Limits) -> None:
        self._tree = Rooted(root, make=self._make_parent)
        self._reader = reader
        self._limits = limits
        self._times: dict[tuple[bytes, ...], int] = {}
        self.size_bytes = 0
        self.entries = 0

    def close(self) -> None:
        self._tree.close()

    def add(self, entry: TarEntry) -> None:
        """Makes one entry; the error names it, whoever noticed."""
        self._count(entry)
        try:
            self._add(entry)
        except (KernelError, EntryError):
            raise
        except OSError as error:
            raise self._explain(error, entry.name) from None
        except SpecError as error:
            raise self._reader.error(str(error), entry.name) from None

    def finish(self) -> None:
        """Sets the directories' times, which making entries in them has changed."""
        for parts, mtime_ns in self._times.items():
            try:
                parent = self._tree.open_parent(parts[:-1])
                if parts:
                    set_time(parts[-1], parent, mtime_ns)
                else:
                    os.utime(self._tree.root, ns=clamp_time(mtime_ns))
            except (SpecError, FileNotFoundError):
                continue  # a later entry replaced it or one of its parents
            except OSError as error:
                raise self._explain(error, b"/".join(parts)) from None

    def _count(self, entry: TarEntry) -> None:
        self.entries += 1
        self.size_bytes += entry.sparse.size_bytes if entry.sparse else entry.size_bytes
        if self.entries > self._limits.entries_max:
            raise self._reader.error(f"more than {self._limits.entries_max} entries in one layer")
        if self.size_bytes > self._limits.bytes_max:
            raise self._reader.error(f"the layer unpacks to over {self._limits.bytes_max} bytes")
        if entry.uid > ID_MAX or entry.gid > ID_MAX:
            raise self._reader.error(f"owner {entry.uid}:{entry.gid} does not exist on Linux")

    def _add(self, entry: TarEntry) -> None:
        parts = split_name(entry.name)
        if not parts:
            if entry.kind != tar.DIRECTORY:
                raise SpecError("the root of a layer has to be a directory")
            self._times[()] = entry.mtime_ns
            set_file(self._tree.root, entry)
            return
        if any(part.startswith(WHITEOUT) for part in parts[:-1]):
            if parts[0].startswith(AUFS):
                return
            raise SpecError(f"a directory's name cannot start with {WHITEOUT.decode()}")
        parent, name = self._tree.open_parent(parts[:-1]), parts[-1]
        if name.startswith(WHITEOUT):
            self._hide(parent, name)
        elif entry.kind == tar.DIRECTORY:
            self._add_directory(parent, name, entry)
            self._times[parts] = entry.mtime_ns
        elif entry.kind == tar.HARD_LINK:
            self._add_link(parent, name, entry)
        elif entry.kind == tar.FILE:
            self._add_file(parent, name, entry)
        else:
            self._add_node(parent, name, entry)

    def _hide(self, parent: int, name: bytes) -> None:
        if name == OPAQUE:
            os.setxattr(parent, OPAQUE_XATTR, b"y")
            return
        if name.startswith(AUFS):
            return  # aufs's own bookkeeping, which Docker passes over too
        hidden = name[len(WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise SpecError("a whiteout that hides no name")
        found = _stat(parent, hidden)
        if found is None:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=parent)
        elif stat.S_ISDIR(found.st_mode):
            # What this very layer brings stays; only lower layers' contents are hidden.
            _make_opaque(parent, hidden)

    def _add_directory(self, parent: int, name: bytes, entry: TarEntry) -> None:
        found = _stat(parent, name)
        if found is None or not stat.S_ISDIR(found.st_mode):
            if found is not None:
                os.unlink(name, dir_fd=parent)
            os.mkdir(name, 0o700, dir_fd=parent)
            if found is not None and is_whiteout(found):
                _make_opaque(parent, name)
        file = os.open(name, DIRECTORY_FLAGS, dir_fd=parent)
        try:
            set_file(file, entry)
        finally:
            os.close(file)

    def _make_parent(self, parent: int, name: bytes) -> None:
        """A directory that the archive uses and does not list: root's, 0755."""
        found = _stat(parent, name)
        if found is not None:
            if not is_whiteout(found):
                raise SpecError(f"its parent {show_name(name)} is not a directory")
            os.unlink(name, dir_fd=parent)
        os.mkdir(name, 0o755, dir_fd=parent)
        os.chmod(name, 0o755, dir_fd=parent)
        if found is not None:
            _make_opaque(parent, name)

    def _add_link(self, parent: int, name: bytes, entry: TarEntry) -> None:
        target = split_name(entry.link)
        if not target:
            raise SpecError("a hard link to nothing")
        held = os.dup(parent)
        try:
            source = self._tree.open_parent(target[:-1])
            found = _stat(source, target[-1])
            if found is None or stat.S_ISDIR(found.st_mode) or is_whiteout(found):
                raise SpecError(f"hard link to {show_name(entry.link)}, no file of this layer")
            old = _stat(held, name)
            if old is not None and (old.st_dev, old.st_ino) == (found.st_dev, found.st_ino):
                return
            if old is not None:
                self._remove(held, name)
            os.link(target[-1], name, src_dir_fd=source, dst_dir_fd=held, follow_symlinks=False)
        finally:
            os.close(held)

    def _add_file(self, parent: int, name: bytes, entry: TarEntry) -> None:
        try:
            file = os.open(name, FILE_FLAGS, 0o600, dir_fd=parent)
        except FileExistsError:
            self._remove(parent, name)
            file = os.open(name, FILE_FLAGS, 0o600, dir_fd=parent)
        fill_file(file, self._reader, entry)

    def _add_node(self, parent: int, name: bytes, entry: TarEntry) -> None:
        """Symbolic links, devices and fifos."""
        if entry.kind == tar.CHAR and entry.device == (0, 0):
            raise SpecError("character device 0/0 is overlayfs's whiteout; layers say .wh.NAME")
        if entry.kind == tar.SYMLINK and not entry.link:
            raise SpecError("a symbolic link to nothing")
        if _stat(parent, name) is not None:
            self._remove(parent, name)
        if entry.kind == tar.SYMLINK:
            os.symlink(entry.link, name, dir_fd=parent)
        else:
            kinds = {tar.CHAR: stat.S_IFCHR, tar.BLOCK: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}
            os.mknod(name, kinds[entry.kind] | 0o600, os.makedev(*entry.device), dir_fd=parent)
        os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if entry.kind != tar.SYMLINK:
            os.chmod(name, entry.mode, dir_fd=parent)
        set_time(name, parent, entry.mtime_ns)

    def _remove(self, parent: int, name: bytes) -> None:
        """What stood under a name that comes again: the last one wins."""
        try:
            os.unlink(name, dir_fd=parent)
        except IsADirectoryError:
            import shutil

            shutil.rmtree(name, dir_fd=parent)

    def _explain(self, error: OSError, name: bytes) -> SpecError | KernelError:
        hint = _HINTS.get(error.errno or 0)
        if hint is None:
            return self._reader.error(os.strerror(error.errno or 0), name)
        step = f"unpacking {show_name(name)} of {self._reader.where}"
        return KernelError(error.errno or 0, "writing the layer", step, hint)


def fill_file(file: int, reader: TarReader, entry: TarEntry) -> None:
    """Write a new file's data, owner, mode and times, and close it."""
    try:
        reader.copy_data(file, entry)
        set_file(file, entry)
        os.utime(file, ns=clamp_time(entry.mtime_ns))
    finally:
        os.close(file)


def set_file(file: int, entry: TarEntry) -> None:
    """Owner first: changing it clears the set-user-id bit and the capabilities."""
    os.fchown(file, entry.uid, entry.gid)
    os.fchmod(file, entry.mode)
    for name, value in entry.xattrs:
        is_user = name.startswith(b"user.") and not name.startswith(b"user.overlay.")
        if is_user or name == b"security.capability":
            os.setxattr(file, name, value)


def set_time(name: bytes, parent: int, mtime_ns: int) -> None:
    """Set both times of a name, of a link itself; mtime in ns, pulled in as clamp_time does."""
    os.utime(name, ns=clamp_time(mtime_ns), dir_fd=parent, follow_symlinks=False)


def clamp_time(mtime_ns: int) -> tuple[int, int]:
    """(atime, mtime) for utime, within what file systems keep."""
    mtime_ns = min(max(mtime_ns, MTIME_MIN_NS), MTIME_MAX_NS)
    return mtime_ns, mtime_ns


def _stat(parent: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def is_whiteout(found: os.stat_result) -> bool:
    """Whether overlayfs reads it as a name that is hidden."""
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _make_opaque(parent: int, name: bytes) -> None:
    file = os.open(name, DIRECTORY_FLAGS, dir_fd=parent)
    try:
        os.setxattr(file, OPAQUE_XATTR, b"y")
    finally:
        os.close(file)
