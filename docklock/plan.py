"""From a spec to the ordered steps that make a container's file system.

A step says what it will do (`describe`) and does it (`execute`); building a plan does nothing, so
`docklock run --plan` prints all of it before anything happens. Steps run in the container's first
process, in its own namespaces, before it enters its root: nothing they make is seen by the host,
and nothing is left when that process dies.
Not here: processes, users, capabilities (docklock.enter), paths in a hostile root
(docklock.inroot), limits (docklock.cgroup).
"""

from __future__ import annotations

import errno
import os

from chainlite.errors import SpecError
from chainlite.lean import NamedTuple, Protocol
from docklock.errors import KernelError
from docklock.kernel import mount as kernel
from docklock.kernel.process import CLONE_NEWNS, pidfd_open, setns
from docklock.mounts import (
    BindMount,
    CgroupMount,
    FilesystemMount,
    MaskPath,
    ReadonlyPath,
    Root,
    compute_attributes,
    parse_options,
)
from docklock.spec import Device, Mount, Spec

_DEVICE_MODES = {"c": 0o020000, "u": 0o020000, "b": 0o060000, "p": 0o010000}
_DEV_LINKS = (
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
)
_OPTIONS_MAX_BYTES = 4000


class Step(Protocol):
    """One thing that is done to the container's file system."""

    def describe(self) -> str: ...

    def execute(self, root: Root) -> None: ...


class Overlay(NamedTuple):
    """Layers of an image, topmost first, and the writable directories of one container."""

    lowers: tuple[str, ...]
    upper: str
    work: str


class MakePrivate(NamedTuple):
    """Cut this mount namespace off from the host's."""

    propagation: str

    def describe(self) -> str:
        return f"make every mount {self.propagation}"

    def execute(self, root: Root) -> None:
        del root
        kind = kernel.MS_SLAVE if self.propagation == "slave" else kernel.MS_PRIVATE
        here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _go_to_namespace_root()
            kernel.mount("", "/", "", kernel.MS_REC | kind)
            os.fchdir(here)
            os.chroot(".")
        finally:
            os.close(here)


class MountOverlay(NamedTuple):
    """The image's layers as the root."""

    target: str
    overlay: Overlay

    def describe(self) -> str:
        return f"mount overlay of {len(self.overlay.lowers)} layers on {self.target}"

    def execute(self, root: Root) -> None:
        del root
        lowers, upper, work = self.overlay
        base = os.path.commonpath(lowers)
        # mount(2) takes one page of options: names relative to what the layers have in common.
        os.chdir(base)
        names = [os.path.relpath(path, base) for path in lowers]
        data = f"lowerdir={':'.join(_escape(name) for name in names)}"
        data += f",upperdir={_escape(upper)},workdir={_escape(work)}"
        target = os.open(self.target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if len(os.fsencode(data)) <= _OPTIONS_MAX_BYTES:
                kernel.mount("overlay", f"/proc/self/fd/{target}", "overlay", 0, data)
                return
            layers = tuple(("lowerdir+", name) for name in names)
            options = (*layers, ("upperdir", upper), ("workdir", work))
            kernel.mount_filesystem("overlay", options, target, 0)
        finally:
            os.close(target)
            os.chdir("/")


class BindRoot(NamedTuple):
    """A plain directory as the root: pivot_root wants a mount point."""

    path: str

    def describe(self) -> str:
        return f"bind {self.path} on itself"

    def execute(self, root: Root) -> None:
        del root
        fd = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            kernel.bind(fd, fd, 0, recursive=True, step=self.describe())
        finally:
            os.close(fd)


class OpenRoot(NamedTuple):
    """Hold the root by a descriptor; every later path is looked up under it."""

    path: str

    def describe(self) -> str:
        return f"open {self.path} as the container's root"

    def execute(self, root: Root) -> None:
        root.fd = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


class MakeDevice(NamedTuple):
    """A device node."""

    device: Device

    def describe(self) -> str:
        path, kind, major, minor, mode, *_ = self.device
        return f"make the device {path} ({kind} {major}:{minor}, mode {mode:o})"

    def execute(self, root: Root) -> None:
        path, kind, major, minor, mode, uid, gid = self.device
        parent = root.open_directory(os.path.dirname(path))
        try:
            name = os.path.basename(path)
            os.mknod(name, _DEVICE_MODES[kind] | mode, os.makedev(major, minor), dir_fd=parent)
            if uid or gid:
                os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
        except FileExistsError:
            pass
        finally:
            os.close(parent)


class MakeLinks(NamedTuple):
    """/dev/fd, /dev/stdin, /dev/stdout, /dev/stderr and /dev/ptmx."""

    def describe(self) -> str:
        return "link " + ", ".join(f"/dev/{name}" for _, name in _DEV_LINKS)

    def execute(self, root: Root) -> None:
        parent = root.open_directory("/dev")
        try:
            for target, name in _DEV_LINKS:
                try:
                    os.symlink(target, name, dir_fd=parent)
                except FileExistsError:
                    continue
        finally:
            os.close(parent)


class SetSysctl(NamedTuple):
    """A setting of one of the container's namespaces."""

    key: str
    value: str

    def describe(self) -> str:
        return f"set {self.key} to {self.value}"

    def execute(self, root: Root) -> None:
        del root
        path = "/proc/sys/" + self.key.replace(".", "/")
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, self.value.encode())
            finally:
                os.close(fd)
        except OSError as error:
            hint = f"{path} does not exist or refuses {self.value!r}"
            raise KernelError(error.errno or 0, "write", self.describe(), hint) from None


class MakeDirectory(NamedTuple):
    """The working directory, as Docker makes it when the image lacks it."""

    path: str

    def describe(self) -> str:
        return f"make the directory {self.path} if it is missing"

    def execute(self, root: Root) -> None:
        os.close(root.open_directory(self.path))


class ReadonlyRoot(NamedTuple):
    """Make the root itself read-only; what is mounted below keeps its own rights."""

    def describe(self) -> str:
        return "make the root read-only"

    def execute(self, root: Root) -> None:
        kernel.mount_setattr(
            root.fd, kernel.MOUNT_ATTR_RDONLY, recursive=False, step="make the root read-only"
        )


class EnterRoot(NamedTuple):
    """Make the container's root the root, and let go of the host's."""

    def describe(self) -> str:
        return "enter the root and drop the host's"

    def execute(self, root: Root) -> None:
        _go_to_namespace_root()
        os.fchdir(root.fd)
        # pivot_root(2), NOTES: "." twice stacks the old root on the new; unmounting drops it.
        kernel.pivot_root(".", ".")
        kernel.umount2(".", kernel.MNT_DETACH)
        os.chdir("/")
        os.close(root.fd)
        root.fd = -1


class Plan(NamedTuple):
    """What spawn needs: the spec and the steps of its file system."""

    spec: Spec
    steps: tuple[Step, ...]

    def describe(self) -> tuple[str, ...]:
        """One line a step, in order; the process's own settings come last."""
        return (
            *_describe_namespaces(self.spec),
            *(step.describe() for step in self.steps),
            *_describe_process(self.spec),
        )

    def execute(self) -> None:
        """Run every step. Only in a mount namespace of one's own."""
        root = Root()
        for step in self.steps:
            try:
                step.execute(root)
            except KernelError as error:
                error.step = step.describe()
                raise
            except OSError as error:
                where = f"on {error.filename}" if error.filename else "on a file"
                number = error.errno or errno.EIO
                raise KernelError(number, where, step.describe()) from None


def build_plan(
    spec: Spec,
    bundle: str,
    *,
    overlay: Overlay | None = None,
    cgroup_dirs: tuple[tuple[str, str], ...] = (),
) -> Plan:
    """The plan of `spec`; `bundle` is what its relative paths are relative to.

    `cgroup_dirs` is Cgroup.dirs: what a mount of type cgroup shows.
    """
    rootfs = os.path.normpath(os.path.join(bundle, spec.root_path))
    propagation = spec.linux.rootfs_propagation.removeprefix("r") or "private"
    steps: list[Step] = [MakePrivate(propagation)]
    steps.append(MountOverlay(rootfs, overlay) if overlay else BindRoot(rootfs))
    steps.append(OpenRoot(rootfs))
    steps += [build_mount(mount, bundle, cgroup_dirs) for mount in spec.mounts]
    is_own_dev = not any(m.destination == "/dev" and m.kind == "bind" for m in spec.mounts)
    if is_own_dev:
        steps += [MakeDevice(device) for device in spec.linux.devices]
        steps.append(MakeLinks())
    steps.append(MakeDirectory(spec.process.cwd))
    steps += [SetSysctl(key, value) for key, value in spec.linux.sysctl]
    steps += [MaskPath(path) for path in spec.linux.masked_paths]
    steps += [ReadonlyPath(path) for path in spec.linux.readonly_paths]
    if spec.root_readonly:
        steps.append(ReadonlyRoot())
    steps.append(EnterRoot())
    return Plan(spec, tuple(steps))


def _go_to_namespace_root() -> None:
    """Make the root of our mount namespace our root, also where docklock itself is in a chroot.

    A chroot moves the root of a process, not of its namespace: what is not done from the
    namespace's own root leaves the host's files above the container's, for setns and chroot.
    """
    pidfd = pidfd_open(os.getpid())
    try:
        setns(pidfd, CLONE_NEWNS, "go to the root of the mount namespace")
    finally:
        os.close(pidfd)


def build_mount(mount: Mount, bundle: str, cgroup_dirs: tuple[tuple[str, str], ...]) -> Step:
    """The step for one entry of the spec's mounts. SpecError for an option it cannot have."""
    flags, data = parse_options(mount)
    if mount.kind == "bind":
        if data:
            raise SpecError(f"mount {mount.destination}: a bind mount takes no option {data}")
        source = os.path.normpath(os.path.join(bundle, mount.source))
        is_deep = "rbind" in mount.options
        return BindMount(mount.destination, source, compute_attributes(flags), is_deep)
    if mount.kind in ("cgroup", "cgroup2"):
        return CgroupMount(mount.destination, cgroup_dirs, compute_attributes(flags))
    return FilesystemMount(mount.destination, mount.kind, mount.source, flags, data)


def _escape(path: str) -> str:
    """A path as overlayfs options write it: backslash, colon and comma escaped."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _describe_namespaces(spec: Spec) -> tuple[str, ...]:
    lines = []
    for kind, path in spec.linux.namespaces:
        lines.append(f"join the {kind} namespace {path}" if path else f"new {kind} namespace")
    if spec.get_namespace("network") is None:
        lines.append("keep the host's network")
    return tuple(lines)


def _describe_process(spec: Spec) -> tuple[str, ...]:
    process = spec.process
    caps = process.capabilities.bounding
    hostname = (f"set the hostname {spec.hostname}",) if spec.hostname else ()
    return (
        *hostname,
        *(f"limit {kind} to {soft} (at most {hard})" for kind, soft, hard in process.rlimits),
        f"keep the capabilities {', '.join(caps)}" if caps else "drop every capability",
        f"become user {process.user.uid}:{process.user.gid}",
        *(("set no_new_privs",) if process.no_new_privs else ()),
        "install the filter",
        f"execute {' '.join(process.args)}",
    )
