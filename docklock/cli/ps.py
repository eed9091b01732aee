"""`docklock ps`: containers in Docker's columns, the newest first.

Not here: templates (template), the form of filters (filters).
"""

from __future__ import annotations

import json
import os
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from chainlite.errors import SpecError, StateError
from docklock.cli import options
from docklock.cli.options import Command, check_count, flag, text
from docklock.image.listing import show_duration, show_size, show_table
from docklock.lifecycle import (
    CREATED,
    RESTARTING,
    RUNNING,
    STOPPED,
    Container,
    State,
    find_container,
    list_containers,
    read_container,
)
from docklock.runtime import CONFIG, get_state

if TYPE_CHECKING:
    from docklock.cli.filters import Filters
    from docklock.paths import Paths

PS = Command(
    "ps",
    "[OPTIONS]",
    "List containers.",
    (
        flag("-a", "--all", help="show all, not only running ones"),
        options.listed(
            "-f",
            "--filter",
            help="only these: ancestor before exited health id label name network since status"
            " volume",
            metavar="KEY=VALUE",
        ),
        text("--format", help="a Go template, 'table TEMPLATE', table or json", metavar="FORMAT"),
        text("-n", "--last", help="the last NUMBER that were made, in any state", metavar="NUMBER"),
        flag("-l", "--latest", help="the last that was made, in any state"),
        flag("-q", "--quiet", help="only ids"),
        flag("-s", "--size", help="what each has written, and with its image"),
        flag("--no-trunc", help="full ids and commands"),
    ),
    examples=(
        "docklock ps -a",
        "docklock ps --filter status=exited --format '{{.ID}}: {{.Names}}'",
        "docklock ps --format json",
    ),
)
SHORT_ID = 12
COMMAND_WIDTH = 20
MOUNT_WIDTH = 15
STATES = ("created", "restarting", "running", "paused", "exited", "quarantined")
HEALTHS = ("starting", "healthy", "unhealthy", "none")
KEYS = (
    "ancestor", "before", "exited", "health", "id", "label", "name", "network", "since", "status",
    "volume",
)  # fmt: skip
HEADS = {
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Labels": "LABELS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Mounts": "MOUNTS",
    "Names": "NAMES",
    "Networks": "NETWORKS",
    "Ports": "PORTS",
    "RunningFor": "CREATED",
    "Size": "SIZE",
    "State": "STATE",
    "Status": "STATUS",
}
COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")


class Row(NamedTuple):
    """A container and its status."""

    container: Container
    state: State

    @property
    def shown(self) -> str:
        """Docker's word for the status."""
        return "exited" if self.state.status == STOPPED else self.state.shown


def run_ps(argv: list[str], paths: Paths) -> int:
    """`docklock ps`."""
    values, words = options.parse(PS, argv)
    check_count(PS, words, 0, 0)
    last = parse_last(values)
    rows = read_rows(paths)
    if values["filter"]:
        rows, is_all = choose(paths, rows, values["filter"])
    else:
        is_all = False
    if not (values["all"] or is_all or last):
        rows = [row for row in rows if row.state.status in (RUNNING, RESTARTING)]
    rows = rows[:last] if last else rows
    if values["quiet"] and not values["format"]:
        for row in rows:
            print(row.container.id if values["no_trunc"] else row.container.id[:SHORT_ID])
        return 0
    form = values["format"] or "table"
    has_mounts = form == "json" or "Mounts" in form or "json" in form
    show = Show(paths, is_full=values["no_trunc"], has_size=values["size"], has_mounts=has_mounts)
    shown = [show.describe(row) for row in rows]
    if form != "table":
        from docklock.cli.template import show_rows

        methods = [{"Label": partial(get_label, row.container)} for row in rows]
        sys.stdout.write(show_rows(shown, form, HEADS, methods))
        return 0
    columns = (*COLUMNS, "Size") if values["size"] else COLUMNS
    cells = [[row[key] for key in columns] for row in shown]
    heads = [HEADS[key] for key in columns]
    sys.stdout.write(show_table(heads, cells, is_whole=values["no_trunc"]))
    return 0


def get_label(container: Container, name: object) -> str:
    """A label's value, for {{.Label "NAME"}}; nothing if it is not there."""
    return dict(container.labels).get(str(name), "")


def parse_last(values: dict[str, Any]) -> int:
    """How many of the newest; 0 for all."""
    if values["latest"]:
        return 1
    word = values["last"] or "-1"
    try:
        return max(0, int(word))
    except ValueError:
        raise SpecError(f"docklock ps: --last takes a number, not {word!r}") from None


def read_rows(paths: Paths) -> list[Row]:
    """All containers, the newest first."""
    rows = []
    for container_id in list_containers(paths):
        try:
            rows.append(Row(read_container(paths, container_id), get_state(paths, container_id)))
        except StateError:
            continue  # removed while we listed
    rows.sort(key=lambda row: row.container.created_ns, reverse=True)
    return rows


def choose(paths: Paths, rows: list[Row], words: list[str]) -> tuple[list[Row], bool]:
    """(the rows that fit, whether stopped ones are asked for by their status)."""
    from docklock.cli.filters import Filters

    filters = Filters("ps", words, KEYS)
    states = filters.check("status", STATES)
    filters.check("health", HEALTHS)
    for code in filters.get("exited"):
        if not code.isdecimal():
            raise filters.error(f"exited={code}: give an exit code")
    times = {
        key: [_find_created(paths, one) for one in filters.get(key)] for key in ("before", "since")
    }
    found = []
    for row in rows:
        created = row.container.created_ns
        is_in_time = all(created < one for one in times["before"]) and all(
            created > one for one in times["since"]
        )
        if is_in_time and _fits(row, filters):
            found.append(row)
    return found, bool(states)


def _find_created(paths: Paths, word: str) -> int:
    return read_container(paths, find_container(paths, word)).created_ns


def _fits(row: Row, filters: Filters) -> bool:
    container, state = row
    codes = [str(state.exit_code)] if state.status == STOPPED else []
    return (
        filters.fits("status", lambda value: value == row.shown)
        and filters.fits("exited", lambda value: str(int(value)) in codes)
        and filters.fits_text("id", container.id)
        and filters.fits_text("name", container.name, f"/{container.name}")
        and filters.fits_labels(dict(container.labels))
        and filters.fits("network", lambda value: value == container.network)
        and filters.fits("ancestor", lambda value: is_ancestor(container, value))
        and filters.fits("health", lambda value: value == get_health(container))
        and filters.fits(
            "volume", lambda value: any(value in one for one in read_mounts(container))
        )
    )


def is_ancestor(container: Container, word: str) -> bool:
    """Whether a container is of the image that `word` names, or whose ID begins with it."""
    from docklock.image.reference import parse_reference

    if word == container.image or container.image_id.removeprefix("sha256:").startswith(
        word.removeprefix("sha256:")
    ):
        return bool(word)
    try:
        return parse_reference(word).text == parse_reference(container.image).text
    except SpecError:
        return False


def get_health(container: Container) -> str:
    """Docker's word for its health; `none` without a check."""
    from docklock.cli.health import read_health

    health = read_health(container) if container.health else None
    return "none" if health is None else health.status


def read_mounts(container: Container) -> list[tuple[str, str]]:
    """(source, destination) of its binds."""
    try:
        with open(f"{container.bundle}/{CONFIG}", encoding="utf-8") as file:
            mounts = json.load(file).get("mounts", [])
    except (OSError, ValueError):
        return []
    own = f"{container.bundle}/"  # files that docklock binds: hostname and the like
    return [
        (one["source"], one["destination"])
        for one in mounts
        if one.get("type") == "bind" and not one["source"].startswith(own)
    ]


class Show(NamedTuple):
    """How rows are shown."""

    paths: Paths
    is_full: bool
    has_size: bool
    has_mounts: bool

    def describe(self, row: Row) -> dict[str, str]:
        """Docker's fields by Docker's names."""
        container, state = row
        command = f'"{" ".join(container.command)}"'
        if not self.is_full and len(command) > COMMAND_WIDTH:
            command = command[: COMMAND_WIDTH - 2] + '…"'
        return {
            "Command": command,
            "CreatedAt": format_created(container.created_ns),
            "ID": container.id if self.is_full else container.id[:SHORT_ID],
            "Image": container.image,
            "Labels": ",".join(f"{name}={value}" for name, value in sorted(container.labels)),
            "LocalVolumes": "0",
            "Mounts": self._show_mounts(container) if self.has_mounts else "",
            "Names": container.name,
            "Networks": container.network,
            "Ports": "",
            "RunningFor": format_ago(container.created_ns),
            "Size": self._show_size(container) if self.has_size else "0B",
            "State": row.shown,
            "Status": format_status(state) + format_health(container, state),
        }

    def _show_mounts(self, container: Container) -> str:
        sources = [source for source, _ in read_mounts(container)]
        if not self.is_full:
            sources = [
                one if len(one) <= MOUNT_WIDTH else one[: MOUNT_WIDTH - 1] + "…" for one in sources
            ]
        return ",".join(sources)

    def _show_size(self, container: Container) -> str:
        from docklock.cli.system import BLOCK_BYTES, measure_tree
        from docklock.image.store import ImageStore

        upper = f"{self.paths.container(container.id)}/upper"
        size = max(0, measure_tree(upper) - os.lstat(upper).st_blocks * BLOCK_BYTES)
        try:
            image_size = ImageStore(self.paths).resolve(container.image_id).size_bytes
        except (StateError, SpecError):
            image_size = 0
        return f"{show_size(size)} (virtual {show_size(size + image_size)})"


def format_status(state: State) -> str:
    """Docker's STATUS column."""
    if state.status == RUNNING:
        frozen = f" ({state.shown.capitalize()})" if state.is_frozen else ""
        return f"Up {format_duration(state.started_ns)}{frozen}"
    if state.status == RESTARTING:
        return f"Restarting ({state.exit_code}) {format_ago(state.finished_ns)}"
    if state.status == STOPPED:
        return f"Exited ({state.exit_code}) {format_ago(state.finished_ns)}"
    return state.status.capitalize() if state.status != CREATED else "Created"


def format_health(container: Container, state: State) -> str:
    """What Docker puts behind the status of a running container with a health check."""
    if state.status != RUNNING or not container.health:
        return ""
    health = get_health(container)
    if health == "none":
        return ""
    return f" ({'health: ' if health == 'starting' else ''}{health})"


def format_created(time_ns: int) -> str:
    """Docker's CREATED AT; in UTC, whatever this host's zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(time_ns // 1_000_000_000))


def format_ago(time_ns: int) -> str:
    """`5 minutes ago`."""
    return f"{format_duration(time_ns)} ago"


def format_duration(since_ns: int) -> str:
    """Docker's rough words for the time since `since_ns`."""
    return show_duration(max(0, time.time_ns() - since_ns) // 1_000_000_000)
