"""Parts of a host that are opened by the first question to them.

What they import takes longer than a first screen may; whoever never looks at the chain never loads
it. Not here: the parts themselves (host_chain, host_sync, host_alerts,
host_checks,
host_policy).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.console.facts import (
        Alert,
        ChainFacts,
        Denial,
        Done,
        Progress,
        Proposal,
        SyncFacts,
        Verdict,
    )
    from docklock.console.source import Alerts, Chain, Checks, PolicyDesk, Sync
    from docklock.paths import Paths


class LaterChain:
    """source.Chain."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._chain: Chain | None = None

    def read_chain(self) -> ChainFacts:
        if self._chain is None:
            from docklock.console.host_chain import HostChain

            self._chain = HostChain(self._paths)
        return self._chain.read_chain()


class LaterSync:
    """source.Sync."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._sync: Sync | None = None

    def read_sync(self) -> SyncFacts:
        if self._sync is None:
            from docklock.console.host_sync import HostSync

            self._sync = HostSync(self._paths)
        return self._sync.read_sync()


class LaterAlerts:
    """source.Alerts."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._alerts: Alerts | None = None

    def read_alerts(self) -> tuple[Alert, ...]:
        if self._alerts is None:
            from docklock.console.host_alerts import HostAlerts

            self._alerts = HostAlerts(self._paths)
        return self._alerts.read_alerts()


class LaterChecks:
    """source.Checks."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._checks: Checks | None = None

    def read_verdicts(self) -> tuple[Verdict, ...]:
        return self._get().read_verdicts()

    def verify(self, container: str, tell: Callable[[Progress], bool]) -> tuple[Verdict, ...]:
        return self._get().verify(container, tell)

    def _get(self) -> Checks:
        if self._checks is None:
            from docklock.console.host_checks import HostChecks

            self._checks = HostChecks(self._paths)
        return self._checks


class LaterPolicy:
    """source.PolicyDesk."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._policy: PolicyDesk | None = None

    def read_denials(self, container: str = "") -> tuple[Denial, ...]:
        return self._get().read_denials(container)

    def propose(self, denial: Denial) -> Proposal:
        return self._get().propose(denial)

    def apply(self, proposal: Proposal) -> Done:
        return self._get().apply(proposal)

    def _get(self) -> PolicyDesk:
        if self._policy is None:
            from docklock.console.host_policy import HostPolicy

            self._policy = HostPolicy(self._paths)
        return self._policy
