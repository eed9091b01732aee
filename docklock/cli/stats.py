"""`docklock stats`: what running containers use, in Docker's columns, read from their cgroups.

Needs no agent. Not here: the usage vector of receipts (supervisor/usage.py).
"""

from __future__ import annotations

import sys
import time
from typing import Any

from chainlite.errors import StateError
from docklock.cgroup import sampling
from docklock.cgroup.sampling import Sample, compute_cpu_percent, locate
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
        text("--format", help="a Go template, 'table TEMPLATE', table or json", metavar="FORMAT"),
    ),
    examples=(
        "docklock stats --no-stream",
        "docklock stats --format '{{.Name}}: {{.MemUsage}}' web",
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


def run_stats(argv: list[str], paths: Paths) -> int:
    """`docklock stats`: until interrupted, or once."""
    values, words = options.parse(STATS, argv)
    form, is_whole = values["format"] or "table", values["no_trunc"]
    format_rows(
        [], form, is_whole=is_whole
    )  # what is no template is said before a second is waited
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
        sys.stdout.write((CLEAR if is_screen else "") + format_rows(rows, form, is_whole=is_whole))
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
    return sampling.take_sample(cgroup, state.pid)._replace(
        pids=len(cgroup.list_pids()), blocks=cgroup.block_bytes()
    )


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


def show_memory(size_bytes: int) -> str:
    """Binary units and four digits: 1.957GiB."""
    size, units = float(size_bytes), ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.4g}{units[0]}"


def format_rows(rows: list[dict[str, Any]], form: str, *, is_whole: bool) -> str:
    """A table, an object a line, or what a template says."""
    if form != "table":
        from docklock.cli.template import show_rows

        return show_rows(rows, form, HEADS | {"Container": "CONTAINER"})
    cells = [[row[key] for key in HEADS] for row in rows]
    return show_table(list(HEADS.values()), cells, is_whole=is_whole)
