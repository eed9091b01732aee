"""Mend what a killed supervisor, front end or machine left behind. Every command runs it first.

A free lock in live/ means that its run is over, whatever the files say: its processes are killed,
its cgroups and socket removed, its journal signed with a gap (evidence/recovery.py), its status
set. Two commands at once are safe: each run is mended under its lock.
"""

from __future__ import annotations

import os

from chainlite.errors import DocklockError, StateError
from chainlite.lean import TYPE_CHECKING
from docklock.lifecycle import (
    RESTARTING,
    STOPPED,
    acquire_live,
    is_held,
    live_dir,
    mark_guard,
    read_container,
    read_state,
    release_live,
    remove_if_there,
    socket_path,
    write_state,
)
from docklock.paths import Paths

if TYPE_CHECKING:
    from docklock.cgroup.driver import Cgroup

EXIT_KILLED = 137  # 128 + SIGKILL: a container does not outlive its supervisor


def repair(paths: Paths) -> list[str]:
    """Mend every dead run; their full container ids. Costs one directory listing when none is.

    StateError, after all others are mended, for one that cannot be now: its disk is full.
    """
    try:
        marked = os.listdir(live_dir(paths))
    except FileNotFoundError:
        return []
    repaired = []
    failure: StateError | None = None
    for container_id in marked:
        try:
            live_fd = acquire_live(paths, container_id, is_new=False)
        except StateError:
            continue  # it runs, or another command has mended it
        try:
            mark_guard(live_fd)  # so that others need not wait for us
            if not is_held(live_fd):  # else a command died that held it: there was no run
                _repair_run(paths, container_id)
                repaired.append(container_id)
            release_live(paths, container_id)
        except StateError as error:
            failure = error
        finally:
            os.close(live_fd)
    if failure is not None:
        raise failure
    return repaired


def find_cgroups(paths: Paths, container_id: str) -> list[Cgroup]:
    """The cgroups that a dead run may have left: the one it noted, else the usual or its spec's.

    The usual one is below our own cgroup on v1, and its supervisor may have had another.
    """
    from docklock.cgroup.driver import Cgroup, find_cgroup, locate_path
    from docklock.spec import parse_spec

    try:
        noted = Cgroup(container_id, read_state(paths, container_id).cgroup)
    except StateError:
        noted = Cgroup(container_id, ())
    if noted.exists():
        return [noted]
    usual = find_cgroup(container_id)
    found = [usual] if usual is not None else []
    try:
        path = f"{read_container(paths, container_id).bundle}/config.json"
        with open(path, "rb") as file:
            linux = parse_spec(file.read(), path).linux
        named = linux.cgroups_path
        place = locate_path(named, container_id, linux.resources) if named else None
    except (DocklockError, OSError):
        place = None  # no such container or bundle any more: then no cgroup of its own either
    return found + ([place] if place is not None and place.exists() else [])


def _repair_run(paths: Paths, container_id: str) -> None:
    """Kill, sign, remove, in that order: the gap's end is not before the last process's."""
    from docklock.evidence.database import sqlite3
    from docklock.evidence.full_disk import is_full, need_room

    for found in find_cgroups(paths, container_id):
        found.kill()
        found.delete()
    try:
        need_room(paths.state)
        _close_run(paths, container_id)
    except (OSError, StateError, sqlite3.Error) as error:
        if not is_full(error):
            raise
        raise StateError(
            f"container {container_id[:12]} lost its supervisor, was killed, and cannot be mended "
            f"now: {error}: make room on the disk of {paths.state}"
        ) from error


def _close_run(paths: Paths, container_id: str) -> None:
    from docklock.evidence.recovery import find_last_run, recover_runs
    from docklock.runtime import remove_files

    recover_runs(paths, lambda other: other != container_id)
    remove_if_there(socket_path(paths, container_id))
    try:
        container = read_container(paths, container_id)
        state = read_state(paths, container_id)
    except StateError:  # killed while the container was being made
        remove_files(paths, container_id, "")
        return
    if container.auto_remove:
        remove_files(paths, container_id, container.name)
        return
    # It may have died between the run's start in the log and in state.json.
    last = find_last_run(paths, container_id)
    if state.status != STOPPED or state.run != last:
        code = state.exit_code if state.status == RESTARTING else EXIT_KILLED
        ended = state.end(code, "its supervisor was killed")._replace(run=last, is_cut=True)
        if state.status == STOPPED:  # who had stopped it has started it again
            ended = ended._replace(is_stopped_by_user=False)
        write_state(paths, container_id, ended)
