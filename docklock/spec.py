"""The OCI runtime-spec's config.json (1.2) as data: parse, check, encode.

Not here: Docker's defaults (docklock.defaults), what is done about a spec (docklock.plan). Pure.
Invariants: what docklock cannot do is refused by name, never left out in silence; an unknown
property is ignored, as the specification demands (config.md, Extensibility); encoding is
canonical, and parse_spec(encode_spec(spec)) == spec.
"""

from __future__ import annotations

from chainlite.lean import NamedTuple
from docklock.block_io import DEVICE_NUMBER_MAX, BlockLimit, encode_block_io, parse_block_io
from docklock.capability import CAPABILITIES, RLIMITS
from docklock.document import Cursor, encode_document, parse_document

OCI_VERSION = "1.2.0"
UID_MAX = 2**32 - 2
INT64_MAX = 2**63 - 1
UINT64_MAX = 2**64 - 1
MODE_MAX = 0o7777
CONSOLE_SIZE_MAX = 0xFFFF
LIST_MAX = 4096

NAMESPACES = ("cgroup", "ipc", "mount", "network", "pid", "uts")
PROPAGATIONS = ("", "private", "rprivate", "slave", "rslave")

# What a mount may lie over inside a container's /proc: files that lxcfs and its like provide.
PROC_MOUNTS_ALLOWED = (
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
)

_REFUSED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("", ("hooks",)),
    (
        "process",
        ("apparmorProfile", "selinuxLabel", "scheduler", "ioPriority", "execCPUAffinity"),
    ),
    (
        "linux",
        ("uidMappings", "gidMappings", "seccomp", "intelRdt", "mountLabel", "personality")
        + ("netDevices", "timeOffsets", "memoryPolicy"),
    ),
    ("linux.resources", ("hugepageLimits", "network", "rdma", "unified")),
    (
        "linux.resources.memory",
        ("kernel", "kernelTCP", "swappiness", "disableOOMKiller", "checkBeforeUpdate"),
    ),
    ("linux.resources.cpu", ("realtimeRuntime", "realtimePeriod", "burst", "idle")),
)
_WHY = {
    "seccomp": "docklock compiles the filter from its own policy; remove this section",
    "hooks": "docklock runs no hooks; remove them",
}


class User(NamedTuple):
    """Who the process is. `umask` None keeps 0o022."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    umask: int | None = None


class Capabilities(NamedTuple):
    """Five sets of names such as CAP_CHOWN, each sorted."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


class Rlimit(NamedTuple):
    """`kind` is a name of RLIMITS; 2**64 - 1 is no limit."""

    kind: str
    soft: int
    hard: int


class Process(NamedTuple):
    """What runs in the container, and with which rights."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: User = User()
    capabilities: Capabilities = Capabilities()
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privs: bool = False
    oom_score_adj: int | None = None
    terminal: bool = False
    console_size: tuple[int, int] | None = None  # rows, columns; only with a terminal


class Mount(NamedTuple):
    """One entry of `mounts`; `kind` is the file system's type, or bind."""

    destination: str
    kind: str
    source: str
    options: tuple[str, ...] = ()


class Namespace(NamedTuple):
    """A new namespace, or the one at `path`."""

    kind: str
    path: str = ""


class Device(NamedTuple):
    """A device node to make. `kind` is c, b, u (as c) or p."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0


class DeviceRule(NamedTuple):
    """One rule of the device controller; a number of -1 is any."""

    allow: bool
    kind: str
    major: int
    minor: int
    access: str


class Resources(NamedTuple):
    """Limits; None leaves the kernel's. -1 means no limit where the specification says so."""

    memory_max_bytes: int | None = None
    memory_low_bytes: int | None = None
    memory_swap_bytes: int | None = None
    cpu_shares: int | None = None
    cpu_quota_us: int | None = None
    cpu_period_us: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_max: int | None = None
    devices: tuple[DeviceRule, ...] = ()
    blkio_weight: int | None = None
    blkio_devices: tuple[BlockLimit, ...] = ()


class Linux(NamedTuple):
    """The `linux` section."""

    namespaces: tuple[Namespace, ...] = ()
    devices: tuple[Device, ...] = ()
    cgroups_path: str = ""
    resources: Resources = Resources()
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    rootfs_propagation: str = ""
    sysctl: tuple[tuple[str, str], ...] = ()


class Spec(NamedTuple):
    """One config.json."""

    process: Process
    root_path: str
    root_readonly: bool = False
    hostname: str = ""
    mounts: tuple[Mount, ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    linux: Linux = Linux()

    def get_namespace(self, kind: str) -> Namespace | None:
        """The namespace of this kind, or None if the caller's is kept."""
        for namespace in self.linux.namespaces:
            if namespace.kind == kind:
                return namespace
        return None


def parse_spec(data: bytes, where: str) -> Spec:
    """Parse and check a config.json; `where` names it in every SpecError."""
    root = parse_document(data, where)
    version = root.required("ociVersion")
    if not version.as_str().startswith("1."):
        raise version.error(f"docklock reads 1.x, got {version.as_str()}")
    for path, keys in _REFUSED:
        _refuse(root, path, keys)
    rootfs, linux = root.required("root"), root.required("linux")
    spec = Spec(
        process=_parse_process(root.required("process")),
        root_path=_parse_filled(rootfs.required("path")),
        root_readonly=rootfs.get("readonly").as_bool(default=False),
        hostname=root.get("hostname").as_str(""),
        mounts=tuple(_parse_mount(entry) for entry in _parse_list(root.get("mounts"))),
        annotations=_parse_pairs(root.get("annotations")),
        linux=_parse_linux(linux),
    )
    _check_namespaces(spec, root)
    return spec


def _refuse(root: Cursor, path: str, keys: tuple[str, ...]) -> None:
    section = root
    for name in path.split("."):
        section = section.get(name) if name else section
    for key in keys:
        found = section.get(key)
        # Docker writes {} and [] for what it does not use.
        if found.value not in (None, False, 0, "", [], {}):
            raise found.error(_WHY.get(key, "docklock does not support this; remove it"))


def _parse_process(process: Cursor) -> Process:
    args = process.required("args")
    if not args.as_strings() or not args.as_strings()[0]:
        raise args.error("expected a program and its arguments, got none")
    for entry in process.get("env").as_list():
        if entry.as_str().find("=") < 1:
            raise entry.error(f"expected NAME=VALUE, got {entry.as_str()!r}")
    adjust, size = process.get("oomScoreAdj"), process.get("consoleSize")
    return Process(
        args=args.as_strings(),
        env=process.get("env").as_strings(),
        cwd=_parse_path(process.required("cwd")),
        user=_parse_user(process.get("user")),
        capabilities=_parse_capabilities(process.get("capabilities")),
        rlimits=_parse_rlimits(process.get("rlimits")),
        no_new_privs=process.get("noNewPrivileges").as_bool(default=False),
        oom_score_adj=adjust.as_int(-1000, 1000) if adjust.exists else None,
        terminal=process.get("terminal").as_bool(default=False),
        console_size=_parse_size(size) if size.exists else None,
    )


def _parse_size(size: Cursor) -> tuple[int, int]:
    rows, columns = size.required("height"), size.required("width")
    return rows.as_int(0, CONSOLE_SIZE_MAX), columns.as_int(0, CONSOLE_SIZE_MAX)


def _parse_user(user: Cursor) -> User:
    umask = user.get("umask")
    return User(
        uid=user.get("uid").as_int(0, UID_MAX, 0),
        gid=user.get("gid").as_int(0, UID_MAX, 0),
        groups=tuple(item.as_int(0, UID_MAX) for item in _parse_list(user.get("additionalGids"))),
        umask=umask.as_int(0, 0o777) if umask.exists else None,
    )


def _parse_capabilities(section: Cursor) -> Capabilities:
    sets = []
    for name in Capabilities._fields:
        for entry in section.get(name).as_list():
            if entry.as_str() not in CAPABILITIES:
                raise entry.error(f"no such capability: {entry.as_str()}")
        sets.append(tuple(sorted(set(section.get(name).as_strings()))))
    return Capabilities(*sets)


def _parse_rlimits(section: Cursor) -> tuple[Rlimit, ...]:
    found: dict[str, Rlimit] = {}
    for entry in section.as_list():
        kind = entry.required("type").as_choice(RLIMITS)
        if kind in found:
            raise entry.error(f"{kind} stands twice")
        hard = entry.required("hard").as_int(0, UINT64_MAX)
        found[kind] = Rlimit(kind, entry.required("soft").as_int(0, hard), hard)
    return tuple(found.values())


def _parse_mount(entry: Cursor) -> Mount:
    for key in ("uidMappings", "gidMappings"):
        if entry.get(key).value:
            raise entry.get(key).error("docklock does not support ID-mapped mounts")
    destination, options = entry.required("destination"), entry.get("options").as_strings()
    target = _parse_path(destination)
    is_bind = "bind" in options or "rbind" in options
    kind = "bind" if is_bind else entry.required("type").as_str()
    if target == "/":
        raise destination.error("a mount cannot replace the root")
    if target.startswith("/proc/") and target not in PROC_MOUNTS_ALLOWED:
        raise destination.error("a mount inside /proc could hide or forge kernel files")
    source = entry.get("source").as_str("" if is_bind else kind)
    if is_bind and not source:
        raise entry.error("a bind mount needs a source")
    return Mount(target, kind, source, options)


def _parse_linux(linux: Cursor) -> Linux:
    namespaces = []
    for entry in linux.get("namespaces").as_list():
        kind = entry.required("type")
        if kind.as_choice((*NAMESPACES, "user", "time")) in ("user", "time"):
            raise kind.error(f"docklock does not support {kind.as_str()} namespaces")
        path = entry.get("path")
        namespaces.append(Namespace(kind.as_str(), _parse_path(path) if path.exists else ""))
        if kind.as_str() in {other.kind for other in namespaces[:-1]}:
            raise entry.error(f"the {kind.as_str()} namespace stands twice")
    return Linux(
        namespaces=tuple(namespaces),
        devices=tuple(_parse_device(entry) for entry in _parse_list(linux.get("devices"))),
        cgroups_path=linux.get("cgroupsPath").as_str(""),
        resources=_parse_resources(linux.get("resources")),
        masked_paths=tuple(_parse_path(entry) for entry in _parse_list(linux.get("maskedPaths"))),
        readonly_paths=tuple(
            _parse_path(entry) for entry in _parse_list(linux.get("readonlyPaths"))
        ),
        rootfs_propagation=linux.get("rootfsPropagation").as_choice(PROPAGATIONS, ""),
        sysctl=_parse_pairs(linux.get("sysctl")),
    )


def _parse_device(entry: Cursor) -> Device:
    mode = entry.get("fileMode")
    is_pipe = entry.required("type").as_choice(("c", "b", "u", "p")) == "p"
    return Device(
        path=_parse_path(entry.required("path")),
        kind=entry.required("type").as_str(),
        major=entry.get("major").as_int(0, DEVICE_NUMBER_MAX, 0 if is_pipe else None),
        minor=entry.get("minor").as_int(0, DEVICE_NUMBER_MAX, 0 if is_pipe else None),
        mode=(mode.as_int(0, 0o177777) if mode.exists else 0o666) & MODE_MAX,
        uid=entry.get("uid").as_int(0, UID_MAX, 0),
        gid=entry.get("gid").as_int(0, UID_MAX, 0),
    )


def _parse_resources(section: Cursor) -> Resources:
    memory, cpu = section.get("memory"), section.get("cpu")
    weight, limits = parse_block_io(section.get("blockIO"))
    return Resources(
        memory_max_bytes=_parse_limit(memory.get("limit")),
        memory_low_bytes=_parse_limit(memory.get("reservation")),
        memory_swap_bytes=_parse_limit(memory.get("swap")),
        cpu_shares=_parse_limit(cpu.get("shares"), 0) or None,
        cpu_quota_us=_parse_limit(cpu.get("quota")),
        cpu_period_us=_parse_limit(cpu.get("period"), 0) or None,
        cpuset_cpus=cpu.get("cpus").as_str(""),
        cpuset_mems=cpu.get("mems").as_str(""),
        pids_max=_parse_limit(section.get("pids").get("limit")),
        devices=tuple(_parse_device_rule(entry) for entry in _parse_list(section.get("devices"))),
        blkio_weight=weight,
        blkio_devices=limits,
    )


def _parse_device_rule(entry: Cursor) -> DeviceRule:
    access = entry.get("access").as_str("rwm") or "rwm"
    if set(access) - set("rwm"):
        raise entry.get("access").error(f"expected letters of rwm, got {access!r}")
    return DeviceRule(
        allow=entry.required("allow").as_bool(),
        kind=entry.get("type").as_choice(("a", "b", "c"), "a"),
        major=entry.get("major").as_int(-1, DEVICE_NUMBER_MAX, -1),
        minor=entry.get("minor").as_int(-1, DEVICE_NUMBER_MAX, -1),
        access="".join(letter for letter in "rwm" if letter in access),
    )


def _parse_limit(value: Cursor, low: int = -1) -> int | None:
    return value.as_int(low, INT64_MAX) if value.exists else None


def _parse_list(value: Cursor) -> tuple[Cursor, ...]:
    entries = value.as_list()
    if len(entries) > LIST_MAX:
        raise value.error(f"{len(entries)} entries, at most {LIST_MAX} are read")
    return entries


def _parse_pairs(value: Cursor) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(value.as_string_map().items()))


def _parse_filled(value: Cursor) -> str:
    if not value.as_str():
        raise value.error("expected a path, got an empty string")
    return value.as_str()


def _parse_path(value: Cursor) -> str:
    """An absolute path, without doubled or closing slashes and dots."""
    path = _parse_filled(value)
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not path.startswith("/") or ".." in parts:
        raise value.error(f"expected an absolute path without .., got {path!r}")
    return "/" + "/".join(parts)


def _check_namespaces(spec: Spec, root: Cursor) -> None:
    mount = spec.get_namespace("mount")
    where = root.get("linux").get("namespaces")
    if mount is None or mount.path:
        raise where.error("a new mount namespace is needed: add one without a path")
    if spec.hostname and spec.get_namespace("uts") is None:
        raise root.get("hostname").error("a hostname needs a uts namespace")
    for key, _ in spec.linux.sysctl:
        needed = get_sysctl_namespace(key)
        place = root.get("linux").get("sysctl").get(key)
        if not needed or "/" in key or ".." in key:
            raise place.error("this setting belongs to the host, not to a namespace")
        if spec.get_namespace(needed) is None:
            raise place.error(f"without a {needed} namespace this would change the host")


def get_sysctl_namespace(key: str) -> str:
    """The kind of namespace whose setting `key` is; empty if it is the host's."""
    ipc = ("kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue.")
    return "network" if key.startswith("net.") else "ipc" if key.startswith(ipc) else ""


def encode_spec(spec: Spec) -> bytes:
    """The config.json of `spec`: the same spec gives the same bytes."""
    return encode_document(
        {
            "ociVersion": OCI_VERSION,
            "process": _encode_process(spec.process),
            "root": {"path": spec.root_path, "readonly": spec.root_readonly},
            "hostname": spec.hostname,
            "mounts": [
                {"destination": to, "type": kind, "source": source, "options": list(options)}
                for to, kind, source, options in spec.mounts
            ],
            "annotations": dict(spec.annotations),
            "linux": _encode_linux(spec.linux),
        }
    )


def _encode_process(process: Process) -> dict[str, object]:
    user, size = process.user, process.console_size
    return {
        "args": list(process.args),
        "env": list(process.env),
        "cwd": process.cwd,
        "user": _known(
            {"uid": user.uid, "gid": user.gid, "umask": user.umask}
            | {"additionalGids": list(user.groups)}
        ),
        "capabilities": {name: list(held) for name, held in process.capabilities._asdict().items()},
        "rlimits": [{"type": kind, "soft": s, "hard": h} for kind, s, h in process.rlimits],
        "noNewPrivileges": process.no_new_privs,
        "terminal": process.terminal,
    } | _known(
        {"oomScoreAdj": process.oom_score_adj}
        | {"consoleSize": None if size is None else {"height": size[0], "width": size[1]}}
    )


def _encode_linux(linux: Linux) -> dict[str, object]:
    return {
        "namespaces": [
            {"type": kind, "path": path} if path else {"type": kind}
            for kind, path in linux.namespaces
        ],
        "devices": [
            {"path": d.path, "type": d.kind, "major": d.major, "minor": d.minor}
            | {"fileMode": d.mode, "uid": d.uid, "gid": d.gid}
            for d in linux.devices
        ],
        "cgroupsPath": linux.cgroups_path,
        "resources": _encode_resources(linux.resources),
        "maskedPaths": list(linux.masked_paths),
        "readonlyPaths": list(linux.readonly_paths),
        "rootfsPropagation": linux.rootfs_propagation,
        "sysctl": dict(linux.sysctl),
    }


def _encode_resources(resources: Resources) -> dict[str, object]:
    r = resources
    memory: dict[str, object] = {"limit": r.memory_max_bytes, "reservation": r.memory_low_bytes}
    cpu = _known({"shares": r.cpu_shares, "quota": r.cpu_quota_us, "period": r.cpu_period_us})
    return {
        "memory": _known(memory | {"swap": r.memory_swap_bytes}),
        "cpu": cpu | {"cpus": r.cpuset_cpus, "mems": r.cpuset_mems},
        "pids": _known({"limit": r.pids_max}),
        "devices": [
            {"allow": d.allow, "type": d.kind, "access": d.access, "major": d.major}
            | {"minor": d.minor}
            for d in r.devices
        ],
    } | _known({"blockIO": encode_block_io(r.blkio_weight, r.blkio_devices)})


def _known(section: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in section.items() if value is not None}
