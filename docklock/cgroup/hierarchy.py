"""Which cgroup hierarchies this host has, with which controllers, and where we stand in each.

Invariants: a controller is where the kernel says it is (/proc/self/cgroup, /proc/self/mountinfo,
cgroup.controllers), never guessed from a mount: a hybrid host has a v2 tree with hardly any
controller beside the v1 ones. Source: cgroups(7), cgroup-v2.rst.
"""

from __future__ import annotations

import os

from chainlite.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

PARENT_NAME = "docklock"
# In this order: the pids controller first, so that a fork bomb is stopped before anything else.
ALWAYS = ("pids", "memory", "cpu", "cpuacct", "devices", "freezer")
# Part of every v2 cgroup, so that no cgroup.controllers names them.
V2_BUILTIN = ("devices", "freezer", "cpuacct")
V2_NAMES = {"blkio": "io"}  # what v2 calls a controller of v1


class Hierarchy(NamedTuple):
    """One mounted tree. `name` is what /proc/self/cgroup calls it, or unified."""

    version: int
    name: str
    controllers: tuple[str, ...]
    mountpoint: str
    own: str

    @property
    def base(self) -> str:
        """The directory that docklock's cgroups go under.

        v1: our own cgroup, whose limits then hold for containers too. v2: the root of the tree,
        as a cgroup with processes of its own may give its children no controllers.
        """
        return self.own if self.version == 1 else self.mountpoint


def detect_hierarchies() -> tuple[Hierarchy, ...]:
    """Every hierarchy that is mounted here and has a controller, v1 first."""
    return parse_hierarchies(_read("/proc/self/cgroup"), _read("/proc/self/mountinfo"), _read)


def find_process(pid: int) -> tuple[Hierarchy, ...]:
    """As detect_hierarchies, with the cgroups of process `pid` as `own`; none if it has ended."""
    return parse_hierarchies(_read(f"/proc/{pid}/cgroup"), _read("/proc/self/mountinfo"), _read)


def parse_hierarchies(
    cgroup: str, mountinfo: str, read: Callable[[str], str]
) -> tuple[Hierarchy, ...]:
    """As detect_hierarchies, from the texts; `read` reads a v2 tree's cgroup.controllers."""
    mounts = _parse_mounts(mountinfo)
    found = []
    for line in cgroup.splitlines():
        _, names, path = line.split(":", 2)
        mounted = mounts.get(names)
        if mounted is None or names.startswith("name="):
            continue
        root, mountpoint = mounted
        own = mountpoint + _get_below(path, root)
        if names:
            found.append(Hierarchy(1, names, tuple(names.split(",")), mountpoint, own))
        else:
            words = read(f"{mountpoint}/cgroup.controllers").split()
            v1_names = {theirs: ours for ours, theirs in V2_NAMES.items()}
            controllers = tuple(v1_names.get(word, word) for word in words)
            found.append(Hierarchy(2, "unified", controllers, mountpoint, own))
    return tuple(found)


def choose_hierarchies(
    found: tuple[Hierarchy, ...], wanted: tuple[str, ...] = ALWAYS
) -> tuple[tuple[Hierarchy, tuple[str, ...]], ...]:
    """For each hierarchy that is needed, which of the `wanted` controllers it gives."""
    chosen: dict[Hierarchy, list[str]] = {}
    for controller in wanted:
        for hierarchy in found:
            held = hierarchy.controllers + (V2_BUILTIN if hierarchy.version == 2 else ())
            if controller in held:
                chosen.setdefault(hierarchy, []).append(controller)
                break
    return tuple((hierarchy, tuple(names)) for hierarchy, names in chosen.items())


def _parse_mounts(mountinfo: str) -> dict[str, tuple[str, str]]:
    """By controllers as /proc/self/cgroup writes them ("" is v2): mounted root and mount point."""
    found: dict[str, tuple[str, str]] = {}
    for line in mountinfo.splitlines():
        # proc(5): ... root mountpoint options [tags] - fstype source super-options
        head, mark, tail = line.partition(" - cgroup")
        if not mark:
            continue
        fields, kind = head.split(" "), tail.split(" ")
        where = (_unescape(fields[3]), _unescape(fields[4]))
        if kind[0] == "2":
            found.setdefault("", where)
        elif kind[0] == "":
            found.setdefault(_get_controllers(kind[-1]), where)
    return found


def _get_controllers(options: str) -> str:
    plain = ("rw", "ro", "xattr", "noprefix", "clone_children", "favordynmods", "nofavordynmods")
    names = [
        name for name in options.split(",") if name not in plain and "release_agent" not in name
    ]
    return ",".join(names)


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return os.fsdecode(file.read())
    except OSError:
        return ""


def _get_below(path: str, root: str) -> str:
    """`path` as seen under a mount of `root`; the mount's top where it lies outside of it."""
    if root == "/":
        below = path
    elif path == root or path.startswith(f"{root}/"):
        below = path[len(root) :]
    else:
        below = ""
    return "" if below == "/" or below.startswith("/..") else below


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    for letter in (" ", "\t", "\n", "\\"):
        text = text.replace(f"\\{ord(letter):03o}", letter)
    return text
