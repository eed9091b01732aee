"""`docklock rename`: another name for a container, running or not.

Not here: who writes the record (docklock.update), what a name is (docklock.lifecycle). The old name
leads to the container until the record has the new one, so that it always has a name.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from chainlite.errors import About, StateError
from docklock import client
from docklock.cli import options
from docklock.cli.options import Command, check_count
from docklock.evidence.operations import record_operation
from docklock.lifecycle import (
    check_name,
    find_container,
    hold_stopped,
    is_live,
    names_dir,
    read_container,
    release_live,
    remove_if_there,
    reserve_name,
)
from docklock.runtime import remove_name
from docklock.update import Change, change_at_rest, check_record

if TYPE_CHECKING:
    from docklock.paths import Paths

RENAME = Command(
    "rename",
    "CONTAINER NEW_NAME",
    "Give a container another name.",
    examples=("docklock rename web web-old",),
)


def run_rename(argv: list[str], paths: Paths) -> int:
    """`docklock rename`: prints nothing."""
    _, words = options.parse(RENAME, argv)
    check_count(RENAME, words, 2, 2)
    container_id = find_container(paths, words[0])
    with About(container_id):
        rename(paths, container_id, words[1])
    return 0


def rename(paths: Paths, container_id: str, name: str) -> None:
    """Rename it, on record. SpecError, StateError: then it has its old name."""
    check_name(name)
    container = read_container(paths, container_id)
    change = Change({}, name=name)
    check_record(paths, container, change)
    if name == container.name:
        raise StateError("Renaming a container with the same name as its current name")
    take_name(paths, name, container_id)
    try:
        labels = (("name", name), ("old_name", container.name))
        record_operation(paths, "rename", container_id, labels)
        if is_live(paths, container_id):
            with client.connect(paths, container_id) as channel:
                client.request(channel, {"verb": "update", **change.describe()})
        else:
            live_fd = hold_stopped(paths, container_id)
            try:
                change_at_rest(paths, container, change)
            finally:
                release_live(paths, container_id)
                os.close(live_fd)
    except BaseException:
        remove_name(paths, container_id, name)
        raise
    remove_name(paths, container_id, container.name)


def take_name(paths: Paths, name: str, container_id: str) -> None:
    """Reserve it; one that a rename that was killed has reserved for this container is ours."""
    link = f"{names_dir(paths)}/{name}"
    if os.path.islink(link) and os.readlink(link) == container_id:
        remove_if_there(link)
    reserve_name(paths, name, container_id)
