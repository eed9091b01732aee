"""`docklock check`: whether this host can run containers, and whether its state is in order.

It changes nothing: what it finds dead, any other command mends. Not here: whether the evidence
holds (`docklock verify --all`).
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

from chainlite.errors import DocklockError, SpecError
from docklock.cli import options
from docklock.cli.info import get_lacking, parse_release
from docklock.cli.options import Command, check_count, text
from docklock.lifecycle import is_live, list_containers, live_dir, read_container, read_state

if TYPE_CHECKING:
    from docklock.paths import Paths

CHECK = Command(
    "check",
    "[OPTIONS]",
    "Say whether this host can run containers, and whether its state is in order.",
    (text("--format", help="json: one object a line", metavar="json"),),
    examples=("docklock check",),
)
FREE_BYTES_MIN = 256 << 20
"""A run allocates 16 MiB for its journal; logs and evidence come on top."""


class Finding(NamedTuple):
    """One thing looked at; `problem` is empty if it is in order, else it says what to do."""

    name: str
    problem: str


def run_check(argv: list[str], paths: Paths) -> int:
    """`docklock check`: 1 if there is a problem."""
    values, words = options.parse(CHECK, argv)
    check_count(CHECK, words, 0, 0)
    if values["format"] not in (None, "json"):
        raise SpecError("docklock check: --format takes json")
    found = [*check_host(paths), *check_state(paths)]
    for one in found:
        if values["format"]:
            print(json.dumps(one._asdict()))
        else:
            print(f"{one.name}: {one.problem or 'OK'}")
    return int(any(one.problem for one in found))


def check_host(paths: Paths) -> list[Finding]:
    """What the kernel and the machine must offer."""
    from docklock.cgroup.hierarchy import ALWAYS, choose_hierarchies, detect_hierarchies

    lacking = get_lacking(parse_release(os.uname().release))
    chosen = choose_hierarchies(detect_hierarchies())
    missing = sorted(set(ALWAYS) - {name for _, names in chosen for name in names})
    actions = read_words("/proc/sys/kernel/seccomp/actions_avail")
    has_overlay = "overlay" in read_words("/proc/filesystems")
    return [
        Finding("root", "" if os.geteuid() == 0 else "docklock needs root"),
        Finding("kernel", "; ".join(lacking)),
        Finding("gate", "" if "user_notif" in actions else "this kernel has no seccomp user_notif"),
        Finding("overlay", "" if has_overlay else "load the module: modprobe overlay"),
        Finding("cgroups", f"no controller {', '.join(missing)}" if missing else ""),
        Finding("space", check_space(paths)),
    ]


def check_state(paths: Paths) -> list[Finding]:
    """What docklock itself has here."""
    dead = find_dead(paths)
    damaged = find_damaged(paths)
    from docklock.evidence.keyring import has_host_key

    return [
        Finding("key", "" if has_host_key(paths) else "none yet: docklock keys init"),
        Finding("runs", f"{len(dead)} lost their supervisor: docklock mend" if dead else ""),
        Finding("containers", "; ".join(damaged)),
    ]


def check_space(paths: Paths) -> str:
    """Whether the state's file system has room."""
    directory = paths.state
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    status = os.statvfs(directory)
    free_bytes = status.f_bavail * status.f_frsize
    if free_bytes >= FREE_BYTES_MIN:
        return ""
    return f"{free_bytes >> 20} MiB are free on {directory}, {FREE_BYTES_MIN >> 20} are needed"


def find_dead(paths: Paths) -> list[str]:
    """Runs whose lock nobody holds."""
    try:
        marked = os.listdir(live_dir(paths))
    except FileNotFoundError:
        return []
    return [one for one in marked if not is_live(paths, one)]


def find_damaged(paths: Paths) -> list[str]:
    """What cannot be read of the containers on disk, in words."""
    found = []
    for container_id in list_containers(paths):
        try:
            read_container(paths, container_id)
            read_state(paths, container_id)
        except (DocklockError, OSError, TypeError) as error:
            found.append(f"{container_id[:12]}: {error}")
    return found


def read_words(path: str) -> list[str]:
    """A file of the kernel's, word by word; none if it is not there."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read().split()
    except OSError:
        return []
