"""`docklock update`: other limits for containers, running or not; they hold for later runs.

Not here: which limits there are (docklock.update), how they are written (values.LIMIT_OPTIONS).
"""

from __future__ import annotations

import os

from chainlite.lean import TYPE_CHECKING
from docklock import client
from docklock.cli import options
from docklock.cli.containers import for_each
from docklock.cli.limits import parse_limits
from docklock.cli.options import Command, UsageError, check_count
from docklock.cli.values import LIMIT_OPTIONS
from docklock.evidence.operations import record_operation
from docklock.lifecycle import hold_stopped, is_live, read_container, release_live
from docklock.runtime import read_spec
from docklock.update import change_limits, check_own_config, get_labels, write_config

if TYPE_CHECKING:
    from docklock.paths import Paths
    from docklock.update import Limits

UPDATE = Command(
    "update", "[OPTIONS] CONTAINER...", "Change the limits of containers.", LIMIT_OPTIONS
)


def run_update(argv: list[str], paths: Paths) -> int:
    """`docklock update`: 1 if any container could not be changed."""
    values, words = options.parse(UPDATE, argv)
    check_count(UPDATE, words, 1)
    limits = parse_limits(values)
    if not limits:
        raise UsageError("docklock update: you must provide one or more flags")
    return for_each("update", words, paths, lambda one: update(paths, one, limits))


def update(paths: Paths, container_id: str, limits: Limits) -> None:
    """Change the limits, on record. SpecError, StateError, KernelError: then they are as before."""
    container = read_container(paths, container_id)
    spec = change_limits(read_spec(container), limits)
    if is_live(paths, container_id):
        with client.connect(paths, container_id) as channel:
            record_operation(paths, "update", container_id, get_labels(limits))
            client.request(channel, {"verb": "update", "limits": limits})
        return
    check_own_config(paths, container)
    live_fd = hold_stopped(paths, container_id)
    try:
        record_operation(paths, "update", container_id, get_labels(limits))
        write_config(container, spec)
    finally:
        release_live(paths, container_id)
        os.close(live_fd)
