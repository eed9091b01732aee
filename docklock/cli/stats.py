"""`docklock stats`: what running containers use, in Docker's columns, read from their cgroups.

Needs no agent. Not here: the usage vector of receipts (supervisor/usage.py).
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, NamedTuple

from chainlite.errors import SpecError, StateError
from docklock.cgroup.driver import Cgroup
from docklock.cli import options
from docklock.cli.options import Command, flag, text
from docklock.image.listing import show_size, show_table
from docklock.lifecycle import (
    RUNNING,
    Container,
    find_container,
    list_containers,
    read_container,
)
from docklock.paths import Paths
from docklock.runtime import get_state

STATS = Command(
    "stats",
    "[OPTIONS] [CONTAINER...]",
    "Show what containers use now; all running ones if none is named.",
    (
        flag("-a", "--all", help="also containers that do not run"),
        flag("--no-stream", help="show it once"),
        flag("--no-trunc", help="full ids"),
        text("--format", help="json: one object a line", metavar="json"),
    ),
)
INTERVAL_S = 1.0
SHORT_ID = 12
CLEAR = "\033[2J\033[H"
UNKNOWN = "--"
HEADS = {
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}


class Sample(NamedTuple):
    """What a container has used, and uses. `blocks` is None where nobody counts it."""

    at_ns: int
    cpu_ns: int
    memory_bytes: int
    limit_bytes: int
    pids: int
    network: tuple[int, int]  # bytes received, sent
    blocks: tuple[int, int] | None  # bytes read, written


def run_stats(argv: list[str], paths: Paths) -> int:
    """`docklock stats`: until interrupted, or once."""
    values, words = options.parse(STATS, argv)
    if values["format"] not in (None, "json"):
        raise SpecError("docklock stats: --format takes json")
    ids = [find_container(paths, word) for word in words]
    chosen = choose(paths, ids, is_all=values["all"])
    before = {one.id: take_sample(paths, one) for one in chosen}
    while True:
        time.sleep(INTERVAL_S)
        chosen = choose(paths, ids, is_all=values["all"])
        now = {one.id: take_sample(paths, one) for one in chosen}
        rows = [
            describe(one, before.get(one.id), now[one.id], is_short=not values["no_trunc"])
            for one in chosen
        ]
        is_screen = sys.stdout.isatty() and not values["no_stream"]
        sys.stdout.write((CLEAR if is_screen else "") + format_rows(rows, values["format"]))
        sys.stdout.flush()
        if values["no_stream"]:
            return 0
        before = now


def choose(paths: Paths, ids: list[str], *, is_all: bool) -> list[Container]:
    """The named containers, or else all that run, the newest first."""
    found = []
    for container_id in ids or list_containers(paths):
        try:
            status = get_state(paths, container_id).status
            if ids or is_all or status == RUNNING:
                found.append(read_container(paths, container_id))
        except StateError:
            continue  # removed meanwhile
    return found if ids else sorted(found, key=lambda one: one.created_ns, reverse=True)


def take_sample(paths: Paths, container: Container) -> Sample | None:
    """What it uses now; None if it does not run."""
    try:
        state = get_state(paths, container.id)
    except StateError:
        return None
    if state.status != RUNNING:
        return None
    cgroup = locate(container.id, state.pid)
    if cgroup is None:
        return None
    memory = cgroup.memory_bytes()
    return Sample(
        at_ns=time.monotonic_ns(),
        cpu_ns=cgroup.cpu_ns(),
        memory_bytes=max(0, memory - cgroup.idle_cache_bytes()),
        limit_bytes=min(cgroup.memory_limit_bytes() or sys.maxsize, read_host_memory_bytes()),
        pids=len(cgroup.list_pids()),
        network=read_network(state.pid),
        blocks=cgroup.block_bytes(),
    )


def locate(container_id: str, pid: int) -> Cgroup | None:
    """The cgroup that a container's init is in, whoever made it; None if it has just ended."""
    from docklock.cgroup.hierarchy import find_process

    found = find_process(pid)
    return Cgroup(container_id, tuple((one.name, one.own) for one in found)) if found else None


def read_network(pid: int) -> tuple[int, int]:
    """(received, sent) of all interfaces but lo of its namespace."""
    received = sent = 0
    try:
        with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
            lines = file.read().splitlines()[2:]
    except OSError:
        return 0, 0
    for line in lines:
        name, _, fields = line.partition(":")
        if name.strip() != "lo":
            received += int(fields.split()[0])
            sent += int(fields.split()[8])
    return received, sent


def read_host_memory_bytes() -> int:
    """The machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def describe(
    container: Container, before: Sample | None, now: Sample | None, *, is_short: bool
) -> dict[str, Any]:
    """Docker's row by Docker's names; `--` for what is not known."""
    row = dict.fromkeys(HEADS, UNKNOWN) | {
        "Container": container.id[:SHORT_ID] if is_short else container.id,
        "ID": container.id[:SHORT_ID] if is_short else container.id,
        "Name": container.name,
    }
    if now is None:
        return row
    limit = now.limit_bytes
    return row | {
        "CPUPerc": UNKNOWN if before is None else f"{compute_cpu_percent(before, now):.2f}%",
        "MemUsage": f"{show_memory(now.memory_bytes)} / {show_memory(limit)}",
        "MemPerc": f"{100 * now.memory_bytes / limit:.2f}%",
        "NetIO": " / ".join(show_size(count) for count in now.network),
        "BlockIO": " / ".join(map(show_size, now.blocks)) if now.blocks else UNKNOWN,
        "PIDs": str(now.pids),
    }


def compute_cpu_percent(before: Sample, now: Sample) -> float:
    """Of one core, as Docker counts: two busy cores are 200."""
    spent_ns = max(1, now.at_ns - before.at_ns)
    return 100 * max(0, now.cpu_ns - before.cpu_ns) / spent_ns


def show_memory(size_bytes: int) -> str:
    """Binary units and four digits: 1.957GiB."""
    size, units = float(size_bytes), ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.4g}{units[0]}"


def format_rows(rows: list[dict[str, Any]], kind: str | None) -> str:
    """A table, or an object a line."""
    if kind == "json":
        return "".join(json.dumps(row) + "\n" for row in rows)
    return show_table(list(HEADS.values()), [[row[key] for key in HEADS] for row in rows])
