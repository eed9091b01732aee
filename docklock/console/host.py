"""This host as a source: its state directory, its guards, and what else runs here.

The one place where its parts are put together. Not here: what each part reads (host_*).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from docklock.console.host_acts import HostActs
from docklock.console.host_containers import HostContainers
from docklock.console.host_evidence import HostEvidence
from docklock.console.host_later import LaterAlerts, LaterChain, LaterChecks, LaterPolicy, LaterSync
from docklock.console.source import Source

if TYPE_CHECKING:
    from docklock.paths import Paths


def open_host(paths: Paths) -> Source:
    """The source of the installation that is at `paths`."""
    return Source(
        name=os.uname().nodename,
        containers=HostContainers(paths),
        alerts=LaterAlerts(paths),
        evidence=HostEvidence(paths),
        checks=LaterChecks(paths),
        policy=LaterPolicy(paths),
        acts=HostActs(paths),
        chain=LaterChain(paths),
        sync=LaterSync(paths),
    )
