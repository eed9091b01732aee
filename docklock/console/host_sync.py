"""How far this host's servers are, and what each has acknowledged.

Not here: what is written down (docklock.outbox), sending. A look costs some small reads; how much a
server lacks is measured anew once in MEASURE_EVERY_S, since that reads leaves.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from chainlite import checkpoint, tlogproof
from chainlite.bpci.acknowledgement import decode_acknowledgement
from chainlite.errors import DocklockError, SpecError
from docklock.console.facts import UNKNOWN, Acknowledgement, ServerSync, SyncFacts
from docklock.evidence.database import sqlite3
from docklock.outbox.sent import STATES, Sent, has_sent
from docklock.outbox.status import ServerStatus, find_servers, read_status

if TYPE_CHECKING:
    from docklock.outbox.settings import Server
    from docklock.paths import Paths

MEASURE_EVERY_S = 2.0
ACKNOWLEDGEMENTS_SHOWN = 100
"""Of each server: an hour and a half, at one a minute."""
NO_SERVER = "no server is named: a table [[server]] in agent.toml (docs: docklock sync --help)"


class HostSync:
    """source.Sync of this host; `config` is the file that names the servers, else the usual."""

    def __init__(self, paths: Paths, config: str | None = None) -> None:
        self._paths, self._config = paths, config
        self._measured_s = 0.0
        self._last: SyncFacts | None = None
        self._known: dict[bytes, Acknowledgement] = {}

    def read_sync(self) -> SyncFacts:
        now_s = time.monotonic()
        if self._last is None or now_s - self._measured_s >= MEASURE_EVERY_S:
            self._last, self._measured_s = self._read(), now_s
        return self._last

    def _read(self) -> SyncFacts:
        try:
            servers = find_servers(self._paths, self._config)
            statuses = read_status(self._paths, servers)
            acknowledged = self._read_acknowledgements(servers)
        except (DocklockError, OSError, sqlite3.Error) as error:
            return SyncFacts(trouble=str(error))
        shown = tuple(map(describe_server, statuses))
        return SyncFacts(shown, acknowledged, "" if servers else NO_SERVER)

    def _read_acknowledgements(self, servers: tuple[Server, ...]) -> tuple[Acknowledgement, ...]:
        if not servers or not has_sent(self._paths):
            return ()
        kept: dict[bytes, Acknowledgement] = {}
        with Sent(self._paths) as sent:
            for server in servers:
                for data in sent.get_acknowledgements(server.origin, ACKNOWLEDGEMENTS_SHOWN):
                    kept[data] = self._known.get(data) or _describe(server.name, data)
        self._known = kept
        return tuple(sorted(kept.values(), key=lambda one: one.time_ms, reverse=True))


def describe_server(status: ServerStatus) -> ServerSync:
    """One server as it stands."""
    standing, lag = status.standing, status.lag
    return ServerSync(
        name=status.server.name,
        url=status.server.url,
        state=STATES[standing.state],
        acknowledged=standing.size,
        log_size=status.size,
        lag_leaves=lag.leaves,
        lag_bytes=lag.size_bytes,
        lag_s=lag.age_s,
        acknowledged_ms=standing.acknowledged_ms,
        next_try_ms=standing.next_ms,
        failures=standing.failures,
        contradictions=status.contradictions,
        trouble=standing.trouble,
    )


def _describe(name: str, data: bytes) -> Acknowledgement:
    """What was kept was checked when it came (docklock.outbox.checking)."""
    try:
        made = decode_acknowledgement(data)
        state = checkpoint.parse_claim(tlogproof.parse_log_proof(made.proof).note)
    except SpecError:
        return Acknowledgement(name, UNKNOWN, 0)
    return Acknowledgement(name, made.held.size, made.time_ms, state.size)
