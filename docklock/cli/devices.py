"""The host's devices for a container: --device, --device-cgroup-rule, and all for --privileged.

Loaded when one of these is given. Source: docker/cli opts (device and rule forms), moby
daemon/oci_linux.go (a directory stands for every device below it).
"""

from __future__ import annotations

import os
import stat

from chainlite.errors import SpecError
from docklock.block_io import DEVICE_NUMBER_MAX
from docklock.spec import Device, DeviceRule

DEVICES_MAX = 1024
_KINDS = {stat.S_IFCHR: "c", stat.S_IFBLK: "b"}
# Not the host's: the container has its own of these.
_OWN_DIRECTORIES = ("pts", "shm", "mqueue")
_OWN_FILES = ("/dev/console", "/dev/ptmx")


def is_cdi_name(word: str) -> bool:
    """Whether a --device is a CDI device's name, VENDOR/CLASS=DEVICE, and no path."""
    return "=" in word and "/" in word and not word.startswith(("/", "."))


def parse_device(word: str) -> tuple[tuple[Device, ...], tuple[DeviceRule, ...]]:
    """The nodes and rules of HOST[:CONTAINER[:rwm]]."""
    parts = word.split(":")
    source, target, access = parts[0], parts[0], "rwm"
    if len(parts) == 2:
        if _is_access(parts[1]):
            access = parts[1]
        else:
            target = parts[1]
    elif len(parts) == 3:
        target, access = parts[1] or source, parts[2]
    if len(parts) > 3 or not source:
        raise SpecError(f"--device {word}: give HOST[:CONTAINER[:rwm]]")
    if not _is_access(access):
        raise SpecError(f"--device {word}: invalid device mode {access!r}, letters of rwm")
    access = _order(access)
    if not source.startswith("/") or not target.startswith("/") or ".." in target.split("/"):
        raise SpecError(f"--device {word}: give absolute paths without ..")
    devices = _list_devices(word, os.path.normpath(source), os.path.normpath(target))
    rules = (DeviceRule(True, one.kind, one.major, one.minor, access) for one in devices)
    return devices, tuple(rules)


def parse_device_rule(word: str) -> DeviceRule:
    """One rule more for the device controller, as `c 10:200 rwm`; * is any number."""
    fields = word.split(" ")
    numbers = fields[1].split(":") if len(fields) == 3 else []
    if len(numbers) != 2 or fields[0] not in ("a", "b", "c") or not _is_access(fields[2]):
        raise SpecError(
            f"--device-cgroup-rule {word}: give a rule such as 'c 10:200 rwm' or 'b 8:* r'"
        )
    major, minor = (_parse_number(word, number) for number in numbers)
    access = _order(fields[2])
    if fields[0] == "a" and (major, minor, access) != (-1, -1, "rwm"):
        raise SpecError(f"--device-cgroup-rule {word}: a means every device: 'a *:* rwm'")
    return DeviceRule(True, fields[0], major, minor, access)


def list_host_devices() -> tuple[Device, ...]:
    """Every device node of the host's /dev, but for terminals: what --privileged gives."""
    return tuple(_walk("/dev", "/dev"))


def _list_devices(word: str, source: str, target: str) -> tuple[Device, ...]:
    try:
        status = os.stat(source)
    except OSError as error:
        raise SpecError(
            f"--device {word}: error gathering device information while adding custom device"
            f' "{source}": {error.strerror}'
        ) from None
    if stat.S_ISDIR(status.st_mode):
        found = tuple(_walk(source, target))
        if not found:
            raise SpecError(f"--device {word}: there is no device below {source}")
        if len(found) > DEVICES_MAX:
            raise SpecError(f"--device {word}: {len(found)} devices, at most {DEVICES_MAX}")
        return found
    device = _describe(target, status)
    if device is None:
        raise SpecError(f'--device {word}: "{source}" is not a device node')
    return (device,)


def _walk(source: str, target: str) -> list[Device]:
    found = []
    for directory, children, names in os.walk(source):
        children[:] = [name for name in children if name not in _OWN_DIRECTORIES]
        for name in names:
            path = f"{directory}/{name}"
            device = _describe(target + path[len(source) :], os.lstat(path))
            if device is not None and path not in _OWN_FILES:
                found.append(device)
    return found


def _describe(path: str, status: os.stat_result) -> Device | None:
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return None
    major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    mode = stat.S_IMODE(status.st_mode)
    return Device(path, kind, major, minor, mode, status.st_uid, status.st_gid)


def _is_access(word: str) -> bool:
    return 0 < len(word) <= 3 and not set(word) - set("rwm")


def _order(access: str) -> str:
    return "".join(letter for letter in "rwm" if letter in access)


def _parse_number(word: str, number: str) -> int:
    if number == "*":
        return -1
    if not (number.isascii() and number.isdigit() and int(number) <= DEVICE_NUMBER_MAX):
        raise SpecError(f"--device-cgroup-rule {word}: {number!r} is no device number")
    return int(number)
