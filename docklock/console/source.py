"""The parts of a source: what a screen may ask, whoever answers. Pure.

Each part is called from one thread at a time and blocks. A part that a source has not is None, and
the screen says so. What cannot be read now is in the answer's `trouble`; a call raises a
DocklockError only where nothing can be answered at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.console.facts import (
        Alert,
        ChainFacts,
        Denial,
        Details,
        Done,
        FeedPart,
        LogLine,
        Overview,
        Progress,
        Proposal,
        ReceiptFacts,
        SyncFacts,
        Verdict,
    )

FEED_EVENTS_MAX = 500
"""Of one look at a feed: more than a screen has lines, less than a busy container makes."""


class Feed(Protocol):
    """What one container's runs leave, as it comes."""

    def read(self, limit: int = FEED_EVENTS_MAX) -> FeedPart:
        """What came since the last call; the first call tells the newest `limit` of the past."""

    def read_before(self, run: int, index: int, limit: int = FEED_EVENTS_MAX) -> FeedPart:
        """The `limit` receipts right before one of a run: to scroll back."""

    def close(self) -> None: ...


class Containers(Protocol):
    """What runs, and what it uses."""

    def read_overview(self, focus: tuple[str, ...] = ()) -> Overview:
        """All containers; those of `focus` (ids on the screen) are measured first."""

    def read_details(self, container: str) -> Details: ...

    def read_log(self, container: str, limit: int) -> tuple[LogLine, ...]:
        """The newest lines, oldest first."""


class Evidence(Protocol):
    """Receipts and their proofs."""

    def open_feed(self, container: str) -> Feed: ...

    def read_receipt(self, container: str, run: int, index: int) -> ReceiptFacts:
        """With its proof, unchecked."""

    def check_receipt(self, container: str, run: int, index: int) -> ReceiptFacts:
        """With its proof made and verified now, as a stranger would."""


class Checks(Protocol):
    """Whether the evidence is whole."""

    def read_verdicts(self) -> tuple[Verdict, ...]:
        """What is known to be broken, the oldest first; cheap, called every second or so.

        Each call also goes on a little with checking, so that all is looked at in turn.
        """

    def verify(self, container: str, tell: Callable[[Progress], bool]) -> tuple[Verdict, ...]:
        """Verify one container, or all where it is empty; `tell` returns False to stop it."""


class PolicyDesk(Protocol):
    """What was denied, and the rule that would allow it."""

    def read_denials(self, container: str = "") -> tuple[Denial, ...]: ...

    def propose(self, denial: Denial) -> Proposal: ...

    def apply(self, proposal: Proposal) -> Done:
        """On record. StateError if the policy is another than when it was proposed."""


class Chain(Protocol):
    """The chain's node here."""

    def read_chain(self) -> ChainFacts: ...


class Sync(Protocol):
    """Evidence on its way to servers."""

    def read_sync(self) -> SyncFacts: ...


class Alerts(Protocol):
    """What somebody should look at."""

    def read_alerts(self) -> tuple[Alert, ...]: ...


class Acts(Protocol):
    """What may be done to a container. Each is the command of its name, on record as that is."""

    def act(self, verb: str, container: str, tell: Callable[[Progress], bool]) -> Done:
        """`verb` is one of VERBS."""

    def write_evidence(self, container: str, path: str) -> Done: ...

    def get_shell(self, container: str) -> tuple[str, ...]:
        """The argument vector of an interactive shell in it."""


VERBS = (
    "start", "stop", "restart", "kill", "pause", "unpause", "quarantine", "release", "rm",
)  # fmt: skip
DESTRUCTIVE = frozenset(("stop", "restart", "kill", "quarantine", "rm"))
"""These ask first."""


@dataclass(frozen=True, slots=True)
class Source:
    """A host, a server, or what was saved of one."""

    name: str
    containers: Containers
    alerts: Alerts
    evidence: Evidence | None = None
    checks: Checks | None = None
    policy: PolicyDesk | None = None
    chain: Chain | None = None
    sync: Sync | None = None
    acts: Acts | None = None
    note: str = ""  # what this source has not, and why
