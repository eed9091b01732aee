"""Mounts and path lookup inside a root that may be hostile: one function per system call.

Not here: which mounts a container has (docklock.plan). A mount_setattr, open_tree or move_mount
that this kernel lacks is answered by mount(2) where that can do the same, else by an error.
Source: mount(2), mount_setattr(2), open_tree(2), openat2(2), pivot_root(2).
"""

from __future__ import annotations

import errno
import os
import struct

from docklock.kernel.call import make_error, syscall, try_syscall

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_SYNCHRONOUS = 0x10
MS_REMOUNT = 0x20
MS_DIRSYNC = 0x80
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_REC = 0x4000
MS_UNBINDABLE = 0x20000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MS_RELATIME = 0x200000
MS_STRICTATIME = 0x1000000

MNT_DETACH = 2
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = 0o2000000
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6

_MOUNT_ATTR = struct.Struct("=4Q")
_OPEN_HOW = struct.Struct("=3Q")
_DATA_MAX_BYTES = 4095


def mount(source: str, target: str, fstype: str, flags: int, data: str = "") -> None:
    """mount(2); `target` should be a /proc/self/fd path of a descriptor got by openat2."""
    options = os.fsencode(data)
    step = f"mount {fstype or source} on {target}"
    if len(options) > _DATA_MAX_BYTES:
        raise make_error(errno.E2BIG, "mount", step)
    syscall(
        "mount",
        step,
        os.fsencode(source),
        os.fsencode(target),
        os.fsencode(fstype) if fstype else None,
        flags,
        options or None,
    )


def umount2(target: str, flags: int = MNT_DETACH) -> None:
    """Unmount `target` and, with MNT_DETACH, all below it."""
    syscall("umount2", f"unmount {target}", os.fsencode(target), flags)


def pivot_root(new_root: str, put_old: str) -> None:
    """Make `new_root` the root of this mount namespace and put the old one on `put_old`."""
    step = f"make {new_root} the root"
    syscall("pivot_root", step, os.fsencode(new_root), os.fsencode(put_old))


def openat2(dir_fd: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """Open `path` under `dir_fd`, close-on-exec, with the RESOLVE_ flags `resolve`."""
    fd = try_openat2(dir_fd, path, flags, resolve, mode)
    if fd < 0:
        raise make_error(-fd, "openat2", f"open {path}")
    return fd


def try_openat2(dir_fd: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """As openat2, but a failure is returned as the negative errno."""
    how = _OPEN_HOW.pack(flags | os.O_CLOEXEC, mode, resolve)
    return try_syscall("openat2", dir_fd, os.fsencode(path), how, len(how))


def open_tree(dir_fd: int, path: str, flags: int) -> int:
    """A detached copy of the mount at `path` when `flags` has OPEN_TREE_CLONE."""
    step = f"copy the mount at {path or 'a descriptor'}"
    empty = 0 if path else AT_EMPTY_PATH
    return syscall("open_tree", step, dir_fd, os.fsencode(path), flags | empty | OPEN_TREE_CLOEXEC)


def move_mount(from_fd: int, to_fd: int, step: str = "attach a mount") -> None:
    """Attach the detached mount `from_fd` on top of what `to_fd` refers to."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    syscall("move_mount", step, from_fd, b"", to_fd, b"", flags)


def mount_setattr(fd: int, attributes: int, *, recursive: bool, step: str) -> None:
    """Add MOUNT_ATTR_ bits to the mount that `fd` refers to, and to those below if `recursive`."""
    data = _MOUNT_ATTR.pack(attributes, 0, 0, 0)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    result = try_syscall("mount_setattr", fd, b"", flags, data, len(data))
    if result == -errno.ENOSYS and not recursive:
        # Linux < 5.12. The MS_ bits of these four attributes have the same values.
        mount("", f"/proc/self/fd/{fd}", "", MS_REMOUNT | MS_BIND | attributes)
    elif result < 0:
        raise make_error(-result, "mount_setattr", step)


def bind(source_fd: int, target_fd: int, attributes: int, *, recursive: bool, step: str) -> None:
    """Bind what `source_fd` refers to on `target_fd`, restricted before anybody can see it."""
    flags = OPEN_TREE_CLONE | (AT_RECURSIVE if recursive else 0)
    tree = open_tree(source_fd, "", flags)
    try:
        if attributes:
            mount_setattr(tree, attributes, recursive=recursive, step=step)
        move_mount(tree, target_fd, step)
    finally:
        os.close(tree)


def mount_filesystem(
    fstype: str, options: tuple[tuple[str, str | None], ...], target_fd: int, attributes: int
) -> None:
    """Mount a new file system by fsopen; an option without a value is a flag.

    For what mount(2) cannot say: more than a page of options.
    """
    step = f"mount {fstype}"
    context = syscall("fsopen", step, os.fsencode(fstype), 1)
    try:
        for key, value in options:
            kind = FSCONFIG_SET_FLAG if value is None else FSCONFIG_SET_STRING
            data = None if value is None else os.fsencode(value)
            syscall("fsconfig", f"{step}: {key}", context, kind, os.fsencode(key), data, 0)
        syscall("fsconfig", f"{step}: create it", context, FSCONFIG_CMD_CREATE, None, None, 0)
        made = syscall("fsmount", step, context, 1, attributes)
        try:
            move_mount(made, target_fd, step)
        finally:
            os.close(made)
    finally:
        os.close(context)
