"""`docklock update`: other limits or another restart policy, for containers running or not.

Not here: which limits there are (docklock.update), how they are written (values.LIMIT_OPTIONS).
"""

from __future__ import annotations

import os

from chainlite.lean import TYPE_CHECKING
from docklock import client
from docklock.cli import options
from docklock.cli.containers import for_each
from docklock.cli.limits import parse_limits
from docklock.cli.options import Command, UsageError, check_count, text
from docklock.cli.values import LIMIT_OPTIONS
from docklock.evidence.operations import record_operation
from docklock.lifecycle import hold_stopped, is_live, read_container, release_live
from docklock.restart import parse_policy
from docklock.runtime import read_spec
from docklock.update import (
    Change,
    change_at_rest,
    change_limits,
    check_own_config,
    check_restart,
)

if TYPE_CHECKING:
    from docklock.paths import Paths

UPDATE = Command(
    "update",
    "[OPTIONS] CONTAINER...",
    "Change the limits of containers, or when they are started again.",
    (*LIMIT_OPTIONS, text("--restart", help="restart policy, as docklock run has it")),
)


def run_update(argv: list[str], paths: Paths) -> int:
    """`docklock update`: 1 if any container could not be changed."""
    values, words = options.parse(UPDATE, argv)
    check_count(UPDATE, words, 1)
    word = values["restart"]
    change = Change(parse_limits(values), parse_policy(word).text if word else "")
    if not any(change):
        raise UsageError("docklock update: you must provide one or more flags")
    return for_each("update", words, paths, lambda one: update(paths, one, change))


def update(paths: Paths, container_id: str, change: Change) -> None:
    """Change it, on record. SpecError, StateError, KernelError: then all is as before."""
    container = read_container(paths, container_id)
    change_limits(read_spec(container), change.limits)
    if change.restart:
        check_restart(paths, container)
    if is_live(paths, container_id):
        with client.connect(paths, container_id) as channel:
            record_operation(paths, "update", container_id, change.get_labels())
            asked = {"limits": change.limits, "restart": change.restart or None}
            client.request(channel, {"verb": "update", **asked})
        return
    if change.limits:
        check_own_config(paths, container)
    live_fd = hold_stopped(paths, container_id)
    try:
        record_operation(paths, "update", container_id, change.get_labels())
        change_at_rest(paths, container, change)
    finally:
        release_live(paths, container_id)
        os.close(live_fd)
