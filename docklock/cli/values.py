"""Option values: volumes, tmpfs, ulimits. Each error names the option and a remedy.

Not here: what LIMIT_OPTIONS take (limits.py) and MORE_OPTIONS (refine.py), which few starts need.
"""

from __future__ import annotations

import os

from chainlite.errors import SpecError
from docklock.cli.options import flag, listed, text
from docklock.spec import Mount, Rlimit

# What run, create and update share; limits.parse_limits reads their values.
LIMIT_OPTIONS = (
    text("-m", "--memory", help="memory limit, such as 64m", metavar="SIZE"),
    text("--memory-swap", help="limit of memory and swap; -1 for none", metavar="SIZE"),
    text("--memory-reservation", help="memory kept when it gets scarce", metavar="SIZE"),
    text("--cpus", help="CPU limit, such as 1.5", metavar="NUMBER"),
    text("-c", "--cpu-shares", help="share of the CPUs among containers (1024)", metavar="NUMBER"),
    text("--cpu-quota", help="microseconds in a period; -1 for no limit", metavar="NUMBER"),
    text("--cpu-period", help="microseconds of a period (100000)", metavar="NUMBER"),
    text("--cpuset-cpus", help="CPUs to run on, such as 0-1,3", metavar="LIST"),
    text("--cpuset-mems", help="memory nodes to use, such as 0-1", metavar="LIST"),
    text("--pids-limit", help="process limit; -1 for none", metavar="COUNT"),
    text("--blkio-weight", help="share of block I/O, 10 to 1000; 0 for none", metavar="NUMBER"),
)
ENV_FILE = listed("--env-file", help="read variables from a file", metavar="FILE")
# What few runs and creates have: refine.py, which they alone load, reads their values.
MORE_OPTIONS = (
    ENV_FILE,
    listed("--label-file", help="read labels from a file", metavar="FILE"),
    listed("--mount", help="type=bind|tmpfs,source=,target=[,readonly]", metavar="KEY=VALUE,..."),
    listed("--group-add", help="one more group, name or number", metavar="GROUP"),
    listed("--sysctl", help="a setting of the container's namespaces", metavar="NAME=VALUE"),
    listed(
        "--device", help="give a device of this host, or CDI's", metavar="HOST[:CONTAINER[:rwm]]"
    ),
    text("--gpus", help="all, a number or device=ID,...: GPUs that CDI files name", metavar="GPUS"),
    listed("--device-read-bps", help="bytes a second from a disk", metavar="DEVICE:SIZE"),
    listed("--device-write-bps", help="bytes a second to a disk", metavar="DEVICE:SIZE"),
    listed("--device-read-iops", help="reads a second from a disk", metavar="DEVICE:COUNT"),
    listed("--device-write-iops", help="writes a second to a disk", metavar="DEVICE:COUNT"),
    listed("--blkio-weight-device", help="share of a disk's I/O", metavar="DEVICE:NUMBER"),
    listed("--device-cgroup-rule", help="allow devices, as 'c 10:200 rwm'", metavar="RULE"),
    flag("--init", help="have an init in front that reaps and passes signals on"),
    text("--stop-timeout", help="seconds from the stop signal to SIGKILL", metavar="SECONDS"),
    text("--shm-size", help="size of /dev/shm (64m)", metavar="SIZE"),
    text("--ipc", help="private (the default), none or host", metavar="MODE"),
    text("--pid", help="private (the default)", metavar="MODE"),
    text("--uts", help="host: the host's name", metavar="MODE"),
    text("--cgroupns", help="private (the default) or host", metavar="MODE"),
    text("--userns", help="host (the default)", metavar="MODE"),
    text("--platform", help="refuse an image for another, such as linux/amd64", metavar="PLATFORM"),
    text("--cgroup-parent", help="put its cgroup below this one", metavar="CGROUP"),
    listed("--add-host", help="one more line of /etc/hosts", metavar="NAME:IP"),
    listed("--dns", help="name server in /etc/resolv.conf", metavar="IP"),
    listed("--dns-search", help="search domain in /etc/resolv.conf", metavar="DOMAIN"),
    listed("--dns-opt", "--dns-option", help="option in /etc/resolv.conf", metavar="OPTION"),
    text("--cidfile", help="write the container's id to a new file", metavar="FILE"),
    text("--oom-score-adj", help="-1000 to 1000: whom the kernel kills first", metavar="NUMBER"),
    text("--log-driver", help="json-file (the default), local, journald or none", metavar="DRIVER"),
    listed("--log-opt", help="its limits and more, as max-size=10m", metavar="NAME=VALUE"),
    listed("--annotation", help="an annotation of the OCI spec", metavar="NAME=VALUE"),
)
PATH_DEFAULT = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
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


def parse_security(words: list[str]) -> bool:
    """Whether no_new_privs is set; SpecError for options that docklock has not."""
    no_new_privs = True
    for word in words:
        name, _, value = word.replace(":", "=", 1).partition("=")
        if name != "no-new-privileges" or value not in ("", "true", "false"):
            hint = "; choose a filter with --policy" if name == "seccomp" else ""
            raise SpecError(
                f"--security-opt {word}: docklock knows no-new-privileges[=true|false]{hint}"
            )
        no_new_privs = value != "false"
    return no_new_privs


def build_env(
    image: tuple[str, ...], asked: list[str], hostname: str, home: str, *, tty: bool = False
) -> tuple[str, ...]:
    """Docker's order: PATH, HOSTNAME, TERM, the image's, the asked-for; a later one replaces."""
    found = {"PATH": PATH_DEFAULT, "HOSTNAME": hostname}
    if tty:
        found["TERM"] = TERM_DEFAULT
    for entry in image:
        name, _, value = entry.partition("=")
        found[name] = value
    for word in asked:
        pair = parse_env(word)
        if pair is not None:
            found[pair[0]] = pair[1]
    found.setdefault("HOME", home)
    return tuple(f"{name}={value}" for name, value in found.items())
