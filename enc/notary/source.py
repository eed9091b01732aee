"""Where a notary gets segments from: what a host shows of its log, as frames of evidence.

Not here: who shows it (docklock hands in this host's own stores; peers will send theirs) and
whether it holds (intake). Frames are kind and payload as in chainlite.bundle.
"""

from __future__ import annotations

from chainlite.lean import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class RunName(NamedTuple):
    """A run of the host that the source is of."""

    container: bytes
    run: int


class HostView(Protocol):
    """One moment of a host's log and what belongs to it. StateError where it cannot be read now.

    A TamperError from any of these says that the host's own records contradict themselves.
    """

    def read_opening(self) -> Iterator[tuple[int, bytes]]:
        """Host key, later keys and revocations, checkpoint."""

    def read_leaves(self, size_before: int) -> Iterator[bytes]:
        """All leaves of the log from index `size_before` on, in order."""

    def read_start(self, name: RunName) -> bytes:
        """The payload of the run's start."""

    def read_certificates(self, name: RunName) -> Iterator[bytes]:
        """The payloads of the run's certificates after the first, in order."""

    def read_run(
        self, name: RunName, event_count: int, epoch: int, last_leaf: int
    ) -> Iterator[tuple[int, bytes]]:
        """What follows a run's first `event_count` receipts, epoch `epoch` and the leaf
        `last_leaf`: certificates, segments (each with its place), the exit. Only what is in the
        log at this moment."""

    def read_exit(self, name: RunName) -> bytes:
        """The payload of the run's exit; empty while it is open."""

    def read_anchors(self) -> Iterator[bytes]:
        """The payloads of the newest checkpoints that others have cosigned."""


class Source(Protocol):
    """A host that shows its log."""

    def open(self) -> HostView | None:
        """Its log now; None if it has none yet. Used until `close`."""

    def close(self) -> None:
        """The view that was opened is done with."""
