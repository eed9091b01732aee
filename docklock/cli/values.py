"""Option values: sizes, CPUs, volumes, tmpfs, limits. Each error names the option and a remedy."""

from __future__ import annotations

import os

from chainlite.errors import SpecError
from docklock.spec import Mount, Rlimit

UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
SIZE_MIN_BYTES = 6 * 1024 * 1024  # Docker's: less than this cannot hold a process
NANO_DIGITS = 9
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
