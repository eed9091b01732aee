"""`docklock quarantine`: freeze every process of a container and cut its network, until released.

A container that shares its network is frozen, but its sockets stay open: to cut them would cut the
host, or others, and the command says so. Not here: how (docklock.supervisor.steering).
"""

from __future__ import annotations

import sys

from chainlite.lean import TYPE_CHECKING
from docklock import client
from docklock.cli import options
from docklock.cli.containers import for_each
from docklock.cli.options import Command, check_count, flag
from docklock.evidence.operations import record_operation
from docklock.lifecycle import check_quarantine, read_container
from docklock.runtime import get_state, read_spec
from docklock.supervisor.steering import get_labels
from docklock.supervisor.usage import has_own_network

if TYPE_CHECKING:
    from docklock.paths import Paths

QUARANTINE = Command(
    "quarantine",
    "[OPTIONS] CONTAINER...",
    "Freeze containers and cut their network: nothing of them runs until they are released.",
    (flag("--release", help="bring their network back, and let them go on"),),
    examples=(
        "docklock quarantine web",
        "docklock quarantine --release web",
    ),
)
SHARED = (
    "shares its network with the host or another container: it is frozen, and its sockets stay open"
    " (the kernel keeps their connections)"
)


def run_quarantine(argv: list[str], paths: Paths) -> int:
    """`docklock quarantine`: 1 if any does not run, or is quarantined (or is not, to release)."""
    values, words = options.parse(QUARANTINE, argv)
    check_count(QUARANTINE, words, 1)
    release = bool(values["release"])
    return for_each("quarantine", words, paths, lambda one: quarantine(paths, one, release=release))


def quarantine(paths: Paths, container_id: str, *, release: bool) -> None:
    """Ask its supervisor, on record first. StateError, KernelError: then it is as it was."""
    check_quarantine(get_state(paths, container_id), container_id, release=release)
    container = read_container(paths, container_id)
    is_own = has_own_network(read_spec(container))
    with client.connect(paths, container_id) as channel:
        labels = get_labels(is_own=is_own, is_quarantined=not release)
        record_operation(paths, "quarantine", container_id, labels)
        client.request(channel, {"verb": "release" if release else "quarantine"})
    if not is_own and not release:
        print(f"docklock: {container.name} {SHARED}", file=sys.stderr)
