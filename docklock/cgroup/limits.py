"""From Resources to the files of a cgroup and what is written into them. Pure.

Not here: writing (docklock.cgroup.driver), the device list (docklock.cgroup.devices).
Source: cgroup-v1 memory.rst and sched-bwc.rst; cgroup-v2.rst; the OCI runtime-spec's config-linux.
"""

from __future__ import annotations

from chainlite.lean import NamedTuple
from docklock.block_io import WEIGHT, WEIGHT_MAX, WEIGHT_MIN
from docklock.spec import Resources

CPU_PERIOD_DEFAULT_US = 100_000
_SHARES_MIN, _SHARES_MAX = 2, 262_144


class Setting(NamedTuple):
    """`value` is written into `file` of the hierarchy that has `controller`.

    `instead`: another file and its value, where the kernel has not the first.
    """

    controller: str
    file: str
    value: str
    instead: tuple[str, str] | None = None


def compute_settings(resources: Resources, version: int) -> tuple[Setting, ...]:
    """Every setting of `resources`, in the order in which the kernel takes them."""
    r = resources
    names = _V1 if version == 1 else _V2
    memory = (("limit", r.memory_max_bytes), ("low", r.memory_low_bytes))
    settings = [
        Setting("memory", names[key], _encode_limit(value, version))
        for key, value in memory
        if value is not None
    ]
    settings += _compute_swap(r, version)
    settings += _compute_cpu(r, version)
    if r.pids_max is not None:
        value = str(r.pids_max) if r.pids_max > 0 else "max"
        settings.append(Setting("pids", "pids.max", value))
    cpuset = (("cpuset.cpus", r.cpuset_cpus), ("cpuset.mems", r.cpuset_mems))
    settings += [Setting("cpuset", name, value) for name, value in cpuset if value]
    return (*settings, *_compute_block_io(r, version))


def compute_controllers(resources: Resources) -> tuple[str, ...]:
    """The controllers that `resources` cannot do without."""
    needed = {setting.controller for setting in compute_settings(resources, 1)}
    if resources.devices:
        needed.add("devices")
    return tuple(sorted(needed))


_V1 = {"limit": "memory.limit_in_bytes", "low": "memory.soft_limit_in_bytes"}
_V2_RATES = {"read_bps": "rbps", "write_bps": "wbps", "read_iops": "riops", "write_iops": "wiops"}
_V2 = {"limit": "memory.max", "low": "memory.low"}


def _encode_limit(value: int, version: int) -> str:
    if value < 0:
        return "-1" if version == 1 else "max"
    return str(value)


def _compute_swap(r: Resources, version: int) -> list[Setting]:
    """OCI counts memory and swap together, as v1 does; v2 counts swap alone."""
    swap = r.memory_swap_bytes
    if swap is None:
        return []
    if version == 1:
        return [Setting("memory", "memory.memsw.limit_in_bytes", str(swap))]
    alone = swap if swap < 0 else max(0, swap - max(0, r.memory_max_bytes or 0))
    return [Setting("memory", "memory.swap.max", _encode_limit(alone, 2))]


def _compute_cpu(r: Resources, version: int) -> list[Setting]:
    settings = []
    if r.cpu_shares is not None:
        settings.append(_compute_shares(r.cpu_shares, version))
    if r.cpu_quota_us is None and r.cpu_period_us is None:
        return settings
    period = r.cpu_period_us or CPU_PERIOD_DEFAULT_US
    quota = r.cpu_quota_us or -1
    if version == 1:
        settings.append(Setting("cpu", "cpu.cfs_period_us", str(period)))
        settings.append(Setting("cpu", "cpu.cfs_quota_us", str(quota)))
    else:
        value = f"{quota if quota > 0 else 'max'} {period}"
        settings.append(Setting("cpu", "cpu.max", value))
    return settings


def _compute_block_io(r: Resources, version: int) -> list[Setting]:
    """BFQ's weights, or where v2 has none the cost model's; each device's rates."""
    weights = [] if r.blkio_weight is None else [("", r.blkio_weight)]
    rates: list[Setting] = []
    for kind, major, minor, value in r.blkio_devices:
        device = f"{major}:{minor} "
        if kind == WEIGHT:
            weights.append((device, value))
        elif version == 1:
            rates.append(Setting("blkio", f"blkio.throttle.{kind}_device", f"{device}{value}"))
        else:
            rates.append(Setting("blkio", "io.max", f"{device}{_V2_RATES[kind]}={value or 'max'}"))
    return [_compute_weight(device, weight, version) for device, weight in weights] + rates


def _compute_weight(device: str, weight: int, version: int) -> Setting:
    if version == 1:
        file = "blkio.bfq.weight_device" if device else "blkio.bfq.weight"
        return Setting("blkio", file, f"{device}{weight}")
    # The mapping of runc and crun: 10..1000 onto 1..10000.
    cost = 1 + (weight - WEIGHT_MIN) * 9999 // (WEIGHT_MAX - WEIGHT_MIN)
    return Setting("blkio", "io.bfq.weight", f"{device}{weight}", ("io.weight", f"{device}{cost}"))


def _compute_shares(shares: int, version: int) -> Setting:
    if version == 1:
        return Setting("cpu", "cpu.shares", str(shares))
    kept = min(max(shares, _SHARES_MIN), _SHARES_MAX)
    # The mapping of runc and crun: 2..262144 onto 1..10000.
    weight = 1 + (kept - _SHARES_MIN) * 9999 // (_SHARES_MAX - _SHARES_MIN)
    return Setting("cpu", "cpu.weight", str(weight))
