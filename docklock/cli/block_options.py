"""--blkio-weight-device and --device-read-bps and its like: what devices give a container.

Loaded when one is given; --blkio-weight is in limits.py. Not here: what the kernel is told
(docklock.cgroup.limits). Source: docker/cli, opts/weightdevice.go and opts/throttledevice.go.
"""

from __future__ import annotations

import os
import stat

from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING
from docklock.block_io import RATE_MAX, WEIGHT, WEIGHT_MAX, WEIGHT_MIN, BlockLimit
from docklock.cli.limits import parse_bytes

if TYPE_CHECKING:
    from typing import Any

    from docklock.spec import Spec

# Keys of options: kinds of limits.
KINDS = {
    "blkio_weight_device": WEIGHT,
    "device_read_bps": "read_bps",
    "device_write_bps": "write_bps",
    "device_read_iops": "read_iops",
    "device_write_iops": "write_iops",
}


def add_block_limits(spec: Spec, values: dict[str, Any]) -> Spec:
    """The spec with what these options say; of two for one device the later one is meant."""
    found: dict[tuple[str, int, int], BlockLimit] = {}
    for key, kind in KINDS.items():
        for word in values[key]:
            limit = parse_limit(f"--{key.replace('_', '-')}", kind, word)
            found[limit[:3]] = limit
    if not found:
        return spec
    resources = spec.linux.resources._replace(blkio_devices=tuple(found.values()))
    return spec._replace(linux=spec.linux._replace(resources=resources))


def parse_limit(option: str, kind: str, word: str) -> BlockLimit:
    """The limit of DEVICE:VALUE. SpecError."""
    path, colon, text = word.rpartition(":")
    if not colon or not path.startswith("/dev/"):
        raise SpecError(f"{option} {word}: bad format for path: give /dev/DISK:VALUE")
    value = _parse_value(option, kind, path, text)
    try:
        status = os.stat(path)
    except OSError as error:
        raise SpecError(f"{option} {word}: {path}: {error.strerror}") from None
    if not stat.S_ISBLK(status.st_mode):
        raise SpecError(f"{option} {word}: {path} is no block device, which alone can be limited")
    return BlockLimit(kind, os.major(status.st_rdev), os.minor(status.st_rdev), value)


def _parse_value(option: str, kind: str, path: str, text: str) -> int:
    if kind.endswith("bps"):
        return parse_bytes(f"{option} {path}", text)
    low, high = (WEIGHT_MIN, WEIGHT_MAX) if kind == WEIGHT else (1, RATE_MAX)
    if not (text.isascii() and text.isdigit() and low <= int(text[:20]) <= high):
        raise SpecError(f"{option} {path}:{text}: give a number from {low} to {high}")
    return int(text)
