"""`docklock receipts --host`: what the host's log says was done here, as a table or JSON lines.

Not here: whether it holds (`docklock verify --all`); the leaves' bytes (chainlite.hostlog).
Segments, which only repeat what `receipts` shows, are shown by `--op segment` alone.
"""

from __future__ import annotations

import sys
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from chainlite import hostlog, segment
from chainlite.sha2 import sha256

if TYPE_CHECKING:
    from docklock.evidence.reading import Query
    from docklock.paths import Paths

SEGMENT = "segment"
_ROW = "{:<8} {:<23} {:<10} {:<12} {}\n"


class HostEvent(NamedTuple):
    """One leaf as it is shown; `container` is empty where it is to none; `time` in Unix ns."""

    leaf: int
    op: str
    container: str
    time: int
    labels: dict[str, str]


def print_host_log(paths: Paths, container: str, query: Query, *, as_json: bool) -> None:
    """Print the leaves that the query wants, of one container if it is not empty."""
    import json

    from docklock.evidence.host_log import HostLog

    if not as_json:
        sys.stdout.write(_ROW.format("LEAF", "TIME", "OP", "CONTAINER", "LABELS"))
    with HostLog(paths, None) as log, log.read():
        for index, data in log.iterate_leaves():
            event = describe_leaf(index, hostlog.decode_leaf(data))
            if not is_wanted(event, container, query):
                continue
            if as_json:
                shown = event._asdict() | {"leaf": str(index), "time": str(event.time)}
                sys.stdout.write(json.dumps(shown) + "\n")
            else:
                sys.stdout.write(render_event(event))


def is_wanted(event: HostEvent, container: str, query: Query) -> bool:
    """Whether container, pattern and time of the query fit."""
    if container and event.container != container:
        return False
    if event.op == SEGMENT and query.op == "*":
        return False
    return event.time >= query.since_ns and fnmatchcase(event.op, query.op)


def render_event(event: HostEvent) -> str:
    """One line of the table."""
    from docklock.cli.receipts import escape, format_time

    labels = " ".join(f"{name}={escape(text.encode())}" for name, text in event.labels.items())
    when = format_time(event.time)
    line = _ROW.format(event.leaf, when, event.op, event.container[:12], labels)
    return line.rstrip() + "\n"


def describe_leaf(index: int, leaf: hostlog.Leaf) -> HostEvent:
    """A leaf with a name for what it says."""
    match leaf:
        case hostlog.Operation():
            container = "" if leaf.container == hostlog.NO_CONTAINER else leaf.container.hex()
            return HostEvent(index, leaf.name, container, leaf.time, dict(leaf.labels))
        case hostlog.Start():
            genesis = segment.decode_genesis(leaf.genesis)
            labels = {
                "run": str(genesis.run),
                "number": str(genesis.number),
                "app": genesis.app,
                "image": genesis.image,
                "policy": genesis.policy.hex(),
            }
            return HostEvent(index, "start", genesis.container.hex(), genesis.time, labels)
        case hostlog.Exit():
            labels = {"run": str(leaf.run), "receipts": str(leaf.event_count)}
            labels |= {"exit_code": str(leaf.exit_code)} if not leaf.cut else {"cut": "1"}
            labels |= {"oom": "1"} if leaf.oom else {}
            return HostEvent(index, "exit", leaf.container.hex(), leaf.time, labels)
        case hostlog.Segment():
            header = segment.decode_header(leaf.header)
            labels = {"run": str(header.run), "receipts": str(header.event_count)}
            labels["first"] = str(header.first_index)
            return HostEvent(index, SEGMENT, header.container.hex(), header.time_last, labels)
        case hostlog.Boot():
            labels = {"boot": leaf.boot.hex(), "leaves_before": str(leaf.previous_size)}
            return HostEvent(index, "boot", "", leaf.time, labels)
        case hostlog.Key():
            labels = {"number": str(leaf.number), "public_key": leaf.public.hex()}
            return HostEvent(index, "key", "", leaf.time, labels)
        case hostlog.MldsaKey():
            labels = {"number": str(leaf.number), "public_key": sha256(leaf.public).hexdigest()}
            return HostEvent(index, "mldsa-key", "", leaf.time, labels)
        case hostlog.Revocation():
            labels = {"number": str(leaf.number), "from_leaf": str(leaf.first_index)}
            return HostEvent(index, "revoke", "", leaf.time, labels)
