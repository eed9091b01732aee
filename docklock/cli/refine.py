"""The options that few runs have, and what they change in a container and its spec.

Loaded when one of values.MORE_OPTIONS is given: a run without them pays nothing for them. Each
error names the option and a remedy. Not here: what the options are called (values.py), mounts
(mount_option.py), devices (devices.py), files (option_files.py).
"""

from __future__ import annotations

import os

from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING
from docklock.cli.block_options import add_block_limits
from docklock.cli.host_files import check_names, is_dns_asked
from docklock.cli.limits import parse_bytes
from docklock.cli.option_files import read_pairs
from docklock.cli.sharing import check_sharing, share
from docklock.defaults import get_default_mounts
from docklock.spec import Mount, get_sysctl_namespace

if TYPE_CHECKING:
    from typing import Any

    from docklock.lifecycle import Container
    from docklock.spec import Process, Spec

SHM = "/dev/shm"
OOM_SCORE_ADJUST_MAX = 1000
STOP_TIMEOUT_MAX_S = 10**9
# What docklock binds over /etc gives way to what is asked for.
RESOLV = "/etc/resolv.conf"
REPLACED = ("/etc/hostname", "/etc/hosts", RESOLV)
INIT_TARGET = "/sbin/docker-init"
# Programs that are a container's first process, as Docker's --init has one; of these a static one.
INIT_NAMES = ("docker-init", "tini-static", "catatonit", "tini")
INIT_DIRECTORIES = ("/usr/libexec/docker", "/usr/libexec/podman", "/usr/lib/podman")
# Other words for OCI's architectures.
_ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386"}
_ELF_HEADERS_MAX = 64
_PT_INTERP = 3


def read_option_files(values: dict[str, Any]) -> None:
    """Put what --env-file and --label-file say before what --env and --label do."""
    for files, target in (("env_file", "env"), ("label_file", "label")):
        option = f"--{files.replace('_', '-')}"
        found = [line for path in values.get(files, ()) for line in read_pairs(option, path)]
        if found:
            values[target] = [*found, *values[target]]


def check_options(values: dict[str, Any]) -> None:
    """SpecError for what is wrong whatever the image; files of options are read."""
    read_option_files(values)
    check_sharing(values)
    if values["add_host"] or is_dns_asked(values):
        check_names(values)


def refine(
    container: Container,
    spec: Spec,
    values: dict[str, Any],
    roots: tuple[str, ...],
    architecture: str,
) -> tuple[Container, Spec]:
    """The container and spec with all that MORE_OPTIONS ask for. `roots`: the image's layers."""
    if values["platform"]:
        _check_platform(values["platform"], container.image, architecture)
    spec = share(spec, values)
    if is_dns_asked(values) and not any(m.destination == RESOLV for m in spec.mounts):
        source = f"{container.bundle}/resolv.conf"
        spec = spec._replace(
            mounts=(*spec.mounts, Mount(RESOLV, "bind", source, ("bind", "rprivate")))
        )
    if values["cgroup_parent"]:
        path = _parse_cgroup_parent(values["cgroup_parent"], container.id)
        spec = spec._replace(linux=spec.linux._replace(cgroups_path=path))
    if values["stop_timeout"] is not None:
        container = container._replace(stop_timeout_s=_parse_stop_timeout(values["stop_timeout"]))
    spec = add_block_limits(_add_devices(spec, values), values)
    process = spec.process
    if values["group_add"]:
        groups = {*process.user.groups, *_find_groups(roots, values["group_add"])}
        process = process._replace(user=process.user._replace(groups=tuple(sorted(groups))))
    if values["oom_score_adj"] is not None:
        process = process._replace(oom_score_adj=_parse_oom_score(values["oom_score_adj"]))
    spec = _add_mounts(spec, values)
    if values["init"]:
        process, mount = _add_init(process)
        spec = spec._replace(mounts=(*spec.mounts, mount))
    if values["annotation"]:
        pairs = dict(spec.annotations) | dict(_parse_annotation(w) for w in values["annotation"])
        spec = spec._replace(annotations=tuple(sorted(pairs.items())))
    if values["log_driver"] or values["log_opt"]:
        from docklock.cli.log_options import set_log

        container = set_log(container, spec, values)
    if values["sysctl"]:
        pairs = dict(_parse_sysctl(word, spec) for word in values["sysctl"])
        spec = spec._replace(linux=spec.linux._replace(sysctl=tuple(sorted(pairs.items()))))
    return container, spec._replace(process=process)


def _check_platform(word: str, image: str, architecture: str) -> None:
    """SpecError unless the image is for os[/architecture[/variant]], or for that architecture."""
    fields = word.lower().split("/")
    named = fields[0] if len(fields) == 1 else fields[1]
    if not all(fields) or len(fields) > 3 or (len(fields) > 1 and fields[0] != "linux"):
        raise SpecError(f"--platform {word}: give linux/ARCHITECTURE, such as linux/amd64")
    wanted = _ARCHITECTURES.get(named, named)
    if wanted not in ("linux", architecture) and image:
        raise SpecError(
            f"image with reference {image} was found but its platform (linux/{architecture})"
            f" does not match the specified platform ({word})"
        )


def _parse_cgroup_parent(word: str, container_id: str) -> str:
    """The OCI cgroupsPath. Not in another container's: that one's end would be this one's."""
    from docklock.cgroup.driver import locate_path
    from docklock.cgroup.hierarchy import PARENT_NAME

    parts = [part for part in word.split("/") if part not in ("", ".")]
    if PARENT_NAME in parts[:-1]:
        raise SpecError(f"--cgroup-parent {word}: it lies in a container's own cgroup")
    path = f"{'/' if word.startswith('/') else ''}{'/'.join((*parts, container_id))}"
    locate_path(path, container_id)
    return path


def _parse_stop_timeout(word: str) -> int:
    number = word.removeprefix("-")
    if not (number.isascii() and number.isdigit() and int(number) <= STOP_TIMEOUT_MAX_S):
        raise SpecError(f"--stop-timeout {word}: give whole seconds, or -1 to wait for ever")
    return max(-1, int(word))


def _parse_oom_score(word: str) -> int:
    number, most = word.removeprefix("-"), OOM_SCORE_ADJUST_MAX
    if not (number.isascii() and number.isdigit() and int(number) <= most):
        raise SpecError(
            f"--oom-score-adj {word}: invalid value, range for oom score adj is [-{most}, {most}]"
        )
    return int(word)


def _parse_annotation(word: str) -> tuple[str, str]:
    name, has_value, value = word.partition("=")
    if not name or not has_value:
        raise SpecError(f"--annotation {word}: give NAME=VALUE")
    return name, value


def _parse_sysctl(word: str, spec: Spec) -> tuple[str, str]:
    """A setting of a namespace that is the container's own."""
    name, has_value, value = word.partition("=")
    name = name.strip()
    if not name or not has_value or "/" in name or ".." in name:
        raise SpecError(f"--sysctl {word}: give NAME=VALUE, such as net.core.somaxconn=1024")
    kind = get_sysctl_namespace(name)
    if not kind:
        raise SpecError(
            f"--sysctl {word}: sysctl '{name}' is not whitelisted: it belongs to the host"
        )
    if spec.get_namespace(kind) is None:
        raise SpecError(f"--sysctl {word}: sysctl '{name}' not allowed in host {kind} namespace")
    return name, value


def _find_groups(roots: tuple[str, ...], words: list[str]) -> tuple[int, ...]:
    """The numbers of groups by the topmost /etc/group of `roots`."""
    from docklock.users import resolve_groups

    with_groups = [root for root in roots if os.path.lexists(f"{root}/etc/group")]
    fd = os.open((*with_groups, *roots)[0], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return resolve_groups(fd, words)
    finally:
        os.close(fd)


def _add_mounts(spec: Spec, values: dict[str, Any]) -> Spec:
    """--shm-size and --mount. Those over others come after them, as Docker sorts them."""
    if not values["shm_size"] and not values["mount"]:
        return spec
    count = len(get_default_mounts())
    ours, asked = list(spec.mounts[:count]), list(spec.mounts[count:])
    if values["shm_size"]:
        size = f"size={parse_bytes('--shm-size', values['shm_size'])}"
        ours = [_resize(mount, size) if mount.destination == SHM else mount for mount in ours]
    if values["mount"]:
        from docklock.cli.mount_option import parse_mount

        taken = {mount.destination for mount in asked} - set(REPLACED)
        for word in values["mount"]:
            mount = parse_mount(word)
            if mount.destination in taken:
                raise SpecError(f"--mount {word}: Duplicate mount point: {mount.destination}")
            taken.add(mount.destination)
            asked.append(mount)
        asked.sort(key=lambda mount: mount.destination.count("/"))
    return spec._replace(mounts=(*ours, *asked))


def _resize(mount: Mount, size: str) -> Mount:
    kept = [option for option in mount.options if not option.startswith("size=")]
    return mount._replace(options=(*kept, size))


def _add_devices(spec: Spec, values: dict[str, Any]) -> Spec:
    """--device and --device-cgroup-rule; of two devices at one path the later one is meant."""
    if not values["device"] and not values["device_cgroup_rule"] and values["gpus"] is None:
        return spec
    from docklock.cli.devices import is_cdi_name, parse_device, parse_device_rule

    named = [word for word in values["device"] if is_cdi_name(word)]
    if named or values["gpus"] is not None:
        from docklock.cli.cdi import find_names, inject

        spec = inject(spec, *find_names(named, values["gpus"]))
    linux = spec.linux
    nodes = {device.path: device for device in linux.devices}
    rules = list(linux.resources.devices)
    for word in (word for word in values["device"] if word not in named):
        devices, more = parse_device(word)
        nodes.update((device.path, device) for device in devices)
        rules += more
    rules += [parse_device_rule(word) for word in values["device_cgroup_rule"]]
    resources = linux.resources._replace(devices=tuple(rules))
    return spec._replace(linux=linux._replace(devices=tuple(nodes.values()), resources=resources))


def _add_init(process: Process) -> tuple[Process, Mount]:
    """The program behind this host's init, which reaps orphans and passes signals on."""
    path = _find_init()
    options = ("bind", "rprivate", "ro")
    args = (INIT_TARGET, "--", *process.args)
    return process._replace(args=args), Mount(INIT_TARGET, "bind", path, options)


def _find_init() -> str:
    """A static init of this host: one with an interpreter would want the host's libraries."""
    search = (*os.environ.get("PATH", os.defpath).split(":"), *INIT_DIRECTORIES)
    for name in INIT_NAMES:
        for directory in search:
            path = f"{directory}/{name}"
            if directory.startswith("/") and os.access(path, os.X_OK) and _is_static(path):
                return path
    raise SpecError(
        "--init: this host has no static docker-init, tini-static or catatonit to be the"
        " container's first process: install tini (Debian, Ubuntu) or catatonit"
    )


def _is_static(path: str) -> bool:
    """Whether it is a 64-bit little-endian ELF program without an interpreter (elf(5))."""
    with open(path, "rb") as file:
        head = file.read(64)
        if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
            return False
        offset = int.from_bytes(head[32:40], "little")
        size, count = (int.from_bytes(head[at : at + 2], "little") for at in (54, 56))
        file.seek(offset)
        table = file.read(size * min(count, _ELF_HEADERS_MAX))
    kinds = [int.from_bytes(table[at : at + 4], "little") for at in range(0, len(table), size)]
    return bool(kinds) and _PT_INTERP not in kinds
