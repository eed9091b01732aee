"""The OCI verbs create, start, state, kill and delete: the inner interface of every command.

Not here: images, networks and volumes (cli/run.py puts them into the bundle), the supervisor's own
work (supervisor/), mending after crashes (repair.py).

Source: OCI runtime-spec 1.2, runtime.md (operations and state).
"""

from __future__ import annotations

import os

from chainlite.errors import StateError
from chainlite.lean import TYPE_CHECKING
from docklock.bare import socket
from docklock.files import remove_tree
from docklock.lifecycle import (
    CREATED,
    PAUSED,
    RESTARTING,
    RUNNING,
    STOPPED,
    Container,
    State,
    acquire_live,
    check_name,
    is_live,
    names_dir,
    read_container,
    read_state,
    release_live,
    remove_if_there,
    reserve_name,
    trash_dir,
    write_container,
    write_state,
)
from docklock.paths import Paths
from docklock.supervisor.launch import launch

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from docklock.policy.load import Compiled
    from docklock.spec import Spec

CONFIG = "config.json"


def make_container(
    paths: Paths, container: Container, spec: Spec, files: dict[str, str] | None = None
) -> int:
    """Write a new container's files and take its name; its lock, which the caller must close.

    `files` go into the container's directory, for the spec's mounts to bind.

    Nothing is left when it raises.
    """
    from docklock.spec import encode_spec

    check_name(container.name)
    live_fd = acquire_live(paths, container.id)
    try:
        reserve_name(paths, container.name, container.id)
        directory = paths.container(container.id)
        for name in ("", "/rootfs", "/upper", "/work"):
            os.mkdir(directory + name, 0o700 if name != "/upper" else 0o755)
        if container.bundle == directory:
            with open(f"{directory}/{CONFIG}", "wb") as file:
                file.write(encode_spec(spec))
        for name, text in (files or {}).items():
            with open(
                f"{directory}/{name}", "w", encoding="utf-8", errors="surrogateescape"
            ) as file_:
                file_.write(text)
        write_container(paths, container)
        write_state(paths, container.id, State())
    except BaseException:
        if _owns_name(paths, container):
            remove_files(paths, container.id, container.name)
        release_live(paths, container.id)
        os.close(live_fd)
        raise
    return live_fd


def relaunch(paths: Paths, container_id: str, *, is_background: bool = False) -> socket.socket:
    """Start a created or stopped container again: the next run of the same bundle."""
    try:
        live_fd = acquire_live(paths, container_id)
    except StateError:
        state = get_state(paths, container_id)
        if state.is_frozen:
            remedy = "quarantine --release" if state.is_quarantined else "unpause"
            why = f"cannot start a {state.shown} container, try {remedy} instead"
            raise StateError(why) from None
        raise
    state = read_state(paths, container_id)
    if state.status == RESTARTING:  # left by a supervisor that could not begin: a user's start now
        write_state(paths, container_id, State(run=state.run))
    return launch(
        paths,
        container_id,
        live_fd,
        run=state.run + 1,
        start_at_once=True,
        is_background=is_background,
    )


def load_container_policy(paths: Paths, container: Container, spec: Spec) -> Compiled:
    """The container's policy, compiled for its bounding set. SpecError if it is not to be had."""
    from docklock.policy.load import load_policy

    return load_policy(container.policy, paths, capabilities=spec.process.capabilities.bounding)


def load_run_policy(paths: Paths, container: Container, spec: Spec, digest: str) -> Compiled:
    """The policy that a run is under, for one more program in it, by its digest in hex.

    Not what the record or the file says by now: that is for the next run. An empty digest is not
    known. StateError if the policy is nowhere any more.
    """
    from chainlite.errors import SpecError
    from docklock.policy.load import find_compiled

    try:
        policy = load_container_policy(paths, container, spec)
    except SpecError:
        if not digest:
            raise
    else:
        if digest in ("", policy.digest.hex()):
            return policy
    found = find_compiled(paths, bytes.fromhex(digest))
    if found is None:
        raise StateError(
            "the policy that it runs under was changed and is not kept: docklock restart it first"
        )
    return found


def read_spec(container: Container) -> Spec:
    """The container's config.json. SpecError if it is wrong."""
    from docklock.spec import parse_spec

    path = f"{container.bundle}/{CONFIG}"
    with open(path, "rb") as file:
        return parse_spec(file.read(), path)


def get_state(paths: Paths, container_id: str) -> State:
    """The status now; a run whose supervisor is gone reads as stopped."""
    return settle_state(read_state(paths, container_id), lambda: is_live(paths, container_id))


def settle_state(state: State, is_live: Callable[[], bool]) -> State:
    """What was written last, as it is now."""
    if state.status == CREATED and state.restart_count:  # between its back-off and its program
        state = state._replace(status=RESTARTING)
    if state.status in (RUNNING, RESTARTING) and not is_live():
        return state._replace(status=STOPPED, pid=0, is_paused=False)
    return state


def describe_state(paths: Paths, container_id: str) -> dict[str, Any]:
    """The OCI state document."""
    from docklock.spec import OCI_VERSION

    container = read_container(paths, container_id)
    state = get_state(paths, container_id)
    return {
        "ociVersion": OCI_VERSION,
        "id": container.name,
        "status": STOPPED if state.status == RESTARTING else state.shown,
        "pid": state.pid,
        "bundle": container.bundle,
        "annotations": dict(container.labels),
    }


def delete(paths: Paths, container_id: str, *, force: bool = False) -> None:
    """Remove a container that does not run; with `force`, kill it first. Its evidence stays."""
    from docklock import client

    container = read_container(paths, container_id)
    if is_live(paths, container_id):
        state = read_state(paths, container_id)
        if not force and state.status != STOPPED:
            remedy = "unpause and stop" if state.shown == PAUSED else "stop"
            raise StateError(
                f"container {container.name} is {state.shown}: {remedy} it first, or use rm -f"
            )
        client.kill(paths, container_id)
    live_fd = acquire_live(paths, container_id)
    try:
        remove_files(paths, container_id, container.name)
        release_live(paths, container_id)
    finally:
        os.close(live_fd)


def keep_ended(paths: Paths, container_id: str) -> None:
    """A user stops a container whose supervisor was killed: its policy must not start it again."""
    if not read_state(paths, container_id).is_cut:
        return
    try:
        live_fd = acquire_live(paths, container_id)
    except StateError:
        return  # it runs again: its supervisor will be told
    try:
        state = read_state(paths, container_id)
        write_state(paths, container_id, state._replace(is_stopped_by_user=True))
        release_live(paths, container_id)
    finally:
        os.close(live_fd)


def discard_files(paths: Paths, container_id: str, name: str) -> None:
    """Free a dead container's name and id at once; `remove_files` must follow."""
    try:
        os.rename(paths.container(container_id), f"{trash_dir(paths)}/{container_id}")
    except FileNotFoundError:
        pass
    remove_name(paths, container_id, name)


def remove_files(paths: Paths, container_id: str, name: str) -> None:
    """Remove a dead container's directory and name. Its evidence and its lock stay."""
    remove_tree(paths.container(container_id))
    remove_tree(f"{trash_dir(paths)}/{container_id}")
    remove_name(paths, container_id, name)


def remove_name(paths: Paths, container_id: str, name: str) -> None:
    """Free the name, if it is this container's."""
    link = f"{names_dir(paths)}/{name}"
    if name and os.path.islink(link) and os.readlink(link) == container_id:
        remove_if_there(link)


def _owns_name(paths: Paths, container: Container) -> bool:
    link = f"{names_dir(paths)}/{container.name}"
    return os.path.islink(link) and os.readlink(link) == container.id
