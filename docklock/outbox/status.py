"""How far this host's servers are, as `sync status`, `info` and the metrics tell it.

Not here: what is written down (sent), texts (docklock.cli.sync). The lag of a server is what it has
not acknowledged: leaves, and the age of the oldest of them by this host's clock.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from chainlite import hostlog, segment
from docklock.agent.config_file import read_config
from docklock.evidence.host_log import HostLog, has_host_log
from docklock.outbox.sent import STATES, Sent, Standing, has_sent

if TYPE_CHECKING:
    from typing import Any

    from docklock.outbox.settings import Server
    from docklock.paths import Paths

NS_PER_S = 1_000_000_000


class ServerStatus(NamedTuple):
    """One server. `size` is that of this host's log; `contradictions` counts what is kept."""

    server: Server
    standing: Standing
    size: int
    lag_s: float
    contradictions: int

    @property
    def lag_leaves(self) -> int:
        """What it has not acknowledged; 0 too where it speaks of more than there is."""
        return max(0, self.size - self.standing.size)

    @property
    def is_contradicted(self) -> bool:
        """Whether the last try came to what cannot be true."""
        return STATES[self.standing.state] in ("contradicted", "tampered")

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
            "lag_leaves": self.lag_leaves,
            "lag_s": round(self.lag_s, 3),
            "last_try_ms": standing.tried_ms or None,
            "next_try_ms": standing.next_ms or None,
            "failures": standing.failures,
            "trouble": standing.trouble or None,
            "contradictions": self.contradictions,
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
    size, ages_s = _read_ages(paths, [standing.size for standing in standings])
    return [
        ServerStatus(server, standing, size, age_s, count)
        for server, standing, age_s, count in zip(servers, standings, ages_s, counts, strict=True)
    ]


def _read_ages(paths: Paths, firsts: list[int]) -> tuple[int, list[float]]:
    """The size of the log, and the age of each of these leaves; 0 where there is none yet."""
    if not has_host_log(paths):
        return 0, [0.0] * len(firsts)
    with HostLog(paths, None) as log, log.read():
        size, now_ns = log.get_size(), time.time_ns()
        times = [get_time_ns(log.get_leaf(at)) if at < size else now_ns for at in firsts]
    return size, [max(0, now_ns - time_ns) / NS_PER_S for time_ns in times]


def get_time_ns(data: bytes) -> int:
    """When a leaf of the log says that it was."""
    leaf = hostlog.decode_leaf(data)
    if isinstance(leaf, hostlog.Start):
        return segment.decode_genesis(leaf.genesis).time
    if isinstance(leaf, hostlog.Segment):
        return segment.decode_header(leaf.header).time_last
    return leaf.time
