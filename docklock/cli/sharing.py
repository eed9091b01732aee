"""What a container shares with the host or another one: --ipc, --pid, --uts, --cgroupns, --userns.

Loaded when one is given. What is shared is not on record: a receipt is a call, and a write into
shared memory is none. What would break a promise is refused: in a pid namespace of the host's or
of another container a program can end the two processes that record it, or make another's program
do calls that are then on that one's record.
"""

from __future__ import annotations

from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING
from docklock.spec import Mount, Spec

if TYPE_CHECKING:
    from typing import Any

HOST = "host"
SHM = "/dev/shm"  # the host's queues need no bind: mqueue shows those of the namespace
_IPC_OPTIONS = ("rbind", "rprivate", "nosuid", "noexec", "nodev")
_KNOWN = {
    "ipc": ("private", "shareable", "none", HOST),
    "uts": (HOST,),
    "cgroupns": ("private", HOST),
    "userns": (HOST,),
    "pid": ("private",),
}
_KINDS = {"ipc": "ipc", "uts": "uts", "cgroupns": "cgroup"}
_WHY = {
    ("pid", HOST): "it could kill the two processes that record it, and go on unrecorded;"
    " docklock top, kill and exec reach a container from outside",
    ("pid", "container"): "it could make the other's programs do calls, on the other's record;"
    " docklock exec starts a program in a container, on record as such",
    ("ipc", "container"): "docklock joins no container's namespace yet; share a directory with -v,"
    " or the host's with --ipc host",
    ("userns", ""): "docklock makes no user namespaces yet; a container is held by its"
    " capabilities and its policy",
}


def check_sharing(values: dict[str, Any]) -> None:
    """SpecError for a namespace that docklock does not share, with the reason."""
    for key, known in _KNOWN.items():
        word = values[key]
        if not word or word in known:
            continue
        why = _WHY.get((key, word.partition(":")[0])) or _WHY.get((key, ""))
        why = why or f"invalid {key} mode; give {' or '.join(known)}"
        raise SpecError(f"--{key} {word}: {why}")
    if values["uts"] == HOST and values["hostname"]:
        raise SpecError("conflicting options: hostname and the UTS mode")


def share(spec: Spec, values: dict[str, Any]) -> Spec:
    """The spec without the namespaces that are kept as the host's."""
    kept = {kind for key, kind in _KINDS.items() if values[key] == HOST}
    namespaces = tuple(one for one in spec.linux.namespaces if one.kind not in kept)
    spec = spec._replace(linux=spec.linux._replace(namespaces=namespaces))
    if values["ipc"] == HOST:
        return spec._replace(mounts=tuple(_keep_host_ipc(mount) for mount in spec.mounts))
    if values["ipc"] == "none":
        return spec._replace(mounts=tuple(one for one in spec.mounts if one.destination != SHM))
    return spec


def _keep_host_ipc(mount: Mount) -> Mount:
    if mount.destination == SHM and mount.kind != "bind":
        return Mount(mount.destination, "bind", mount.destination, _IPC_OPTIONS)
    return mount
