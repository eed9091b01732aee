"""A server's hosts and their containers, asked for now and then and remembered for all parts.

Not here: the calls (server_line), what the parts make of them (server). Invariants: hosts are asked
for at most once in HOSTS_EVERY_S, the containers of a host only after its log has grown, and of
LISTS_MAX hosts in one look, those that wait longest first; what was known stays known when the
server is away, and `trouble` says why it is old.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from chainlite.errors import DocklockError
from docklock.console.facts import UNKNOWN, Anchor, ContainerRow
from docklock.console.server_line import reading

if TYPE_CHECKING:
    from typing import Any

    from docklock.console.server_line import Line

HOSTS_EVERY_S = 3.0
LISTS_MAX = 8
ID_SHOWN = 12
NS_PER_S = 1_000_000_000


class HostFacts(NamedTuple):
    """A host as the server tells of it; `newest_ns` by the host's clock, -1 never heard."""

    host: str
    size: int
    receipts: int
    open_runs: int
    alerts: int
    stored_bytes: int
    newest_ns: int
    revoked_ms: int


class FleetFacts(NamedTuple):
    """All of it. Containers of hosts in `listed` are as those hosts' logs are now."""

    role: str
    hosts: tuple[HostFacts, ...]
    containers: tuple[ContainerRow, ...]
    listed: frozenset[str]
    at_ns: int
    trouble: str


class Fleet:
    """From any thread."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._lock = threading.Lock()
        self._asked_s = -HOSTS_EVERY_S
        self._at_ns = 0
        self._role = self._trouble = ""
        self._hosts: dict[str, HostFacts] = {}
        self._listed: dict[str, tuple[int, float]] = {}  # the size at which it was, and when
        self._rows: dict[str, dict[str, ContainerRow]] = {}

    def look(self) -> FleetFacts:
        """As it is, no older than HOSTS_EVERY_S where the server answers."""
        with self._lock:
            if time.monotonic() - self._asked_s >= HOSTS_EVERY_S:
                try:
                    self._ask()
                    self._trouble = ""
                except DocklockError as error:
                    self._trouble = str(error)
                self._asked_s = time.monotonic()
            rows = tuple(row for host in self._hosts for row in self._rows.get(host, {}).values())
            return FleetFacts(
                self._role, tuple(self._hosts.values()), rows, self._find_listed(), self._at_ns,
                self._trouble,
            )  # fmt: skip

    def find(self, container: str) -> ContainerRow | None:
        """What was last told of a container; nothing is asked for."""
        with self._lock:
            found = (rows[container] for rows in self._rows.values() if container in rows)
            return next(found, None)

    def _find_listed(self) -> frozenset[str]:
        sizes = {name: size for name, (size, _) in self._listed.items()}
        return frozenset(
            [name for name, host in self._hosts.items() if sizes.get(name) == host.size]
        )

    def _ask(self) -> None:
        parts = self._line.get_parts("/v1/hosts")
        with reading("/v1/hosts"):
            self._role = str(parts[0]["role"])
            hosts = [_read_host(one) for part in parts for one in part["hosts"]]
        self._hosts = {host.host: host for host in hosts}
        self._at_ns = time.time_ns()
        for gone in self._rows.keys() - self._hosts.keys():
            del self._rows[gone]
            self._listed.pop(gone, None)
        never = (UNKNOWN, 0.0)
        grown = [one for one in hosts if self._listed.get(one.host, never)[0] != one.size]
        grown.sort(key=lambda one: self._listed.get(one.host, never)[1])
        for host in grown[:LISTS_MAX]:
            self._list(host)

    def _list(self, host: HostFacts) -> None:
        shown = self._line.get_all("/v1/containers", "containers", host=host.host)
        now_s, now_ns = time.monotonic(), time.time_ns()
        before, (_, before_s) = self._rows.get(host.host, {}), self._listed.get(host.host, (0, 0.0))
        with reading("/v1/containers"):
            rows = [_read_row(one, host, self._line.url, now_ns) for one in shown]
        passed_s = now_s - before_s if before_s else 0.0
        self._rows[host.host] = {
            row.id: _measure(row, before.get(row.id), passed_s) for row in rows
        }
        self._listed[host.host] = (host.size, now_s)


def _measure(row: ContainerRow, before: ContainerRow | None, passed_s: float) -> ContainerRow:
    """With its receipts each second since it was last listed."""
    if before is None or not passed_s:
        return row
    grown = row.receipts - (before.receipts if before.run == row.run else 0)
    return row._replace(receipts_per_s=max(grown, 0) / passed_s)


def _read_host(shown: dict[str, Any]) -> HostFacts:
    newest, revoked = shown["newest_ns"], shown["revoked_ms"]
    return HostFacts(
        host=str(shown["host"]),
        size=int(shown["size"]),
        receipts=int(shown["receipts"]),
        open_runs=int(shown["open_runs"]),
        alerts=int(shown["alerts"]),
        stored_bytes=int(shown["stored_bytes"]),
        newest_ns=UNKNOWN if newest is None else int(newest),
        revoked_ms=0 if revoked is None else int(revoked),
    )


def _read_row(shown: dict[str, Any], host: HostFacts, url: str, now_ns: int) -> ContainerRow:
    """What there is: the server knows what the log says, not whether anything runs."""
    state = str(shown["state"])
    return ContainerRow(
        id=str(shown["container"]),
        name=str(shown["app"]),
        host=host.host,
        app=str(shown["app"]),
        status=state,
        run=int(shown["run"]),
        created_ns=int(shown["started_ns"]),
        started_ns=int(shown["started_ns"]),
        policy=str(shown["policy"])[:ID_SHOWN],
        receipts=int(shown["receipts"]),
        anchor=Anchor("server", url.partition("://")[2], max(host.newest_ns, 0)),
        trouble="its run was cut: its host's supervisor died" if state == "cut" else "",
        measured_ns=now_ns,
    )
