"""The mounts of a container as steps, and the options they take.

Not here: their order, devices and the root itself (docklock.plan), lookup (docklock.inroot).
Invariants: a mount point is looked up under the root's descriptor and mounted through it, so the
image's links cannot lead out; a kernel file system (proc, sysfs, ...) is never mounted over a
link; a read-only bind is read-only with all its submounts, before anybody can see it.
"""

from __future__ import annotations

import errno
import os
import stat

from chainlite.errors import SpecError
from chainlite.lean import NamedTuple
from docklock.errors import KernelError
from docklock.inroot import make_directories, open_path, open_target, try_open
from docklock.kernel import mount as kernel
from docklock.spec import Mount

_SET: dict[str, int] = {
    "bind": kernel.MS_BIND,
    "rbind": kernel.MS_BIND | kernel.MS_REC,
    "dirsync": kernel.MS_DIRSYNC,
    "noatime": kernel.MS_NOATIME,
    "nodev": kernel.MS_NODEV,
    "nodiratime": kernel.MS_NODIRATIME,
    "noexec": kernel.MS_NOEXEC,
    "nosuid": kernel.MS_NOSUID,
    "relatime": kernel.MS_RELATIME,
    "ro": kernel.MS_RDONLY,
    "rro": kernel.MS_RDONLY,
    "strictatime": kernel.MS_STRICTATIME,
    "sync": kernel.MS_SYNCHRONOUS,
}
_CLEAR: dict[str, int] = {
    "async": kernel.MS_SYNCHRONOUS,
    "atime": kernel.MS_NOATIME,
    "dev": kernel.MS_NODEV,
    "diratime": kernel.MS_NODIRATIME,
    "exec": kernel.MS_NOEXEC,
    "rw": kernel.MS_RDONLY,
    "suid": kernel.MS_NOSUID,
}
# Every mount of the container is private whatever these say: nothing propagates to the host.
_PRIVATE = ("defaults", "private", "rprivate", "slave", "rslave")
_REFUSED = ("remount", "shared", "rshared", "unbindable", "runbindable", "tmpcopyup", "idmap")

# File systems whose files are the kernel's: programs trust what they read there.
_KERNEL_KINDS = ("proc", "sysfs", "mqueue", "devpts", "cgroup", "cgroup2")


class Root:
    """The container's root while its steps run: a descriptor, -1 before OpenRoot."""

    __slots__ = ("fd",)

    def __init__(self) -> None:
        self.fd = -1

    def open_directory(self, path: str) -> int:
        """A descriptor of the directory `path`, made if missing."""
        make_directories(self.fd, path)
        return open_path(self.fd, path)


def parse_options(mount: Mount) -> tuple[int, str]:
    """The MS_ flags and the file system's own options, joined by commas."""
    flags, data = 0, []
    for option in mount.options:
        if option in _SET:
            flags |= _SET[option]
        elif option in _CLEAR:
            flags &= ~_CLEAR[option]
        elif option in _REFUSED:
            raise SpecError(f"mount {mount.destination}: the option {option} is not supported")
        elif option not in _PRIVATE:
            data.append(option)
    return flags, ",".join(data)


def compute_attributes(flags: int) -> int:
    """The MOUNT_ATTR_ bits, whose values are those of the MS_ flags, that a bind mount takes."""
    return flags & (kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)


def _describe_flags(flags: int) -> str:
    names = [name for name in ("ro", "nosuid", "nodev", "noexec") if flags & _SET[name]]
    return f" ({','.join(names)})" if names else ""


class FilesystemMount(NamedTuple):
    """A new file system: proc, sysfs, tmpfs, devpts, mqueue or any other the kernel has."""

    destination: str
    kind: str
    source: str
    flags: int
    data: str

    def describe(self) -> str:
        options = f" with {self.data}" if self.data else ""
        return f"mount {self.kind} on {self.destination}{_describe_flags(self.flags)}{options}"

    def execute(self, root: Root) -> None:
        links = self.kind not in _KERNEL_KINDS
        target = open_target(root.fd, self.destination, directory=True, links=links)
        try:
            path = f"/proc/self/fd/{target}"
            kernel.mount(self.source, path, self.kind, self.flags, self.data)
        finally:
            os.close(target)


class BindMount(NamedTuple):
    """A file or directory of the host."""

    destination: str
    source: str
    attributes: int
    recursive: bool

    def describe(self) -> str:
        return f"bind {self.source} on {self.destination}{_describe_flags(self.attributes)}"

    def execute(self, root: Root) -> None:
        try:
            source = os.open(self.source, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            hint = f"the source {self.source} cannot be opened"
            raise KernelError(error.errno or 0, "open", self.describe(), hint) from None
        try:
            is_directory = stat.S_ISDIR(os.fstat(source).st_mode)
            target = open_target(root.fd, self.destination, directory=is_directory)
            try:
                step = self.describe()
                kernel.bind(source, target, self.attributes, recursive=self.recursive, step=step)
            finally:
                os.close(target)
        finally:
            os.close(source)


class CgroupMount(NamedTuple):
    """The container's own cgroups, and none of the host's: a tmpfs of binds, or one bind on v2."""

    destination: str
    dirs: tuple[tuple[str, str], ...]
    attributes: int

    def describe(self) -> str:
        names = " ".join(name for name, _ in self.dirs) or "none"
        return f"bind its cgroups on {self.destination} ({names})"

    def execute(self, root: Root) -> None:
        if not self.dirs:
            return
        target = open_target(root.fd, self.destination, directory=True, links=False)
        try:
            if len(self.dirs) == 1 and self.dirs[0][0] == "unified":
                self._bind(self.dirs[0][1], target)
                return
            data, path = "mode=755,size=64k", f"/proc/self/fd/{target}"
            kernel.mount("tmpfs", path, "tmpfs", self.attributes & ~kernel.MS_RDONLY, data)
        finally:
            os.close(target)
        self._fill(root)

    def _fill(self, root: Root) -> None:
        base = open_path(root.fd, self.destination, links=False)
        try:
            for name, path in self.dirs:
                os.mkdir(name, 0o755, dir_fd=base)
                target = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=base)
                try:
                    self._bind(path, target)
                finally:
                    os.close(target)
            if self.attributes & kernel.MS_RDONLY:
                flag, step = kernel.MOUNT_ATTR_RDONLY, self.describe()
                kernel.mount_setattr(base, flag, recursive=False, step=step)
        finally:
            os.close(base)

    def _bind(self, path: str, target: int) -> None:
        source = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            kernel.bind(source, target, self.attributes, recursive=False, step=self.describe())
        finally:
            os.close(source)


class MaskPath(NamedTuple):
    """Hide a path: an empty read-only directory, or /dev/null over a file."""

    path: str

    def describe(self) -> str:
        return f"mask {self.path}"

    def execute(self, root: Root) -> None:
        target = _try_open_path(root, self.path, self.describe())
        if target < 0:
            return
        try:
            if stat.S_ISDIR(os.fstat(target).st_mode):
                flags = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
                kernel.mount(
                    "tmpfs", f"/proc/self/fd/{target}", "tmpfs", flags, "size=0k,nr_inodes=2"
                )
                return
            null = os.open("/dev/null", os.O_PATH | os.O_CLOEXEC)
            try:
                kernel.bind(null, target, 0, recursive=False, step=self.describe())
            finally:
                os.close(null)
        finally:
            os.close(target)


class ReadonlyPath(NamedTuple):
    """Make a path and all mounts below it read-only."""

    path: str

    def describe(self) -> str:
        return f"make {self.path} read-only"

    def execute(self, root: Root) -> None:
        target = _try_open_path(root, self.path, self.describe())
        if target < 0:
            return
        try:
            flag = kernel.MOUNT_ATTR_RDONLY
            kernel.bind(target, target, flag, recursive=True, step=self.describe())
        finally:
            os.close(target)


def _try_open_path(root: Root, path: str, step: str) -> int:
    """A descriptor, or -1 where the path does not exist: not every kernel has every file."""
    fd = try_open(root.fd, path, os.O_PATH)
    if fd in (-errno.ENOENT, -errno.ENOTDIR):
        return -1
    if fd < 0:
        raise KernelError(-fd, "openat2", step)
    return fd
