"""`docklock receipts [CONTAINER]`: list what was recorded.

Not here: whether it holds (`docklock verify`). Only committed receipts are shown. What containers
wrote is escaped: a path cannot steer the terminal.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.evidence.reading import Query, Shown
    from docklock.paths import Paths

POLL_S = 0.1
VALUE_CHARS_MAX = 120
_ROW = "{:<8} {:<23} {:<7} {:<20} {:<16} {}\n"


def run_receipts(argv: list[str], paths: Paths) -> int:
    """Print the receipts of a container (the newest if none is named) as a table or JSON lines."""
    from docklock.cli.arguments import Parser, add_format
    from docklock.client import flush
    from docklock.evidence.reading import Query, find_evidence, find_newest

    parser = Parser(
        prog="docklock receipts",
        description="List a container's committed receipts.",
        examples=(
            "docklock receipts --op 'syscall.mount' job",
            "docklock receipts -f --json web",
            "docklock receipts --host --since 1h",
        ),
    )
    parser.add_argument("container", metavar="CONTAINER", nargs="?", default="")
    parser.add_argument("-f", "--follow", action="store_true", help="until the run ends")
    parser.add_argument("--op", metavar="PATTERN", default="*", help="as 'syscall.*'")
    parser.add_argument("--since", metavar="TIME", default="", help="10m, RFC 3339 or Unix time")
    add_format(parser, "one object a line")
    parser.add_argument("--host", action="store_true", help="what the host's log says was done")
    options = parser.parse_args(argv)
    name = options.container
    if options.host:
        from docklock.cli.host_receipts import print_host_log

        query = Query(options.op, parse_since(options.since, time.time_ns()))
        container = find_evidence(paths, name) if name else ""
        print_host_log(paths, container, query, as_json=options.json)
        return 0
    container = find_evidence(paths, name) if name else find_newest(paths)
    flush(paths, container)
    query = Query(options.op, parse_since(options.since, time.time_ns()))
    show: Callable[[Shown], str] = render_json if options.json else render_row
    if not options.json:
        header = ("INDEX", "TIME", "PID", "OP", "DECISION", "VALUES")
        sys.stdout.write(_ROW.format(*header))
    _print_receipts(paths, container, query, show, follow=options.follow)
    return 0


def _print_receipts(
    paths: Paths, container: str, query: Query, show: Callable[[Shown], str], *, follow: bool
) -> None:
    from docklock.evidence.host_log import HostLog

    shown: dict[int, int] = {}
    with HostLog(paths, None) as log:
        while True:
            runs = log.get_runs(container)
            _print_new(paths, container, query, show, [run.run for run in runs], shown)
            if not follow or not runs or runs[-1].exit_leaf is not None:
                return
            sys.stdout.flush()
            time.sleep(POLL_S)


def _print_new(
    paths: Paths,
    container: str,
    query: Query,
    show: Callable[[Shown], str],
    runs: list[int],
    counts: dict[int, int],
) -> None:
    """Print what was committed since `counts`, which this advances."""
    from docklock.evidence import container_store
    from docklock.evidence.reading import has_store, iterate_receipts

    if not has_store(paths, container):
        return
    db = container_store.open_store(paths, container)
    try:
        for run in runs if container_store.has_tables(db) else ():
            count = container_store.get_event_count(db, run)
            first = counts.get(run, 0)
            if count > first:
                for shown in iterate_receipts(db, run, first, query):
                    if shown.receipt.event_index < count:
                        sys.stdout.write(show(shown))
                counts[run] = count
    finally:
        db.close()


def parse_since(text: str, now_ns: int, option: str = "--since") -> int:
    """Unix ns of a time as Docker takes it; 0 for none."""
    from docklock.cli.moment import parse_moment

    return parse_moment(option, text, now_ns) if text else 0


def render_row(shown: Shown) -> str:
    """One line of the table."""
    from chainlite.receipt import DECISIONS

    event = shown.receipt
    index = f"{event.run}:{event.event_index}" if event.run else str(event.event_index)
    stamp = format_time(event.time)
    decision = DECISIONS[event.decision]
    if event.errno:
        import errno

        decision += " " + errno.errorcode.get(event.errno, str(event.errno))
    parts = [f"{name}={_show(name, value)}" for name, value in shown.values]
    parts += [f"{name}={escape(text.encode())}" for name, text in event.labels]
    return _ROW.format(index, stamp, event.pid, event.op, decision, " ".join(parts)).rstrip() + "\n"


def format_time(time_ns: int) -> str:
    """UTC, to the millisecond."""
    seconds, rest = divmod(time_ns, 10**9)
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds)) + f".{rest // 10**6:03}"


def _show(name: str, value: bytes | None) -> str:
    if name == "sockaddr" and value is not None:
        from docklock.cli.addresses import format_sockaddr

        value = format_sockaddr(value).encode()
    return escape(value)


def escape(value: bytes | None) -> str:
    """A value as a terminal may show it: nothing in it steers."""
    from chainlite.report import escape as escape_text
    from docklock.evidence.reading import decode_text

    if value is None:
        return "(redacted)"
    text = escape_text(decode_text(value))
    return text if len(text) <= VALUE_CHARS_MAX else text[: VALUE_CHARS_MAX - 3] + "..."


def render_json(shown: Shown) -> str:
    """One JSON object and a newline."""
    import json

    return json.dumps(describe_receipt(shown)) + "\n"


def describe_receipt(shown: Shown) -> dict[str, Any]:
    """A receipt with EVIDENCE.md's names: u64 as decimal strings, bytes as hex.

    `values` are text where they are UTF-8, else under `NAME_base64`; null when redacted. A socket
    address is under both: as people write it, and its bytes.
    """
    import base64

    from chainlite import receipt

    values: dict[str, str | None] = {}
    for name, value in shown.values:
        if name == "sockaddr" and value is not None:
            values[name] = _show(name, value)
            values[f"{name}_base64"] = base64.b64encode(value).decode()
            continue
        try:
            values[name] = None if value is None else value.decode()
        except UnicodeDecodeError:
            values[f"{name}_base64"] = base64.b64encode(value or b"").decode()
    return receipt.describe(shown.receipt) | {"values": values}
