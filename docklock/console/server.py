"""A server (BPCI) as a source: many hosts' containers, evidence, alerts, and how far each host is.

The one place where its parts are put together. Not here: calls (server_line), what is remembered of
hosts and containers (server_fleet), receipts (server_feed, server_receipt). Nothing is done to a
container from here, and nothing of a host's own files is seen: acts, policy, checks and chain are
None.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from chainlite.bpci.asking import LAG_S_DEFAULT
from chainlite.errors import DocklockError, SpecError, StateError
from chainlite.trust import OPTION_LIMIT_BYTES, parse_log_keys, read_file
from docklock.auditor.key import load_key, read_enrolled
from docklock.console.facts import (
    UNKNOWN,
    Alert,
    ContainerRow,
    Details,
    Overview,
    ServerSync,
    SyncFacts,
)
from docklock.console.host_alerts import sort_alerts
from docklock.console.server_feed import ServerFeed
from docklock.console.server_fleet import ID_SHOWN, NS_PER_S, Fleet
from docklock.console.server_line import Line, reading
from docklock.console.server_receipt import check_receipt, read_receipt
from docklock.console.source import Source

if TYPE_CHECKING:
    from typing import Any

    from docklock.console.facts import LogLine, ReceiptFacts
    from docklock.console.server_fleet import FleetFacts, HostFacts
    from docklock.console.source import Feed

ALERTS_EVERY_S = 10.0
NS_PER_MS = 1_000_000
WARNINGS = frozenset(("lag", "future", "quota"))
"""Kinds that convict nobody; all others do."""
NOTE = (
    "a server: it tells what hosts have sent, unproven until a receipt is verified; whether a "
    "container runs it does not know (open, closed and cut are its run's log), and nothing can be "
    "done to one; a reader sees no values"
)


def open_server(url: str, server_key_file: str, key_file: str, ca_file: str = "") -> Source:
    """The source of a server, asked as the member whose key is in the file; nothing is asked yet.

    SpecError or StateError: a file is not there, or is not what it should be.
    """
    data = read_file(server_key_file, OPTION_LIMIT_BYTES)
    log_keys = parse_log_keys([data.decode("ascii", errors="replace")])
    if not log_keys:
        raise SpecError(f"{server_key_file}: want both keys of the server's log")
    line = Line(url.rstrip("/"), log_keys, load_key(key_file), ca_file, read_enrolled(key_file))
    fleet = Fleet(line)
    return Source(
        name=line.url,
        containers=ServerContainers(fleet),
        alerts=ServerAlerts(line, fleet),
        evidence=ServerEvidence(line, fleet),
        sync=ServerHosts(fleet),
        note=NOTE,
    )


class ServerContainers:
    """source.Containers of a server."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def read_overview(self, focus: tuple[str, ...] = ()) -> Overview:  # noqa: ARG002
        facts = self._fleet.look()
        is_open = [row.host in facts.listed for row in facts.containers if row.status == "open"]
        return Overview(
            at_ns=facts.at_ns,
            agent=_describe_role(facts),
            containers=facts.containers,
            running=len(is_open),
            measured=sum(is_open),
            trouble=facts.trouble,
        )

    def read_details(self, container: str) -> Details:
        row = _find(self._fleet, container)
        facts = self._fleet.look()
        host = next((one for one in facts.hosts if one.host == row.host), None)
        settings = [("host", row.host), ("policy", row.policy), ("run", f"{row.run} {row.status}")]
        if host is not None:
            settings += [
                ("host's log", f"{host.size} leaves are held"),
                ("host's receipts", str(host.receipts)),
                ("host's alerts", str(host.alerts)),
                ("asked as", facts.role),
            ]
        return Details(row, settings=tuple(settings), trouble=facts.trouble)

    def read_log(self, container: str, limit: int) -> tuple[LogLine, ...]:  # noqa: ARG002
        raise StateError("a server is not sent the output of containers")


class ServerEvidence:
    """source.Evidence of a server."""

    def __init__(self, line: Line, fleet: Fleet) -> None:
        self._line, self._fleet = line, fleet

    def open_feed(self, container: str) -> Feed:
        return ServerFeed(self._line, self._fleet, container)

    def read_receipt(self, container: str, run: int, index: int) -> ReceiptFacts:
        return read_receipt(self._line, _find(self._fleet, container), run, index)

    def check_receipt(self, container: str, run: int, index: int) -> ReceiptFacts:
        return check_receipt(self._line, _find(self._fleet, container), run, index)


class ServerHosts:
    """source.Sync of a server: its hosts, how much of each is held, and how long each is silent."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def read_sync(self) -> SyncFacts:
        facts, now_ns = self._fleet.look(), time.time_ns()
        hosts = tuple([_describe_host(host, now_ns) for host in facts.hosts])
        return SyncFacts(hosts, trouble=facts.trouble)


class ServerAlerts:
    """source.Alerts of a server; what was told stays while the server is away, which is told."""

    def __init__(self, line: Line, fleet: Fleet) -> None:
        self._line, self._fleet = line, fleet
        self._asked_s = -ALERTS_EVERY_S
        self._found: tuple[Alert, ...] = ()
        self._away: tuple[Alert, ...] = ()

    def read_alerts(self) -> tuple[Alert, ...]:
        if time.monotonic() - self._asked_s >= ALERTS_EVERY_S:
            self._ask()
            self._asked_s = time.monotonic()
        return (*self._away, *self._found)

    def _ask(self) -> None:
        try:
            shown = self._line.get_all("/v1/alerts", "alerts")
            with reading("/v1/alerts"):
                self._found = sort_alerts([_make_alert(one) for one in shown])
            self._away = ()
        except DocklockError as error:
            since_ns = self._away[0].since_ns if self._away else time.time_ns()
            advice = "what is shown is as it was before"
            away = Alert("away", "warning", self._line.url, str(error), since_ns, advice=advice)
            self._away = (away,)


def _describe_role(facts: FleetFacts) -> str:
    return f"asked as {facts.role}" if facts.role else "not asked yet"


def _find(fleet: Fleet, container: str) -> ContainerRow:
    row = fleet.find(container)
    if row is None:
        fleet.look()
        row = fleet.find(container)
    if row is None:
        raise StateError(f"{container[:ID_SHOWN]}: the server has nothing of this container")
    return row


def _describe_host(host: HostFacts, now_ns: int) -> ServerSync:
    is_heard = host.newest_ns >= 0
    silent_s = max(0, now_ns - host.newest_ns) / NS_PER_S if is_heard else UNKNOWN
    state = "silent" if silent_s > LAG_S_DEFAULT and host.open_runs else "well"
    state = "revoked" if host.revoked_ms else "alerted" if host.alerts else state
    trouble = f"{host.alerts} alerts" if host.alerts else ""
    if state == "silent":
        trouble = f"{host.open_runs} of its runs are open, and nothing new has come"
    return ServerSync(
        name=host.host,
        state=state if is_heard else "never heard",
        acknowledged=host.size,
        log_size=UNKNOWN,
        lag_s=silent_s,
        acknowledged_ms=max(host.newest_ns, 0) // NS_PER_MS,
        contradictions=host.alerts,
        trouble=trouble,
    )


def _make_alert(shown: dict[str, Any]) -> Alert:
    kind, host = str(shown["kind"]), str(shown["host"])
    where = f"leaf {shown['leaf_index']}: " if int(shown["leaf_index"]) >= 0 else ""
    level = "warning" if kind in WARNINGS else "critical"
    advice = "docklock audit alerts --proofs DIR, docklock verify" if shown["proof"] else ""
    return Alert(
        kind, level, f"host {host[:ID_SHOWN]}", f"{where}{shown['why']}",
        int(shown["time_ms"]) * NS_PER_MS, advice=advice,
    )  # fmt: skip
