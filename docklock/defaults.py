"""Docker's defaults as a spec: mounts, devices, capabilities, masked paths of `docklock run`.

Not here: the spec's own rules (docklock.spec), files such as /etc/hosts, which the caller adds as
bind mounts. Pure. Source: moby oci/defaults.go and oci/caps/defaults.go.
"""

from __future__ import annotations

from chainlite.errors import SpecError
from docklock.capability import CAPABILITIES, DEFAULT_CAPABILITIES, parse_capability
from docklock.spec import (
    Capabilities,
    Device,
    DeviceRule,
    Linux,
    Mount,
    Namespace,
    Process,
    Resources,
    Rlimit,
    Spec,
    User,
)

NETWORKS = ("none", "host")

MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY_PATHS = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)

_QUIET = ("nosuid", "noexec", "nodev")
_DEV = Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k"))
_PTS_OPTIONS = ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")
_SHM_OPTIONS = (*_QUIET, "mode=1777", "size=67108864")

DEFAULT_DEVICES: tuple[Device, ...] = (
    Device("/dev/null", "c", 1, 3),
    Device("/dev/zero", "c", 1, 5),
    Device("/dev/full", "c", 1, 7),
    Device("/dev/random", "c", 1, 8),
    Device("/dev/urandom", "c", 1, 9),
    Device("/dev/tty", "c", 5, 0),
)


def _allow(kind: str, major: int, minor: int, access: str = "rwm") -> DeviceRule:
    return DeviceRule(allow=True, kind=kind, major=major, minor=minor, access=access)


DEFAULT_DEVICE_RULES: tuple[DeviceRule, ...] = (
    DeviceRule(allow=False, kind="a", major=-1, minor=-1, access="rwm"),
    _allow("c", -1, -1, "m"),
    _allow("b", -1, -1, "m"),
    *(_allow("c", device.major, device.minor) for device in DEFAULT_DEVICES),
    _allow("c", 5, 2),
    _allow("c", 136, -1),
)
ALL_DEVICES: tuple[DeviceRule, ...] = (_allow("a", -1, -1),)


def get_default_mounts(*, privileged: bool = False) -> tuple[Mount, ...]:
    """/proc, /dev and /sys as Docker mounts them; a privileged container may write to /sys."""
    access = () if privileged else ("ro",)
    return (
        Mount("/proc", "proc", "proc", _QUIET),
        _DEV,
        Mount("/dev/pts", "devpts", "devpts", _PTS_OPTIONS),
        Mount("/dev/mqueue", "mqueue", "mqueue", _QUIET),
        Mount("/dev/shm", "tmpfs", "shm", _SHM_OPTIONS),
        Mount("/sys", "sysfs", "sysfs", (*_QUIET, *access)),
        Mount("/sys/fs/cgroup", "cgroup", "cgroup", (*_QUIET, *access)),
    )


def compute_capabilities(
    cap_add: tuple[str, ...], cap_drop: tuple[str, ...], *, privileged: bool = False
) -> tuple[str, ...]:
    """The names that --cap-add and --cap-drop leave of the default set, as Docker computes them."""
    added = {parse_capability(name) for name in cap_add}
    dropped = {parse_capability(name) for name in cap_drop}
    if privileged:
        return tuple(sorted(CAPABILITIES))
    base = set(CAPABILITIES if "ALL" in added else DEFAULT_CAPABILITIES)
    if "ALL" in dropped:
        base = set()
    return tuple(name for name in sorted((base | added) - (dropped - added)) if name != "ALL")


def default_spec(
    *,
    args: tuple[str, ...],
    env: tuple[str, ...] = (),
    cwd: str = "/",
    user: User | None = None,
    hostname: str = "",
    rootfs: str = "rootfs",
    cap_add: tuple[str, ...] = (),
    cap_drop: tuple[str, ...] = (),
    network: str = "none",
    readonly: bool = False,
    resources: Resources | None = None,
    mounts: tuple[Mount, ...] = (),
    tmpfs: tuple[tuple[str, tuple[str, ...]], ...] = (),
    rlimits: tuple[Rlimit, ...] = (),
    devices: tuple[Device, ...] = (),
    annotations: tuple[tuple[str, str], ...] = (),
    cgroups_path: str = "",
    privileged: bool = False,
    no_new_privs: bool = True,
    terminal: bool = False,
    console_size: tuple[int, int] | None = None,
) -> Spec:
    """The spec of `docklock run`. `mounts` and `tmpfs` lie over the default ones.

    `devices` come on top of the default nodes; give the host's for a privileged container.
    """
    if network not in NETWORKS:
        raise SpecError(f"no such network: {network} (one of {', '.join(NETWORKS)})")
    names = compute_capabilities(cap_add, cap_drop, privileged=privileged)
    user = user or User()
    # An ordinary user has none after exec (capabilities(7)); Docker writes the same sets.
    held = names if user.uid == 0 else ()
    rules = ALL_DEVICES if privileged else DEFAULT_DEVICE_RULES
    kinds = ("cgroup", "ipc", "mount", "pid", "uts", *(("network",) if network == "none" else ()))
    quiet = tuple(Mount(to, "tmpfs", "tmpfs", (*_QUIET, *opts)) for to, opts in tmpfs)
    return Spec(
        process=Process(
            args=args,
            env=env,
            cwd=cwd,
            user=user,
            capabilities=Capabilities(bounding=names, effective=held, permitted=held),
            rlimits=rlimits,
            no_new_privs=no_new_privs,
            terminal=terminal,
            console_size=console_size,
        ),
        root_path=rootfs,
        root_readonly=readonly,
        hostname=hostname,
        mounts=(*get_default_mounts(privileged=privileged), *quiet, *mounts),
        annotations=tuple(sorted(annotations)),
        linux=Linux(
            namespaces=tuple(Namespace(kind) for kind in kinds),
            devices=(*DEFAULT_DEVICES, *devices),
            cgroups_path=cgroups_path,
            resources=(resources or Resources())._replace(devices=rules),
            masked_paths=() if privileged else MASKED_PATHS,
            readonly_paths=() if privileged else READONLY_PATHS,
        ),
    )
