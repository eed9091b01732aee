"""How far this host's servers are, as `sync status`, `info` and the metrics tell it.

Not here: what is written down (sent, calls), how lag is measured (lag), texts (docklock.cli.sync).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from docklock.agent.config_file import read_config
from docklock.outbox.calls import read_alerts
from docklock.outbox.lag import Lag, measure_lags
from docklock.outbox.sent import STATES, Sent, Standing, has_sent

if TYPE_CHECKING:
    from typing import Any

    from docklock.outbox.calls import Alert
    from docklock.outbox.settings import Server
    from docklock.paths import Paths


class ServerStatus(NamedTuple):
    """One server. `size` is that of this host's log; `contradictions` counts what is kept.

    `lag` is what it has not acknowledged: nothing too where it speaks of more than there is.
    """

    server: Server
    standing: Standing
    size: int
    lag: Lag
    contradictions: int
    alerts: tuple[Alert, ...] = ()

    @property
    def is_contradicted(self) -> bool:
        """Whether the last try came to what cannot be true."""
        return STATES[self.standing.state] in ("contradicted", "tampered", "alerted")

    def describe(self) -> dict[str, Any]:
        """As JSON has it; times are Unix ms, null for never."""
        standing = self.standing
        return {
            "name": self.server.name,
            "url": self.server.url,
            "server": self.server.origin,
            "state": STATES[standing.state],
            "acknowledged": standing.size,
            "acknowledged_ms": standing.acknowledged_ms or None,
            "log_size": self.size,
            "lag_leaves": self.lag.leaves,
            "lag_bytes": self.lag.size_bytes,
            "is_lag_exact": self.lag.is_exact,
            "lag_s": round(self.lag.age_s, 3),
            "last_try_ms": standing.tried_ms or None,
            "next_try_ms": standing.next_ms or None,
            "failures": standing.failures,
            "trouble": standing.trouble or None,
            "contradictions": self.contradictions,
            "alerts": [
                {"kind": one.kind, "leaf": one.leaf, "time_ms": one.time_ms, "why": one.why}
                for one in self.alerts
            ],
        }


def find_servers(paths: Paths, named: str | None = None) -> tuple[Server, ...]:
    """The servers of the file that is named, else of the one that was last sent by, if it is there,
    else of the default one."""
    if not named and has_sent(paths):
        with Sent(paths) as sent:
            named = sent.get_file()
        named = named if os.path.exists(named) else None
    return read_config(named).servers


def read_status(paths: Paths, servers: tuple[Server, ...]) -> list[ServerStatus]:
    """How far each is, in their order."""
    if not servers:
        return []
    standings, counts = [Standing()] * len(servers), [0] * len(servers)
    if has_sent(paths):
        with Sent(paths) as sent:
            standings = [sent.get_standing(server.origin) for server in servers]
            counts = [len(sent.get_contradictions(server.origin)) for server in servers]
    size, lags = measure_lags(paths, [standing.size for standing in standings])
    return [
        ServerStatus(server, standing, size, lag, count, tuple(read_alerts(paths, server.origin)))
        for server, standing, lag, count in zip(servers, standings, lags, counts, strict=True)
    ]
