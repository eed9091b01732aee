"""`docklock events`: what happens on this host, from its log, in Docker's form.

Each line is a leaf of the host log: signed, in order, and there after the fact; no agent is needed.
Not here: what a leaf says (host_receipts.py), whether the log holds (`docklock verify --all`).
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from chainlite import hostlog
from chainlite.errors import StateError
from docklock.cli import options
from docklock.cli.filters import Filters
from docklock.cli.host_receipts import SEGMENT, HostEvent, describe_leaf
from docklock.cli.options import Command, check_count, listed, text
from docklock.cli.receipts import escape, parse_since
from docklock.evidence.host_log import HostLog
from docklock.lifecycle import read_container
from docklock.supervisor.logfile import NANOSECONDS, format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from docklock.paths import Paths

EVENTS = Command(
    "events",
    "[OPTIONS]",
    "Show what happens on this host, as it happens.",
    (
        text("--since", help="from then on: 10m, RFC 3339 or Unix time", metavar="TIME"),
        text("--until", help="up to then, and end", metavar="TIME"),
        listed(
            "-f", "--filter", help="container=, event=, type=, image= (any of a key) or label=",
            metavar="KEY=VALUE",
        ),
        text("--format", help="json, or a Go template such as {{.Action}}", metavar="FORMAT"),
    ),
    examples=(
        "docklock events --since 10m --filter container=web", "docklock events --format json",
    ),
)  # fmt: skip
POLL_S = 0.1
KEYS = ("container", "event", "image", "label", "type")
CONTAINER, IMAGE, HOST = "container", "image", "host"
# op of a leaf -> (Docker's type, Docker's action); what Docker does not know is the host's
ACTIONS = {
    "attach": (CONTAINER, "attach"),
    "create": (CONTAINER, "create"),
    "exec": (CONTAINER, "exec_start"),
    "exit": (CONTAINER, "die"),
    "export": (CONTAINER, "export"),
    "oom": (CONTAINER, "oom"),
    "pause": (CONTAINER, "pause"),
    "policy": (CONTAINER, "policy"),
    "quarantine": (CONTAINER, "quarantine"),
    "remove": (CONTAINER, "destroy"),
    "rename": (CONTAINER, "rename"),
    "signal": (CONTAINER, "kill"),
    "start": (CONTAINER, "start"),
    "update": (CONTAINER, "update"),
    "import": (IMAGE, "import"),
    "load": (IMAGE, "load"),
    "pull": (IMAGE, "pull"),
    "rmi": (IMAGE, "delete"),
    "save": (IMAGE, "save"),
    "tag": (IMAGE, "tag"),
}
DOCKERS = {"exit_code": "exitCode", "old_name": "oldName"}


class Event(NamedTuple):
    """One event as Docker would show it. `id` is a container's, an image's, or empty."""

    kind: str
    action: str
    id: str
    attributes: dict[str, str]
    time_ns: int


class Attributes(dict[str, str]):
    """An event's attributes, for templates: one that it has not is empty, and no mistake."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return ""


def fits(filters: Filters, event: Event) -> bool:
    """Whether --filter wants the event. A label is an attribute, as with Docker."""
    name, image = event.attributes.get("name", ""), event.attributes.get("image", "")
    images = (image, event.id if event.kind == IMAGE else image)
    return (
        filters.fits("event", lambda value: event.action == value)
        and filters.fits("type", lambda value: event.kind == value)
        and filters.fits("image", lambda value: value in images)
        and filters.fits(
            "container",
            lambda value: (
                event.kind == CONTAINER
                and (name == value or (bool(value) and event.id.startswith(value)))
            ),
        )
        and filters.fits_labels(event.attributes)
    )


def run_events(argv: list[str], paths: Paths) -> int:
    """`docklock events`: until --until, or interrupted."""
    values, words = options.parse(EVENTS, argv)
    check_count(EVENTS, words, 0, 0)
    render = choose_form(values["format"])
    filters, now_ns = Filters(EVENTS.name, values["filter"], KEYS), time.time_ns()
    since_ns = parse_since(values["since"] or "", now_ns)
    until_ns = parse_since(values["until"], now_ns) if values["until"] else None
    is_from_now = values["since"] is None
    for event in read_events(paths, is_from_now=is_from_now, until_ns=until_ns):
        is_in_time = event.time_ns >= since_ns and (until_ns is None or event.time_ns <= until_ns)
        if is_in_time and fits(filters, event):
            sys.stdout.write(render(event))
            sys.stdout.flush()
    return 0


def read_events(paths: Paths, *, is_from_now: bool, until_ns: int | None) -> Iterator[Event]:
    """Every event from the first, or from now on, and then those that come, until the time is up.

    What happened before --since is read as well: it says what a container is called.
    """
    names: dict[str, dict[str, str]] = {}
    at, is_first = 0, True
    while True:
        is_over = until_ns is not None and time.time_ns() > until_ns
        leaves = [describe_leaf(index, leaf) for index, leaf in read_leaves(paths, at)]
        learn_names(paths, leaves, names)
        for leaf in leaves:
            at = leaf.leaf + 1
            event = describe_event(leaf, names)
            if event is not None and not (is_first and is_from_now):
                yield event
        is_first = False
        if is_over:
            return
        time.sleep(POLL_S)


def read_leaves(paths: Paths, first: int) -> list[tuple[int, hostlog.Leaf]]:
    """The leaves from index `first` on; none on a host that has no log yet."""
    try:
        with HostLog(paths, None) as log, log.read():
            size = log.get_size()
            return [(at, hostlog.decode_leaf(log.get_leaf(at))) for at in range(first, size)]
    except StateError:
        return []


def learn_names(paths: Paths, leaves: list[HostEvent], names: dict[str, dict[str, str]]) -> None:
    """What containers are called: as their start says, or as they are on disk before that."""
    for leaf in leaves:
        if leaf.op in ("create", "start") and leaf.container not in names:
            names[leaf.container] = read_names(paths, leaf.container)
        if leaf.op == "start":
            names[leaf.container] |= {"image": leaf.labels["image"], "name": leaf.labels["app"]}
        elif leaf.op == "rename" and leaf.container in names:
            names[leaf.container] |= {"name": leaf.labels["name"]}


def read_names(paths: Paths, container_id: str) -> dict[str, str]:
    """What its record says, with its labels; nothing of a container that is gone."""
    try:
        container = read_container(paths, container_id)
    except StateError:
        return {}
    return dict(container.labels) | {"image": container.image_id, "name": container.name}


def describe_event(event: HostEvent, names: dict[str, dict[str, str]]) -> Event | None:
    """A leaf as an event; None for segments. `names`: what each container is called."""
    if event.op == SEGMENT:
        return None
    labels = {
        DOCKERS.get(key, key): value
        for key, value in event.labels.items()
        if event.op != "start" or key not in ("app", "image")
    }
    kind, action = ACTIONS.get(event.op, (HOST, event.op))
    if event.op == "pause" and labels.get("state") not in (None, "frozen", "paused"):
        action = "unpause"
    if event.op == "quarantine" and labels.get("state") == "released":
        action = "release"
    subject = event.container if kind != IMAGE else labels.pop("image", labels.get("name", ""))
    attributes = names.get(event.container, {}) | labels
    return Event(kind, action, subject, attributes, event.time)


def choose_form(form: str | None) -> Callable[[Event], str]:
    """How --format has an event shown. SpecError for a template that names what there is not."""
    if form is None:
        return render_line
    if form.strip() in ("json", "{{json .}}"):
        return render_json
    from docklock.cli.template import render
    from docklock.cli.template_parse import parse_template

    nodes = parse_template(form)

    def render_template(event: Event) -> str:
        return render(nodes, describe_for_template(event)) + "\n"

    render_template(Event("", "", "", {}, 0))
    return render_template


def describe_for_template(event: Event) -> dict[str, Any]:
    """Docker's fields, by the names that templates have for them."""
    return {
        "Action": event.action,
        "Actor": {"Attributes": Attributes(event.attributes), "ID": event.id},
        "From": event.attributes.get("image", "") if event.kind == CONTAINER else "",
        "ID": event.id,
        "Scope": "local",
        "Status": event.action,
        "Time": event.time_ns // NANOSECONDS,
        "TimeNano": event.time_ns,
        "Type": event.kind,
    }


def render_line(event: Event) -> str:
    """Docker's line: time, type, action, id, attributes."""
    pairs = ", ".join(
        f"{name}={escape(value.encode())}" for name, value in sorted(event.attributes.items())
    )
    words = [format_time(event.time_ns), event.kind, event.action, event.id]
    return " ".join(word for word in words if word) + (f" ({pairs})" if pairs else "") + "\n"


def render_json(event: Event) -> str:
    """Docker's object."""
    shown: dict[str, Any] = {
        "Type": event.kind,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": event.attributes},
        "scope": "local",
        "time": event.time_ns // NANOSECONDS,
        "timeNano": event.time_ns,
    }
    return json.dumps(shown) + "\n"
