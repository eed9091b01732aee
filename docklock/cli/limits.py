"""Limits as options write them: memory, CPUs, cpusets, processes. Loaded when one is given.

Each error names the option and a remedy. Not here: the options (values.LIMIT_OPTIONS), which limits
go together (docklock.update).
"""

from __future__ import annotations

import os

from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING
from docklock.block_io import WEIGHT_MAX, WEIGHT_MIN
from docklock.update import is_cpu_list

if TYPE_CHECKING:
    from typing import Any

UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
NUMBER_MAX = 2**63 - 1
SIZE_MIN_BYTES = 6 * 1024 * 1024  # Docker's: less than this cannot hold a process
NANO_DIGITS = 9
CPU_PERIOD_US = 100_000
CPU_PERIODS_US = (1000, 1_000_000)
CPU_QUOTA_MIN_US = 1000
CPU_SHARES = (2, 262_144)


def parse_size(option: str, word: str) -> int:
    """As parse_bytes, of a limit that a process can live in."""
    size = parse_bytes(option, word)
    if size < SIZE_MIN_BYTES:
        raise SpecError(f"{option} {word}: at least 6m is needed")
    return size


def parse_bytes(option: str, word: str) -> int:
    """Bytes for 64m, 1g, 512k, 1073741824; more than none."""
    number, unit = word.rstrip("bB") if word[-1:] in "bB" else word, ""
    if number and number[-1].lower() in UNITS and not number[-1].isdigit():
        number, unit = number[:-1], number[-1].lower()
    whole, _, fraction = number.partition(".")
    if not whole.isdigit() or (fraction and not fraction.isdigit()) or len(number) > 20:
        raise SpecError(f"{option} {word}: give a size such as 64m or 1g")
    size: int = int(whole + fraction) * UNITS[unit] // 10 ** len(fraction)
    if not 0 < size <= NUMBER_MAX:
        raise SpecError(f"{option} {word}: must be greater than 0, and less than 8192p")
    return size


def parse_cpus(word: str, period_us: int) -> int:
    """The quota in microseconds of a period, for 0.5 or 2."""
    whole, _, fraction = word.partition(".")
    digits = whole + fraction
    if not digits.isdigit() or len(fraction) > NANO_DIGITS or len(whole) > 4:
        raise SpecError(f"--cpus {word}: give a number such as 0.5 or 2")
    quota_us: int = int(digits) * period_us // 10 ** len(fraction)
    if quota_us < 1000:
        raise SpecError(f"--cpus {word}: at least 0.01 is needed")
    count = os.cpu_count() or 1
    if quota_us > count * period_us:
        raise SpecError(f"--cpus {word}: this host has {count} CPUs, so {count} at most")
    return quota_us


def parse_limits(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of Resources that LIMIT_OPTIONS give; -1 is no limit. SpecError."""
    found: dict[str, Any] = {}
    for key, field, parse in _LIMITS:
        if values[key] is not None:
            found[field] = parse(f"--{key.replace('_', '-')}", values[key])
    if found.get("blkio_weight") == 0:
        del found["blkio_weight"]
    cpus = values["cpus"]
    if cpus is not None:
        for field, name in (("cpu_period_us", "Period"), ("cpu_quota_us", "Quota")):
            if field in found:
                why = f"Nano CPUs and CPU {name} cannot both be set"
                raise SpecError(f"--cpus {cpus}: Conflicting options: {why}")
        found["cpu_quota_us"] = parse_cpus(cpus, CPU_PERIOD_US)
        found["cpu_period_us"] = CPU_PERIOD_US
    return found


def parse_pids(option: str, word: str) -> int:
    """A number of processes; -1 for none or less."""
    try:
        count = int(word)
    except ValueError:
        raise SpecError(f"{option} {word}: give a number, or -1 for no limit") from None
    return count if count > 0 else -1


def _parse_swap(option: str, word: str) -> int:
    return -1 if word == "-1" else parse_size(option, word)


def _parse_quota(option: str, word: str) -> int:
    return -1 if word == "-1" else _parse_number(option, word, CPU_QUOTA_MIN_US, NUMBER_MAX)


def _parse_period(option: str, word: str) -> int:
    return _parse_number(option, word, *CPU_PERIODS_US)


def _parse_shares(option: str, word: str) -> int:
    return _parse_number(option, word, *CPU_SHARES)


def _parse_weight(option: str, word: str) -> int:
    return 0 if word == "0" else _parse_number(option, word, WEIGHT_MIN, WEIGHT_MAX)


def _parse_number(option: str, word: str, low: int, high: int) -> int:
    if not (word.isascii() and word.isdigit() and low <= int(word) <= high):
        raise SpecError(f"{option} {word}: give a number from {low} to {high}")
    return int(word)


def _parse_list(option: str, word: str) -> str:
    if not is_cpu_list(word):
        raise SpecError(f"{option} {word}: give a list such as 0-2,5")
    return word


_LIMITS = (
    ("memory", "memory_max_bytes", parse_size),
    ("memory_swap", "memory_swap_bytes", _parse_swap),
    ("memory_reservation", "memory_low_bytes", parse_size),
    ("cpu_shares", "cpu_shares", _parse_shares),
    ("cpu_quota", "cpu_quota_us", _parse_quota),
    ("cpu_period", "cpu_period_us", _parse_period),
    ("cpuset_cpus", "cpuset_cpus", _parse_list),
    ("cpuset_mems", "cpuset_mems", _parse_list),
    ("pids_limit", "pids_max", parse_pids),
    ("blkio_weight", "blkio_weight", _parse_weight),
)
