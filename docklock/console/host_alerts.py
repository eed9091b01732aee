"""What somebody should look at on this host, put together and sorted.

Not here: what each kind is read from (alert_sources). Each source is asked in its own time, one
that cannot be read is an alert itself. Invariants: of an alert whose time nobody wrote down `since`
is when this program first saw it, and stays so as long as it is there; no more than ALERTS_MAX.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from chainlite.errors import DocklockError
from docklock.console import alert_sources as sources
from docklock.console.facts import Alert
from docklock.evidence.database import sqlite3

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.paths import Paths

ALERTS_MAX = 1_000
LEVELS = ("critical", "warning", "info")


class _Source(NamedTuple):
    """What is looked at, and how often at most."""

    name: str
    find: Callable[[], list[Alert]]
    every_s: float


class HostAlerts:
    """source.Alerts of this host; `config` is the file that names the servers, else the usual."""

    def __init__(self, paths: Paths, config: str | None = None) -> None:
        containers = sources.ContainerAlerts(paths)
        notary = sources.NotaryAlerts(paths)
        self._sources = (
            _Source("containers", containers.find, 1.0),
            _Source("forks", lambda: sources.find_forks(paths), 2.0),
            _Source("servers", lambda: sources.find_servers_alerts(paths, config), 5.0),
            _Source("chain", lambda: sources.find_chain(paths), 5.0),
            _Source("notary", notary.find, 2.0),
            _Source("disk", lambda: sources.find_disk(paths), 5.0),
        )
        self._found: dict[str, tuple[float, list[Alert]]] = {}
        self._since: dict[tuple[str, str, str], int] = {}

    def read_alerts(self) -> tuple[Alert, ...]:
        now_s, now_ns = time.monotonic(), time.time_ns()
        for source in self._sources:
            looked_s, _ = self._found.get(source.name, (-source.every_s, []))
            if now_s - looked_s >= source.every_s:
                self._found[source.name] = (now_s, _look(source))
        alerts = [alert for _, found in self._found.values() for alert in found]
        return sort_alerts(self._note_since(alerts, now_ns))

    def _note_since(self, alerts: list[Alert], now_ns: int) -> list[Alert]:
        seen = {}
        noted = []
        for alert in alerts:
            if not alert.since_ns:
                key = (alert.kind, alert.subject, alert.container)
                seen[key] = self._since.get(key, now_ns)
                alert = alert._replace(since_ns=seen[key])
            noted.append(alert)
        self._since = seen
        return noted


def sort_alerts(alerts: list[Alert]) -> tuple[Alert, ...]:
    """The worst first, of these the newest first."""
    ranks = {level: rank for rank, level in enumerate(LEVELS)}
    ordered = sorted(alerts, key=lambda one: (ranks[one.level], -one.since_ns, one.subject))
    return tuple(ordered[:ALERTS_MAX])


def _look(source: _Source) -> list[Alert]:
    try:
        return source.find()
    except (DocklockError, OSError, sqlite3.Error) as error:
        return [Alert("unreadable", "warning", source.name, str(error), 0)]
