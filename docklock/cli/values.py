"""Option values: sizes, CPUs, volumes, tmpfs, limits. Each error names the option and a remedy."""

from __future__ import annotations

import os

from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING
from docklock.cli.options import text
from docklock.spec import Mount, Rlimit

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
# What run, create and update share; `parse_limits` reads their values.
LIMIT_OPTIONS = (
    text("-m", "--memory", help="memory limit, such as 64m", metavar="SIZE"),
    text("--memory-swap", help="limit of memory and swap; -1 for none", metavar="SIZE"),
    text("--memory-reservation", help="memory kept when it gets scarce", metavar="SIZE"),
    text("--cpus", help="CPU limit, such as 1.5", metavar="NUMBER"),
    text("--cpu-shares", help="share of the CPUs among containers (1024)", metavar="NUMBER"),
    text("--cpu-quota", help="microseconds in a period; -1 for no limit", metavar="NUMBER"),
    text("--cpu-period", help="microseconds of a period (100000)", metavar="NUMBER"),
    text("--cpuset-cpus", help="CPUs to run on, such as 0-1,3", metavar="LIST"),
    text("--cpuset-mems", help="memory nodes to use, such as 0-1", metavar="LIST"),
    text("--pids-limit", help="process limit; -1 for none", metavar="COUNT"),
)
TERM_DEFAULT = "xterm"  # Docker's, for a program with a terminal
VOLUME_OPTIONS = frozenset(
    (
        "ro",
        "rw",
        "z",
        "Z",
        "private",
        "rprivate",
        "slave",
        "rslave",
        "rbind",
        "bind",
        "nosuid",
        "nodev",
        "noexec",
        "exec",
        "suid",
        "dev",
        "U",
    )
)
TMPFS_OPTIONS = frozenset(
    (
        "ro",
        "rw",
        "nosuid",
        "suid",
        "nodev",
        "dev",
        "noexec",
        "exec",
        "noatime",
    )
)
TMPFS_KEYS = frozenset(("size", "mode", "uid", "gid", "nr_inodes"))


def parse_size(option: str, word: str) -> int:
    """Bytes for 64m, 1g, 512k, 1073741824."""
    number, unit = word.rstrip("bB") if word[-1:] in "bB" else word, ""
    if number and number[-1].lower() in UNITS and not number[-1].isdigit():
        number, unit = number[:-1], number[-1].lower()
    whole, _, fraction = number.partition(".")
    if not whole.isdigit() or (fraction and not fraction.isdigit()) or len(number) > 20:
        raise SpecError(f"{option} {word}: give a size such as 64m or 1g")
    size: int = int(whole + fraction) * UNITS[unit] // 10 ** len(fraction)
    if size < SIZE_MIN_BYTES:
        raise SpecError(f"{option} {word}: at least 6m is needed")
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
    return quota_us


def parse_limits(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of Resources that LIMIT_OPTIONS give; -1 is no limit. SpecError."""
    found: dict[str, Any] = {}
    for key, field, parse in _LIMITS:
        if values[key] is not None:
            found[field] = parse(f"--{key.replace('_', '-')}", values[key])
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


def _parse_number(option: str, word: str, low: int, high: int) -> int:
    if not (word.isascii() and word.isdigit() and low <= int(word) <= high):
        raise SpecError(f"{option} {word}: give a number from {low} to {high}")
    return int(word)


def _parse_list(option: str, word: str) -> str:
    from docklock.update import is_cpu_list

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
)


def parse_env(word: str) -> tuple[str, str] | None:
    """(name, value); a bare name takes the caller's value, None if the caller has none."""
    name, has_value, value = word.partition("=")
    if not name:
        raise SpecError(f"--env {word}: give NAME=VALUE or NAME")
    if has_value:
        return name, value
    inherited = os.environ.get(name)
    return None if inherited is None else (name, inherited)


def parse_label(word: str) -> tuple[str, str]:
    """(name, value) for NAME[=VALUE]."""
    name, _, value = word.partition("=")
    if not name:
        raise SpecError(f"--label {word}: give NAME=VALUE")
    return name, value


def parse_volume(word: str) -> Mount:
    """A bind mount for HOST:CONTAINER[:OPTIONS]."""
    parts = word.split(":")
    if not 2 <= len(parts) <= 3 or not parts[0]:
        raise SpecError(f"-v {word}: give HOST:CONTAINER[:OPTIONS]")
    source, target = parts[:2]
    chosen = parts[2].split(",") if len(parts) == 3 and parts[2] else []
    unknown = [option for option in chosen if option not in VOLUME_OPTIONS]
    if unknown:
        raise SpecError(f"-v {word}: unknown option {unknown[0]}; use ro or rw")
    if not target.startswith("/") or target == "/":
        raise SpecError(f"-v {word}: {target!r} must be an absolute path below /")
    if not source.startswith(("/", ".")):
        raise SpecError(f"-v {word}: docklock has no named volumes yet; give a path of this host")
    source = os.path.abspath(source)
    if not os.path.exists(source):
        raise SpecError(f"-v {word}: {source} does not exist on this host; make it first")
    kept = [option for option in chosen if option not in ("rw", "z", "Z", "U", "bind", "rbind")]
    return Mount(os.path.normpath(target), "bind", source, ("rbind", "rprivate", *kept))


def parse_tmpfs(word: str) -> tuple[str, tuple[str, ...]]:
    """(path, options) for PATH[:OPTIONS]."""
    path, _, chosen = word.partition(":")
    if not path.startswith("/") or path == "/":
        raise SpecError(f"--tmpfs {word}: {path!r} must be an absolute path below /")
    found = tuple(option for option in chosen.split(",") if option)
    for option in found:
        if option not in TMPFS_OPTIONS and option.partition("=")[0] not in TMPFS_KEYS:
            raise SpecError(f"--tmpfs {word}: unknown option {option}")
    return os.path.normpath(path), found


def parse_ulimit(word: str) -> Rlimit:
    """A limit for nofile=1024[:2048]; unlimited is -1."""
    from docklock.capability import RLIMITS

    name, _, rest = word.partition("=")
    kind = f"RLIMIT_{name.upper()}"
    soft, _, hard = rest.partition(":")
    try:
        low, high = (int(value) % 2**64 for value in (soft, hard or soft))
    except ValueError:
        raise SpecError(f"--ulimit {word}: give NAME=SOFT[:HARD]") from None
    if kind not in RLIMITS or low > high:
        raise SpecError(f"--ulimit {word}: give a name such as nofile, and SOFT <= HARD")
    return Rlimit(kind, low, high)
