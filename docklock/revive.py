"""Start what lost its supervisor, or was ended by the machine's end, where its policy says so.

`docklock mend` does this, and the agent has it do so. Not here: mending (repair.py, which comes
first), the decision (restart.py), the waiting (supervisor/restarting.py: in the new guard, so that
a stop meets an open door). A container starts once, whoever asks: all is done under its lock.
"""

from __future__ import annotations

import os

from chainlite.errors import StateError
from chainlite.lean import TYPE_CHECKING
from docklock.evidence.boot import get_boot_id
from docklock.lifecycle import (
    RESTARTING,
    STOPPED,
    State,
    acquire_live,
    is_live,
    list_containers,
    read_container,
    read_state,
    release_live,
    write_state,
)
from docklock.restart import compute_delay_ms, is_due, parse_policy
from docklock.supervisor.launch import launch
from docklock.supervisor.restarting import describe_end, plan_restart

if TYPE_CHECKING:
    from docklock.paths import Paths


def revive(paths: Paths) -> list[str]:
    """Give every container that is due to a new guard; their full ids."""
    boot = get_boot_id().hex()
    return [
        container_id
        for container_id in sorted(list_containers(paths))
        if not is_live(paths, container_id)
        and _find_due(paths, container_id, boot) is not None
        and _start(paths, container_id, boot)
    ]


def _find_due(paths: Paths, container_id: str, boot: str) -> State | None:
    """The status of a container that is to be started; None for all others."""
    try:
        state = read_state(paths, container_id)
        policy = parse_policy(read_container(paths, container_id).restart)
    except StateError:
        return None  # removed meanwhile, or damaged: `docklock ps` says so
    if state.status not in (STOPPED, RESTARTING) or state.run < 0:
        return None  # RESTARTING: its supervisor could not read what it is to run
    if state.is_quarantined:
        return None  # until a user starts it
    due = is_due(policy, describe_end(state), is_cut=state.is_cut, is_new_boot=state.boot != boot)
    return state if due else None


def _start(paths: Paths, container_id: str, boot: str) -> bool:
    try:
        live_fd = acquire_live(paths, container_id)
    except StateError:
        return False  # somebody else was first
    state = _find_due(paths, container_id, boot)
    if state is None:
        release_live(paths, container_id)
        os.close(live_fd)
        return False
    delay_ms = compute_delay_ms(describe_end(state)) if state.boot == boot else 0
    planned = plan_restart(state, delay_ms)._replace(boot=boot, is_stopped_by_user=False)
    write_state(paths, container_id, planned)
    channel = launch(
        paths,
        container_id,
        live_fd,
        run=state.run + 1,
        start_at_once=True,
        is_background=True,
    )
    channel.close()
    return True
