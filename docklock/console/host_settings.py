"""How a container was made, as names and texts. Environment variables are left out: they hold
secrets, and a screen is seen by many (`docklock inspect` shows them)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainlite import hostlog, segment
from chainlite.errors import DocklockError
from docklock.evidence.database import sqlite3
from docklock.evidence.host_log import HostLog, has_host_log
from docklock.health import decode_check
from docklock.image.listing import show_size
from docklock.runtime import read_spec

if TYPE_CHECKING:
    from docklock.console.host_records import Record
    from docklock.lifecycle import Container
    from docklock.paths import Paths
    from docklock.spec import Resources, Spec

Settings = list[tuple[str, str]]
LIST_MAX = 64
"""Mounts, labels: more of them are for `docklock inspect`."""


def list_settings(paths: Paths, record: Record) -> tuple[tuple[str, str], ...]:
    """All that is set. SpecError, OSError if its config.json cannot be read."""
    container, state = record.container, record.state
    assert container is not None
    spec = read_spec(container)
    found: Settings = [
        ("id", container.id),
        ("image", f"{container.image} {container.image_id}".strip()),
        ("policy", container.policy),
        ("policy digest", read_policy_digest(paths, container.id, state.run)),
        ("signed", "each receipt" if container.sign == "each" else "each segment"),
        ("network", container.network),
        ("restart", f"{container.restart}, {state.restart_count} times so far"),
        ("stop signal", container.stop_signal),
        *list_limits(spec.linux.resources),
        *list_process(spec),
        *list_mounts(spec),
        *list_health(container),
        *((f"label {name}", text) for name, text in container.labels[:LIST_MAX]),
        ("directory", container.bundle),
    ]
    if state.pid:
        found.append(("first process", str(state.pid)))
    found += [(f"cgroup {name}", path) for name, path in state.cgroup]
    return tuple((name, text) for name, text in found if text)


def list_limits(limits: Resources) -> Settings:
    """Those that are set, in Docker's units."""
    found: Settings = []
    sizes = (
        ("memory", limits.memory_max_bytes),
        ("memory and swap", limits.memory_swap_bytes),
        ("memory reservation", limits.memory_low_bytes),
    )
    found += [(name, show_size(size)) for name, size in sizes if size is not None and size > 0]
    if limits.cpu_quota_us and limits.cpu_quota_us > 0 and limits.cpu_period_us:
        found.append(("CPUs", f"{limits.cpu_quota_us / limits.cpu_period_us:g}"))
    if limits.cpu_shares:
        found.append(("CPU shares", str(limits.cpu_shares)))
    found += [("CPU set", limits.cpuset_cpus), ("memory nodes", limits.cpuset_mems)]
    if limits.pids_max is not None and limits.pids_max > 0:
        found.append(("processes at most", str(limits.pids_max)))
    return found


def list_process(spec: Spec) -> Settings:
    """What the program may do, and where it begins."""
    process = spec.process
    held = [name.removeprefix("CAP_") for name in process.capabilities.bounding]
    return [
        ("user", f"{process.user.uid}:{process.user.gid}"),
        ("capabilities", " ".join(held) or "none"),
        ("no new privileges", "yes" if process.no_new_privs else "no"),
        ("working directory", process.cwd),
        ("host name", spec.hostname),
        ("root file system", "read-only" if spec.root_readonly else "writable"),
        ("terminal", "yes" if process.terminal else "no"),
    ]


def list_mounts(spec: Spec) -> Settings:
    """Of the host's directories and volumes; those of each container are not told."""
    return [
        (f"mount {one.destination}", f"{one.source}{' (ro)' if 'ro' in one.options else ''}")
        for one in spec.mounts
        if one.kind == "bind"
    ][:LIST_MAX]


def list_health(container: Container) -> Settings:
    """Its check, if it has one."""
    check = decode_check(container.health)
    if not check.is_wanted:
        return []
    check = check.with_defaults()
    every = f"every {check.interval_ns / 1e9:g} s, {check.retries} times to be unhealthy"
    return [("health check", f"{' '.join(check.get_words())} ({every})")]


def read_policy_digest(paths: Paths, container: str, run: int) -> str:
    """Of the policy that a run began under, as its signed start says; empty where there is none."""
    if run < 0 or not has_host_log(paths):
        return ""
    try:
        with HostLog(paths, None) as log:
            runs = log.get_runs(container, run)
            leaf = hostlog.decode_leaf(log.get_leaf(runs[0].start_leaf)) if runs else None
    except (DocklockError, sqlite3.Error) as error:
        return str(error)
    if not isinstance(leaf, hostlog.Start):
        return ""
    return segment.decode_genesis(leaf.genesis).policy.hex()
