"""What servers have not acknowledged is not taken away here.

For whoever drops or erases evidence on this host: it asks first. Not here: erasing
(docklock.evidence.erasing). Removing containers and images drops no evidence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainlite.errors import StateError
from docklock.evidence.host_log import HostLog, has_host_log
from docklock.outbox.status import find_servers, read_status

if TYPE_CHECKING:
    from docklock.paths import Paths


def check_sent(paths: Paths, container: str) -> None:
    """StateError if a server of the settings has not acknowledged all of a container's evidence."""
    servers = find_servers(paths)
    if not servers or not has_host_log(paths):
        return
    with HostLog(paths, None) as log:
        runs = log.get_runs(container)
        ends = [log.get_size() if run.exit_leaf is None else run.exit_leaf + 1 for run in runs]
    for status in read_status(paths, servers):
        if status.standing.size < max(ends, default=0):
            raise StateError(
                f"{status.server.name} has not acknowledged this container's evidence: "
                "`docklock sync now`, or take the server out of the settings"
            )
