"""The cgroup of one container: made, entered, frozen, killed, read and removed.

Invariants: after a failed create nothing is left; every error names file, value and controller;
every wait is bounded. A process enters a v1 cgroup by writing 0 into `tasks` itself: that skips
the kernel's thread group lock, which costs a writer of cgroup.procs an RCU grace period (12 ms
measured, against 0.03 ms). Into a v2 cgroup it is cloned (CLONE_INTO_CGROUP).
Not here: which values (docklock.cgroup.limits), which hierarchies (docklock.cgroup.hierarchy).
"""

from __future__ import annotations

import errno
import os
import time

from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from docklock.cgroup.devices import assemble_v2_program, compute_v1_settings
from docklock.cgroup.hierarchy import (
    ALWAYS,
    PARENT_NAME,
    V2_NAMES,
    Hierarchy,
    choose_hierarchies,
    detect_hierarchies,
)
from docklock.cgroup.limits import Setting, compute_controllers, compute_settings
from docklock.errors import KernelError
from docklock.spec import Resources

if TYPE_CHECKING:
    from collections.abc import Callable

SIGKILL = 9
WAIT_STEP_MIN_S = 0.0005
WAIT_STEP_MAX_S = 0.02
FREEZE_MAX_S = 2.0
KILL_MAX_S = 5.0
DELETE_MAX_S = 2.0
NESTED_MAX = 10_000
MAKE_RETRIES_MAX = 16
V1_NO_LIMIT_BYTES = 2**62  # v1 shows no limit as LONG_MAX, rounded down to a page
_CPUSET_FILES = ("cpuset.cpus", "cpuset.mems")


class Usage(NamedTuple):
    """What a container has used, and uses now."""

    cpu_ns: int
    memory_bytes: int
    memory_peak_bytes: int
    pids: int


class Events(NamedTuple):
    """How many processes the kernel killed for want of memory, and how many it refused to make."""

    oom_kills: int
    refused_forks: int


class Cgroup(NamedTuple):
    """The directories of one container: (hierarchy's name or `unified`, path)."""

    name: str
    dirs: tuple[tuple[str, str], ...]

    @property
    def unified(self) -> str:
        """The v2 directory, or an empty string."""
        return dict(self.dirs).get("unified", "")

    def open_for_clone(self) -> int:
        """A descriptor for clone3's cgroup_fd, or -1 where there is no v2 directory."""
        path = self.unified
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if path else -1

    def enter(self) -> None:
        """Move the calling process, which has one thread, into every v1 directory."""
        for controllers, path in self.dirs:
            if controllers != "unified":
                write_file(f"{path}/tasks", "0", controllers, "enter the cgroup")

    def add(self, pid: int) -> None:
        """Move another process. Slow on v1: see `enter`."""
        for controllers, path in self.dirs:
            write_file(f"{path}/cgroup.procs", str(pid), controllers, f"move process {pid}")

    def freeze(self) -> None:
        """Stop every process; KernelError, and none is, if some cannot be in FREEZE_MAX_S."""
        try:
            self._set_frozen(frozen=True)
        except KernelError:
            self._set_frozen(frozen=False)
            raise

    def thaw(self) -> None:
        """Let every process run again."""
        self._set_frozen(frozen=False)

    def kill(self) -> None:
        """Kill every process and wait until none is left; frozen ones too."""
        path = self.unified
        if path and os.path.exists(f"{path}/cgroup.kill"):
            write_file(f"{path}/cgroup.kill", "1", "unified", "kill the container")
        _wait(KILL_MAX_S, self._kill_round, "kill", f"kill what is in {self.dirs[0][1]}")

    def delete(self) -> None:
        """Remove the directories, nested ones first. Those that are gone are no error."""
        for _, path in self.dirs:
            _delete(path)

    def exists(self) -> bool:
        """True if any of the directories does."""
        return any(os.path.isdir(path) for _, path in self.dirs)

    def list_pids(self) -> tuple[int, ...]:
        """Every process, also of nested cgroups, as this process's pid namespace numbers them."""
        pids: set[int] = set()
        for nested in _list_nested(self.find_dir("freezer") or self.dirs[0][1]):
            try:
                with open(f"{nested}/cgroup.procs", "rb") as file:
                    pids.update(int(line) for line in file.read().split())
            except FileNotFoundError:
                continue
        return tuple(sorted(pids - {0}))

    def count_tasks(self) -> int:
        """How many processes and threads it has; 0 where nobody counts."""
        return _read_int(f"{self.find_dir('pids') or self.unified}/pids.current")

    def stat(self) -> Usage:
        """What the kernel counts; 0 for what this host does not count."""
        peak = self._read_memory("memory.max_usage_in_bytes", "memory.peak")
        return Usage(self.cpu_ns(), self.memory_bytes(), peak, self.count_tasks())

    def cpu_ns(self) -> int:
        """All CPU time of the container so far."""
        v1 = self.find_dir("cpuacct")
        if v1:
            return _read_int(f"{v1}/cpuacct.usage")
        return 1000 * _read_key(f"{self.unified}/cpu.stat", "usage_usec")

    def memory_bytes(self) -> int:
        """What it holds now, page cache included."""
        return self._read_memory("memory.usage_in_bytes", "memory.current")

    def memory_limit_bytes(self) -> int:
        """The most it may hold; 0 for no limit."""
        limit = self._read_memory("memory.limit_in_bytes", "memory.max")
        return limit if limit < V1_NO_LIMIT_BYTES else 0

    def idle_cache_bytes(self) -> int:
        """Page cache that the kernel would give up first: Docker does not count it as used."""
        v1 = self.find_dir("memory")
        if v1:
            return _read_key(f"{v1}/memory.stat", "total_inactive_file")
        return _read_key(f"{self.unified}/memory.stat", "inactive_file")

    def block_bytes(self) -> tuple[int, int] | None:
        """(read, written); None where nobody counts it: we join no blkio cgroup on v1."""
        text = read_file(f"{self.unified}/io.stat") if self.unified else ""
        if not text and (self.find_dir("memory") or not self.unified):
            return None
        fields = [field.partition("=") for field in text.split()]
        read, written = (
            sum(int(value) for name, _, value in fields if name == key)
            for key in ("rbytes", "wbytes")
        )
        return read, written

    def _read_memory(self, v1_file: str, v2_file: str) -> int:
        v1 = self.find_dir("memory")
        return _read_int(f"{v1}/{v1_file}" if v1 else f"{self.unified}/{v2_file}")

    def count_events(self) -> Events:
        """What the kernel did to this container so far; 0 for what this host does not count."""
        v1, pids = self.find_dir("memory"), self.find_dir("pids") or self.unified
        path = f"{v1}/memory.oom_control" if v1 else f"{self.unified}/memory.events"
        return Events(_read_key(path, "oom_kill"), _read_key(f"{pids}/pids.events", "max"))

    def find_dir(self, controller: str) -> str:
        """The v1 directory of a controller, or an empty string."""
        for controllers, path in self.dirs:
            if controller in controllers.split(","):
                return path
        return ""

    def _set_frozen(self, *, frozen: bool) -> None:
        v1 = self.find_dir("freezer")
        verb = "freeze" if frozen else "thaw"
        if v1:
            path, want = f"{v1}/freezer.state", "FROZEN" if frozen else "THAWED"
            write_file(path, want, "freezer", f"{verb} the container")
            _wait(FREEZE_MAX_S, lambda: read_file(path).strip() == want, verb, f"wait for {path}")
        else:
            path, value = f"{self.unified}/cgroup.events", int(frozen)
            write_file(
                f"{self.unified}/cgroup.freeze", str(value), "unified", f"{verb} the container"
            )
            step = f"wait for {path}"
            _wait(FREEZE_MAX_S, lambda: _read_key(path, "frozen") == value, verb, step)

    def _kill_round(self) -> bool:
        pids = self.list_pids()
        if not pids:
            return True
        freezer = self.find_dir("freezer")
        if freezer:
            # Frozen, a fork bomb cannot outrun us; a v1 signal is delivered after the thaw.
            write_file(f"{freezer}/freezer.state", "FROZEN", "freezer", "kill the container")
            pids = self.list_pids()
        for pid in pids:
            try:
                os.kill(pid, SIGKILL)
            except ProcessLookupError:
                continue
        if freezer:
            write_file(f"{freezer}/freezer.state", "THAWED", "freezer", "kill the container")
        elif self.unified:
            write_file(f"{self.unified}/cgroup.freeze", "0", "unified", "kill the container")
        return False


def locate(name: str, wanted: tuple[str, ...] = ALWAYS, parent: str = "") -> Cgroup:
    """Where the cgroup of container `name` is or would be. Makes nothing.

    `parent` is the directory of the OCI cgroupsPath without its last part: from the root of each
    tree if it starts with a slash, else from docklock's base there.
    """
    dirs = []
    for hierarchy, _ in choose_hierarchies(detect_hierarchies(), wanted):
        dirs.append((hierarchy.name, f"{_get_parent(hierarchy, parent)}/{name}"))
    if not dirs:
        step, hint = f"find the cgroup of {name}", "mount cgroup2 on /sys/fs/cgroup"
        raise KernelError(errno.ENOENT, "open /proc/self/mountinfo", step, hint)
    return Cgroup(name, tuple(dirs))


def locate_path(cgroups_path: str, container_id: str, resources: Resources | None = None) -> Cgroup:
    """As locate_for, for an OCI cgroupsPath; empty means docklock/`container_id`."""
    wanted = ALWAYS if resources is None else _get_wanted(resources)
    if not cgroups_path:
        return locate(container_id, wanted)
    if ":" in cgroups_path:
        raise SpecError(
            f"linux.cgroupsPath: {cgroups_path}: systemd's slice:prefix:name is unknown"
        )
    parts = [part for part in cgroups_path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise SpecError(f"linux.cgroupsPath: {cgroups_path}: expected a path without ..")
    start = "/" if cgroups_path.startswith("/") else ""
    return locate(parts[-1], wanted, start + "/".join(parts[:-1]))


def create(cgroup: Cgroup, resources: Resources) -> None:
    """Make the directories of `cgroup` and apply `resources`; undone if any step fails."""
    chosen = choose_hierarchies(detect_hierarchies(), _get_wanted(resources))
    by_name = {hierarchy.name: (hierarchy, names) for hierarchy, names in chosen}
    _check_controllers(resources, {name for _, names in chosen for name in names})
    made: list[tuple[str, str]] = []
    try:
        for name, path in cgroup.dirs:
            hierarchy, controllers = by_name[name]
            if hierarchy.version == 2:
                enable_controllers(hierarchy, path, controllers)
            _make(path, name)
            made.append((name, path))
            if "cpuset" in controllers and hierarchy.version == 1:
                _inherit_cpuset(hierarchy, path)
            _apply(resources, hierarchy.version, controllers, path)
    except KernelError:
        Cgroup(cgroup.name, tuple(made)).delete()
        raise


def locate_for(name: str, resources: Resources) -> Cgroup:
    """As locate, with the hierarchies that `resources` needs beyond the usual ones."""
    return locate(name, _get_wanted(resources))


def list_cgroups() -> tuple[str, ...]:
    """The names of all containers' cgroups under docklock's base, whoever made them."""
    names: set[str] = set()
    for hierarchy in detect_hierarchies():
        for base in {hierarchy.base, hierarchy.mountpoint}:
            parent = f"{base}/{PARENT_NAME}"
            if os.path.isdir(parent):
                names.update(entry.name for entry in os.scandir(parent) if entry.is_dir())
    return tuple(sorted(names))


def find_cgroup(name: str) -> Cgroup | None:
    """The cgroup of a container by what is there, for repair; None if nothing is."""
    dirs = []
    for hierarchy in detect_hierarchies():
        for base in dict.fromkeys((hierarchy.base, hierarchy.mountpoint)):
            path = f"{base}/{PARENT_NAME}/{name}"
            if os.path.isdir(path):
                dirs.append((hierarchy.name, path))
                break
    return Cgroup(name, tuple(dirs)) if dirs else None


def _get_parent(hierarchy: Hierarchy, parent: str) -> str:
    if parent.startswith("/"):
        return f"{hierarchy.mountpoint}{parent}".rstrip("/")
    return f"{hierarchy.base}/{parent or PARENT_NAME}"


def _get_wanted(resources: Resources) -> tuple[str, ...]:
    more = compute_controllers(resources)
    return (*ALWAYS, *(name for name in more if name not in ALWAYS))


def _check_controllers(resources: Resources, found: set[str]) -> None:
    for controller in compute_controllers(resources):
        if controller not in found:
            step = f"limit {controller} for the container"
            hint = f"this host's cgroups have no {controller} controller; leave the limit out"
            raise KernelError(errno.ENOTSUP, "mkdir", step, hint)


def _make(path: str, controllers: str) -> None:
    step = f"make {path}"
    for _ in range(MAKE_RETRIES_MAX):
        try:
            os.mkdir(path, 0o755)
        except FileNotFoundError:
            # Missing, or just removed by somebody else: docklock itself keeps it.
            os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        except FileExistsError:
            hint = "a container of this name is still there: docklock rm --force"
            raise KernelError(errno.EEXIST, "mkdir", step, hint) from None
        except OSError as error:
            hint = f"the {controllers} hierarchy is read-only or not delegated to us"
            raise KernelError(error.errno or 0, "mkdir", step, hint) from None
        else:
            return
    raise KernelError(errno.EAGAIN, "mkdir", step, f"its parent vanished {MAKE_RETRIES_MAX} times")


def _apply(resources: Resources, version: int, controllers: tuple[str, ...], path: str) -> None:
    for setting in compute_settings(resources, version):
        if setting.controller in controllers:
            controller, file, value = choose_file(setting, path)
            write_file(f"{path}/{file}", value, controller, "apply the container's limits")
    if "devices" not in controllers or not resources.devices:
        return
    if version == 1:
        for one in compute_v1_settings(resources.devices):
            step = "apply the container's device list"
            write_file(f"{path}/{one.file}", one.value, one.controller, step)
        return
    from docklock.kernel.bpf import attach_device_program, load_device_program

    program = load_device_program(assemble_v2_program(resources.devices))
    try:
        attach_device_program(path, program)
    finally:
        os.close(program)


def choose_file(setting: Setting, path: str) -> tuple[str, str, str]:
    """(controller, file, value), of the other file where this kernel has not the first."""
    file, value = setting.file, setting.value
    if setting.instead and not os.path.exists(f"{path}/{file}"):
        file, value = setting.instead
    return setting.controller, file, value


def enable_controllers(hierarchy: Hierarchy, path: str, controllers: tuple[str, ...]) -> None:
    """Give the children of every directory above `path` the controllers it needs (v2)."""
    wanted = [V2_NAMES.get(name, name) for name in controllers if name in hierarchy.controllers]
    directory = hierarchy.mountpoint
    below = os.path.dirname(path)[len(directory) :].strip("/")
    for part in ("", *(below.split("/") if below else ())):
        directory = f"{directory}/{part}" if part else directory
        os.makedirs(directory, 0o755, exist_ok=True)
        held = read_file(f"{directory}/cgroup.subtree_control").split()
        missing = " ".join(f"+{name}" for name in wanted if name not in held)
        if missing:
            step = "give the container its controllers"
            write_file(f"{directory}/cgroup.subtree_control", missing, "unified", step)


def _inherit_cpuset(hierarchy: Hierarchy, path: str) -> None:
    """A new v1 cpuset is empty and takes no process: copy what is above, from the top down."""
    directory = hierarchy.base
    for part in path[len(directory) :].strip("/").split("/"):
        above, directory = directory, f"{directory}/{part}"
        for file in _CPUSET_FILES:
            if not read_file(f"{directory}/{file}").strip():
                value = read_file(f"{above}/{file}").strip()
                write_file(f"{directory}/{file}", value, "cpuset", "copy the parent's cpuset")


def write_file(path: str, value: str, controller: str, step: str) -> None:
    """Write one value; KernelError that names file, value and remedy."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        number = error.errno or errno.EIO
        what = f"write {value!r} to {path}"
        raise KernelError(number, what, step, _get_hint(number, path, controller)) from None


def _get_hint(number: int, path: str, controller: str) -> str:
    if number == errno.ENOENT and "memsw" in path:
        return "the kernel does not count swap: boot with swapaccount=1, or leave the limit out"
    if number == errno.ENOENT and ".weight" in path:
        return "this kernel weighs no block I/O, for which it needs the scheduler BFQ: leave it out"
    if number == errno.ENODEV and ("throttle" in path or "io." in path):
        return "limits are of whole disks, not of partitions: name the disk"
    if number == errno.ENOENT:
        return f"this kernel's {controller} controller has no {os.path.basename(path)}"
    if number in (errno.EINVAL, errno.ERANGE):
        return f"the {controller} controller refuses this value: it is out of range or too small"
    if number == errno.EBUSY and "limit_in_bytes" in path:
        return "the container uses more than that, and the kernel could not reclaim it"
    if number == errno.EBUSY and "subtree_control" in path:
        return "processes sit in this cgroup itself: move them into a child, or delegate another"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"the {controller} hierarchy is not ours to write: run as root, or delegate it"
    if number == errno.ENODEV:
        return f"the {controller} cgroup is being removed"
    return f"controller {controller}"


def _wait(limit_s: float, is_done: Callable[[], bool], call: str, step: str) -> None:
    """Ask `is_done()` until it is true, at most `limit_s`, with growing pauses."""
    end, pause = time.monotonic() + limit_s, WAIT_STEP_MIN_S
    while not is_done():
        if time.monotonic() >= end:
            hint = f"not done after {limit_s:g} s; a process may be stuck in the kernel (state D)"
            raise KernelError(errno.EBUSY, call, step, hint)
        time.sleep(pause)
        pause = min(pause * 2, WAIT_STEP_MAX_S)


def _try_remove(path: str) -> bool:
    for nested in reversed(_list_nested(path)):
        try:
            os.rmdir(nested)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno != errno.EBUSY:
                step = f"remove {nested}"
                raise KernelError(error.errno or 0, "rmdir", step) from None
            return False
    return True


def _delete(path: str) -> None:
    _wait(DELETE_MAX_S, lambda: _try_remove(path), "rmdir", f"remove {path}")


def _list_nested(path: str) -> list[str]:
    """`path` and every cgroup below it, parents first."""
    found = [path]
    for directory in found:
        try:
            with os.scandir(directory) as entries:
                found += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            continue
        if len(found) > NESTED_MAX:
            step = f"walk {path}"
            raise KernelError(errno.E2BIG, "scandir", step, f"more than {NESTED_MAX} cgroups")
    return found


def read_file(path: str) -> str:
    """A file's text; empty where the kernel or the container is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, 65536).decode()
        finally:
            os.close(fd)
    except OSError:
        return ""


def _read_int(path: str) -> int:
    text = read_file(path).strip()
    return int(text) if text.isdigit() else 0


def _read_key(path: str, key: str) -> int:
    for line in read_file(path).splitlines():
        name, _, value = line.partition(" ")
        if name == key and value.isdigit():
            return int(value)
    return 0
