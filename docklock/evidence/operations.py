"""Record what the runtime is told to do: one leaf of the host log, durable before it is done.

Not here: starts, exits, segments and key records, which are leaves of their own (host_log,
rotation), and what a container does (capture). A leaf says that it was asked for; an operation
that then fails has left its leaf. Labels are public in every proof of the log: names and numbers,
never arguments, paths or addresses.
"""

from __future__ import annotations

from chainlite.lean import TYPE_CHECKING
from docklock.evidence.host_log import HostLog
from docklock.evidence.keyring import ensure_host_key

if TYPE_CHECKING:
    from docklock.paths import Paths

# What a leaf may be named, and what its labels say. `create` is also written by a first start.
OPERATIONS = {
    "alert": "a server says that this host's evidence does not hold; labels: server, kind, leaf",
    "attach": "a client reads a running container's output, or writes its input",
    "cp": "files go into a container, or out of it; label: direction",
    "create": "a container is made",
    "denied": "a request that was refused; labels: request, why, code",
    "evidence": "a container's evidence is written to a file; label: redact",
    "erase": "a container's stored values are erased; label: values",
    "exec": "a program is run in a running container; label: privileged, if it is",
    "export": "a container's root file system is written out",
    "fork": "a log was found to have signed two histories; labels: log, sizes",
    "import": "an image is made; labels: image, name",
    "limit": "a container's limit is reached; labels: limit, count",
    "load": "images are loaded; labels: image, name",
    "mount": "a mount is added to a container",
    "network": "a network is made, removed, joined or left",
    "oom": "the kernel has killed processes for memory; label: count",
    "pause": "a container is frozen, or thawed; label: state",
    "policy": "a container's later runs are to be under a policy; labels: old, new (digests)",
    "pull": "an image is fetched; labels: image, name",
    "quarantine": "a container is frozen and cut off, or released; labels: state, network",
    "register": "this host is to be registered on a chain; labels: chain, operator",
    "rename": "a container is called something else; labels: name, old_name",
    "remove": "a container is removed; its evidence stays; label: force",
    "rmi": "an image is removed; label: name",
    "save": "an image is written to a file; labels: image, name",
    "signal": "a signal is sent to a container; label: signal",
    "tag": "an image gets one more name; labels: image, name",
    "update": "a container's limits are changed; labels: their options' names",
}


def record_operation(
    paths: Paths, name: str, container: str = "", labels: tuple[tuple[str, str], ...] = ()
) -> int:
    """Append an operation's leaf durably, before it is done; its index in the log.

    `container` is a full id, or empty. Costs one transaction (an fsync): a caller that has one
    open uses HostLog.append_operation instead. StateError if the log cannot be written: then the
    operation must not be done.
    """
    assert name in OPERATIONS, name
    with HostLog(paths, ensure_host_key(paths)) as log, log.write():
        return log.append_operation(name, bytes.fromhex(container), labels)
