"""`docklock update`: other limits, another restart policy or policy, for containers running or not.

A policy holds from the next start on. Not here: which limits there are (docklock.update), how they
are written (values.LIMIT_OPTIONS).
"""

from __future__ import annotations

import os

from chainlite.errors import SpecError, StateError
from chainlite.lean import TYPE_CHECKING
from docklock import client
from docklock.cli import options
from docklock.cli.containers import for_each
from docklock.cli.limits import parse_limits
from docklock.cli.options import Command, UsageError, check_count, text
from docklock.cli.values import LIMIT_OPTIONS
from docklock.evidence.operations import record_operation
from docklock.lifecycle import (
    hold_stopped,
    is_live,
    read_container,
    read_state,
    release_live,
)
from docklock.policy.shipped import fix_name
from docklock.restart import parse_policy
from docklock.runtime import load_container_policy, read_spec
from docklock.update import (
    Change,
    change_at_rest,
    change_limits,
    check_own_config,
    check_record,
)

if TYPE_CHECKING:
    from docklock.lifecycle import Container
    from docklock.paths import Paths

UPDATE = Command(
    "update",
    "[OPTIONS] CONTAINER...",
    "Change the limits of containers, when they are started again, or under which policy.",
    (
        *LIMIT_OPTIONS,
        text("--restart", help="restart policy, as docklock run has it"),
        text("--policy", help="from the next start on: a policy's name or file", metavar="POLICY"),
    ),
    examples=(
        "docklock update --memory 512m --cpus 1.5 web",
        "docklock update --policy strict web",
    ),
)

UNKNOWN = "unknown"


def run_update(argv: list[str], paths: Paths) -> int:
    """`docklock update`: 1 if any container could not be changed."""
    values, words = options.parse(UPDATE, argv)
    check_count(UPDATE, words, 1)
    word = values["restart"]
    restart = parse_policy(word).text if word else ""
    change = Change(parse_limits(values), restart, fix_name(values["policy"] or ""))
    if not any(change):
        raise UsageError("docklock update: you must provide one or more flags")
    return for_each("update", words, paths, lambda one: update(paths, one, change))


def update(paths: Paths, container_id: str, change: Change) -> None:
    """Change it, on record. SpecError, StateError, KernelError: then all is as before."""
    container = read_container(paths, container_id)
    change_limits(read_spec(container), change.limits)
    check_record(paths, container, change)
    if change.policy:
        change = change._replace(digest=compile_for(paths, container, change.policy))
    if is_live(paths, container_id):
        with client.connect(paths, container_id) as channel:
            record(paths, container, change)
            client.request(channel, {"verb": "update", **change.describe()})
        return
    if change.limits:
        check_own_config(paths, container)
    live_fd = hold_stopped(paths, container_id)
    try:
        record(paths, container, change)
        change_at_rest(paths, container, change)
    finally:
        release_live(paths, container_id)
        os.close(live_fd)


def record(paths: Paths, container: Container, change: Change) -> None:
    """The leaves of what is about to be changed: of limits and restart policy, and of the policy.

    A policy's has two digests: `new`, and `old`, the one that the newest run began under.
    """
    others = change._replace(policy="").get_labels()
    if others:
        record_operation(paths, "update", container.id, others)
    if change.policy:
        labels = (("old", find_digest(paths, container)), ("new", change.digest))
        record_operation(paths, "policy", container.id, labels)


def find_digest(paths: Paths, container: Container) -> str:
    """Of the policy of its newest run, else of the one that its record names."""
    try:
        found = read_state(paths, container.id).policy
        return found or compile_for(paths, container, container.policy)
    except SpecError:
        return UNKNOWN  # its file is gone or has a mistake, which this is to mend


def compile_for(paths: Paths, container: Container, policy: str) -> str:
    """The digest in hex of a policy for this container. SpecError if it cannot run under it."""
    from docklock.cli.run import check_architecture
    from docklock.image.store import ImageStore

    compiled = load_container_policy(paths, container._replace(policy=policy), read_spec(container))
    if container.image_id:
        try:
            architecture = ImageStore(paths).resolve(container.image_id).architecture
        except StateError:
            architecture = ""  # the image was removed; its container runs all the same
        check_architecture(compiled, container.image, architecture)
    return compiled.digest.hex()
