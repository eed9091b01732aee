"""--device VENDOR/CLASS=DEVICE and --gpus: what a CDI device adds to a container.

Environment, device nodes, mounts and groups. Hooks are refused: they are programs of this host
that would run as root in the half-made container, on nobody's record. Loaded when one is given.
Not here: finding and reading the files (cdi_files.py).
Source: CDI specification 1.0; docker.com, `--gpus` and CDI devices.
"""

from __future__ import annotations

import csv
import os
import stat
from typing import TYPE_CHECKING

from chainlite.errors import SpecError
from docklock.block_io import DEVICE_NUMBER_MAX
from docklock.cli.cdi_files import DIRECTORIES, Offers, read_offers
from docklock.cli.values import VOLUME_OPTIONS
from docklock.spec import MODE_MAX, UID_MAX, Device, DeviceRule, Mount, Spec

if TYPE_CHECKING:
    from docklock.document import Cursor

ALL = "all"
GPU_KINDS = ("nvidia.com/gpu", "amd.com/gpu")
GPU_CLASS = "gpu"
_DRIVERS = {"": GPU_KINDS, "nvidia": GPU_KINDS[:1], "amd": GPU_KINDS[1:]}
_LETTERS = {stat.S_IFCHR: "c", stat.S_IFBLK: "b", stat.S_IFIFO: "p"}
_REFUSED = {
    "hooks": "docklock runs no hooks: have the file made without (nvidia-ctk cdi generate has"
    " --disable-hooks), and set LD_LIBRARY_PATH to where its libraries are mounted",
    "intelRdt": "docklock sets no resctrl groups",
    "netDevices": "docklock moves no network devices yet",
}


def inject(spec: Spec, names: list[str], offers: Offers) -> Spec:
    """The spec with the devices' edits, and those of their files, each once. SpecError."""
    done: set[str] = set()
    for name in dict.fromkeys(names):
        file, edits = offers.find(name)
        if file.path not in done:
            done.add(file.path)
            spec = _edit(spec, file.edits)
        spec = _edit(spec, edits)
    return spec


def find_names(devices: list[str], gpus: str | None) -> tuple[list[str], Offers]:
    """What --device and --gpus name, and all that is there. SpecError."""
    offers = read_offers(DIRECTORIES)
    return [*devices, *(choose_gpus(gpus, offers) if gpus is not None else ())], offers


def choose_gpus(word: str, offers: Offers) -> list[str]:
    """The CDI names that Docker's --gpus means. SpecError."""
    count, ids, driver = _parse_gpus(word)
    kind = _find_kind(word, driver, offers)
    known = offers.list_devices(kind)
    if ids:
        return [f"{kind}={one}" for one in ids]
    if count is None:
        return [f"{kind}={one}" for one in ([ALL] if ALL in known else known)]
    numbered = sorted((one for one in known if one.isdecimal()), key=int)
    if len(numbered) < count:
        raise SpecError(f"--gpus {word}: {kind} has {len(numbered)} numbered devices")
    return [f"{kind}={one}" for one in numbered[:count]]


def _parse_gpus(word: str) -> tuple[int | None, list[str], str]:
    """(how many, None for all; which; the driver)."""
    count: int | None = 1
    ids: list[str] = []
    driver = ""
    try:
        fields = next(csv.reader([word]), [])
    except csv.Error as error:
        raise SpecError(f"--gpus {word!r}: {error}") from None
    for field in fields:
        name, has_value, value = field.partition("=")
        if not has_value:
            name, value = "count", field
        if name == "count":
            count = _parse_count(word, value)
        elif name == "device" and value:
            ids = value.split(",")
        elif name == "driver" and value in _DRIVERS:
            driver = value
        elif name != "capabilities" or value != GPU_CLASS:
            raise SpecError(
                f"--gpus {word}: {field}: docklock has all, a number, device=ID,... and driver="
                f" {' or '.join(one for one in _DRIVERS if one)}; what a device brings along, its"
                " CDI file says"
            )
    return count, ids, driver


def _parse_count(word: str, value: str) -> int | None:
    if value in (ALL, "-1"):
        return None
    if not (value.isascii() and value.isdigit() and len(value) < 5):
        raise SpecError(f"--gpus {word}: give all, a number or device=ID,...")
    return int(value)


def _find_kind(word: str, driver: str, offers: Offers) -> str:
    kinds = {one.kind for one in offers.files}
    for kind in _DRIVERS[driver]:
        if kind in kinds:
            return kind
    others = sorted(kind for kind in kinds if kind.partition("/")[2] == GPU_CLASS)
    if len(others) == 1 and not driver:
        return others[0]
    broken = f"; could not be read: {'; '.join(offers.problems)}" if offers.problems else ""
    raise SpecError(
        f'--gpus {word}: could not select device driver "{driver}" with capabilities: [[gpu]]: no'
        f" CDI file in {' or '.join(DIRECTORIES)} has such a GPU (nvidia-ctk cdi generate makes"
        f" one){broken}"
    )


def _edit(spec: Spec, edits: Cursor) -> Spec:
    for key, why in _REFUSED.items():
        if edits.get(key).value:
            raise edits.get(key).error(why)
    process, linux = spec.process, spec.linux
    names = {entry.partition("=")[0]: entry for entry in process.env}
    for entry in edits.get("env").as_list():
        name, has_value, _ = entry.as_str().partition("=")
        if not name or not has_value:
            raise entry.error(f"expected NAME=VALUE, got {entry.as_str()!r}")
        names[name] = entry.as_str()
    groups = {one.as_int(1, UID_MAX) for one in edits.get("additionalGids").as_list()}
    user = process.user._replace(groups=tuple(sorted({*process.user.groups, *groups})))
    nodes = {device.path: device for device in linux.devices}
    rules = list(linux.resources.devices)
    for entry in edits.get("deviceNodes").as_list():
        device, rule = _parse_node(entry)
        nodes[device.path] = device
        rules += rule
    resources = linux.resources._replace(devices=tuple(rules))
    return spec._replace(
        process=process._replace(env=tuple(names.values()), user=user),
        linux=linux._replace(devices=tuple(nodes.values()), resources=resources),
        mounts=(*spec.mounts, *(_parse_mount(one) for one in edits.get("mounts").as_list())),
    )


def _parse_node(entry: Cursor) -> tuple[Device, list[DeviceRule]]:
    """The node; what the entry does not say is the host's."""
    path = _parse_path(entry.required("path"))
    source, kind, mode = entry.get("hostPath").as_str(path) or path, entry.get("type"), None
    major, minor = (entry.get(key) for key in ("major", "minor"))
    if kind.exists and (major.exists or kind.as_str() == "p"):
        letter = kind.as_choice(("b", "c", "u", "p"))
        numbers = [one.as_int(0, DEVICE_NUMBER_MAX, 0) for one in (major, minor)]
    else:
        letter, numbers, mode = _look_up(entry, source)
    given = entry.get("fileMode")
    mode = given.as_int(0, 0o177777) & MODE_MAX if given.exists else 0o666 if mode is None else mode
    uid, gid = (entry.get(key).as_int(0, UID_MAX, 0) for key in ("uid", "gid"))
    device = Device(path, letter, numbers[0], numbers[1], mode, uid, gid)
    access = entry.get("permissions").as_str("rwm")
    if not access or set(access) - set("rwm"):
        raise entry.get("permissions").error(f"expected letters of rwm, got {access!r}")
    if letter == "p":
        return device, []
    ordered = "".join(one for one in "rwm" if one in access)
    rule = DeviceRule(True, "b" if letter == "b" else "c", device.major, device.minor, ordered)
    return device, [rule]


def _look_up(entry: Cursor, source: str) -> tuple[str, list[int], int]:
    try:
        status = os.stat(source)
    except OSError as error:
        raise entry.error(f"{source}: {error.strerror}") from None
    letter = _LETTERS.get(stat.S_IFMT(status.st_mode))
    if letter is None:
        raise entry.error(f"{source} is not a device node")
    numbers = [os.major(status.st_rdev), os.minor(status.st_rdev)]
    return letter, numbers, stat.S_IMODE(status.st_mode)


def _parse_mount(entry: Cursor) -> Mount:
    target = _parse_path(entry.required("containerPath"))
    options, kind = entry.get("options").as_strings(), entry.get("type").as_str("bind")
    if kind not in ("bind", "none", ""):
        raise entry.get("type").error(f"expected bind, got {kind!r}")
    for option in options:
        if option not in VOLUME_OPTIONS:
            raise entry.get("options").error(f"unknown option {option!r}")
    source = entry.required("hostPath").as_str()
    if not os.path.isabs(source) or not os.path.exists(source):
        raise entry.get("hostPath").error(f"{source}: no such path on this host")
    kept = [one for one in options if one not in ("rw", "z", "Z", "U", "bind", "rbind")]
    shape = "bind" if "bind" in options else "rbind"
    return Mount(target, "bind", source, (shape, "rprivate", *kept))


def _parse_path(value: Cursor) -> str:
    path = value.as_str()
    if not path.startswith("/") or ".." in path.split("/") or os.path.normpath(path) == "/":
        raise value.error(f"expected an absolute path below / without .., got {path!r}")
    return os.path.normpath(path)
