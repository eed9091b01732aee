"""A directory as a tar stream: what `docklock import DIR` reads.

Not here: headers (tarwrite). Names are in byte order, so the same tree gives the same bytes.
Stays on one file system, as `tar --one-file-system` does: a mounted /proc comes out empty. Sockets
are passed over, for they mean nothing without the process behind them. Invariant: the tree is
walked by descriptors, and no symbolic link is followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator

from chainlite.errors import SpecError, StateError
from docklock.image import tar
from docklock.image.rooted import DEPTH_MAX, DIRECTORY_FLAGS
from docklock.image.stream import CHUNK_BYTES
from docklock.image.tar import TarEntry, show_name
from docklock.image.tarwrite import END, encode_header, encode_padding

_KINDS = {
    stat.S_IFREG: tar.FILE,
    stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFCHR: tar.CHAR,
    stat.S_IFBLK: tar.BLOCK,
    stat.S_IFDIR: tar.DIRECTORY,
    stat.S_IFIFO: tar.FIFO,
}


class TreeStream:
    """The tar of a directory, made while it is read. `skip` is a directory left out (our store)."""

    def __init__(self, path: str, skip: str = "") -> None:
        self._path = path
        self._links: dict[tuple[int, int], bytes] = {}
        self._skip: tuple[int, int] | None = None
        if skip and os.path.isdir(skip):
            found = os.stat(skip)
            self._skip = (found.st_dev, found.st_ino)
        self._pieces = self._walk_root()
        self._held = bytearray()

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; headers and small files are gathered into whole chunks."""
        while len(self._held) < size:
            piece = next(self._pieces, b"")
            if not piece:
                break
            if not self._held and len(piece) == size:
                return piece
            self._held += piece
        data = bytes(self._held[:size])
        del self._held[:size]
        return data

    def close(self) -> None:
        """Closes the directories that are still open when a reader stops early."""
        self._pieces.close()

    def _walk_root(self) -> Generator[bytes, None, None]:
        root = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found = os.fstat(root)
            self._device = found.st_dev
            yield encode_header(_describe(b"./", found, _list_xattrs(root)))
            yield from self._walk(root, b"", 0)
            yield END
        finally:
            os.close(root)

    def _walk(self, directory: int, prefix: bytes, depth: int) -> Iterator[bytes]:
        if depth > DEPTH_MAX:
            raise SpecError(f"{self._path}: more than {DEPTH_MAX} directories deep")
        with os.scandir(directory) as entries:
            names = sorted(os.fsencode(entry.name) for entry in entries)
        for name in names:
            yield from self._emit(directory, prefix + name, name, depth)

    def _emit(self, directory: int, path: bytes, name: bytes, depth: int) -> Iterator[bytes]:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFSOCK or (found.st_dev, found.st_ino) == self._skip:
            return
        if kind == stat.S_IFDIR:
            yield from self._emit_directory(directory, path, name, found, depth)
            return
        if found.st_nlink > 1:
            first = self._links.setdefault((found.st_dev, found.st_ino), path)
            if first != path:
                yield encode_header(
                    _describe(path, found, ())._replace(
                        kind=tar.HARD_LINK, size_bytes=0, link=first
                    )
                )
                return
        if kind == stat.S_IFREG:
            yield from self._emit_file(directory, path, name)
            return
        link = os.readlink(name, dir_fd=directory) if kind == stat.S_IFLNK else b""
        yield encode_header(_describe(path, found, ())._replace(link=link))

    def _emit_directory(
        self, directory: int, path: bytes, name: bytes, found: os.stat_result, depth: int
    ) -> Iterator[bytes]:
        file = os.open(name, DIRECTORY_FLAGS, dir_fd=directory)
        try:
            yield encode_header(_describe(path + b"/", found, _list_xattrs(file)))
            if found.st_dev == self._device:
                yield from self._walk(file, path + b"/", depth + 1)
        finally:
            os.close(file)

    def _emit_file(self, directory: int, path: bytes, name: bytes) -> Iterator[bytes]:
        file = open_regular(directory, name)
        try:
            found = os.fstat(file)
            yield encode_header(_describe(path, found, _list_xattrs(file)))
            left = found.st_size
            while left:
                data = os.read(file, min(left, CHUNK_BYTES))
                if not data:
                    raise StateError(f"{self._path}: {show_name(path)} shrank while it was read")
                left -= len(data)
                yield data
            if found.st_size % tar.BLOCK_BYTES:
                yield encode_padding(found.st_size)
        finally:
            os.close(file)


def open_regular(directory: int, name: bytes) -> int:
    """A regular file for reading; StateError for anything else, which is not even opened.

    Opening a device or a pipe can have effects, and what a name means may change after a look at
    it: so the file is looked at by descriptor, and that same file is opened.
    """
    held = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        if not stat.S_ISREG(os.fstat(held).st_mode):
            raise StateError(f"{show_name(name)} was replaced while it was read")
        return os.open(f"/proc/self/fd/{held}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(held)


def _describe(
    name: bytes, found: os.stat_result, xattrs: tuple[tuple[bytes, bytes], ...]
) -> TarEntry:
    kind = _KINDS[stat.S_IFMT(found.st_mode)]
    device = (0, 0)
    if kind in (tar.CHAR, tar.BLOCK):
        device = (os.major(found.st_rdev), os.minor(found.st_rdev))
    return TarEntry(
        name=name,
        kind=kind,
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        mtime_ns=found.st_mtime_ns,
        size_bytes=found.st_size if kind == tar.FILE else 0,
        device=device,
        xattrs=xattrs,
    )


def _list_xattrs(file: int) -> tuple[tuple[bytes, bytes], ...]:
    """Those that an image carries; the others belong to the host."""
    try:
        names = os.listxattr(file)
    except OSError:
        return ()  # the file system has none
    return tuple(
        (os.fsencode(name), os.getxattr(file, name))
        for name in names
        if name.startswith("user.") or name == "security.capability"
    )
