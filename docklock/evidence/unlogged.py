"""What one run's recorder has for the host log and has not logged yet: segments, operations.

Segments wait until LOG_INTERVAL_S is over or the run ends, an operation does not. Not here: the
thread that waits (recorder), operations that a command logs before it does them (operations).
Invariant: the log is used by the recorder's thread alone while that runs; `add_operation` only
hands over. What is added is logged, at the latest with the exit. Callers bound what they add.
"""

from __future__ import annotations

import time

from chainlite import hostlog
from chainlite.lean import TYPE_CHECKING
from docklock.bare import deque

if TYPE_CHECKING:
    from docklock.evidence.container_store import SegmentRow
    from docklock.evidence.host_log import HostLog
    from docklock.evidence.ledger import Point

    Labels = tuple[tuple[str, str], ...]

LOG_INTERVAL_S = 0.05
SEGMENTS_AT_ONCE = 256  # a transaction takes 1 ms and 10 us each: held calls wait behind it


class Unlogged:
    """The leaves of a run that wait. One thread at a time, but for add_operation."""

    def __init__(self, log: HostLog, container: bytes, run: int) -> None:
        self._log, self._container, self._run = log, container, run
        self._segments: list[bytes] = []
        self._operations: deque[tuple[str, Labels]] = deque()
        self._segments_at = 0.0

    def add_segments(self, rows: list[SegmentRow]) -> None:
        """Segments that are durable in the container's store."""
        if not self._segments:
            self._segments_at = time.monotonic() + LOG_INTERVAL_S
        self._segments += [
            hostlog.encode_segment(hostlog.Segment(row.header, row.signature)) for row in rows
        ]

    def add_operation(self, name: str, labels: Labels) -> None:
        """Something that happened to the container; from any thread."""
        self._operations.append((name, labels))

    def get_dues(self) -> list[float]:
        """When something is to be logged, by the monotonic clock; empty if nothing waits."""
        return [0.0] * bool(self._operations) + [self._segments_at] * bool(self._segments)

    def write(self) -> None:
        """Log some of what waits; on an error nothing was."""
        with self._log.write():
            count = self._append(self._segments[:SEGMENTS_AT_ONCE])
        del self._segments[:SEGMENTS_AT_ONCE]
        for _ in range(count):
            self._operations.popleft()

    def write_exit(self, end: Point, exit_code: int, *, oom: bool, is_removed: bool) -> None:
        """Log all that waits, the run's exit, and with `is_removed` its container's removal."""
        leaf = hostlog.Exit(
            self._log.host,
            self._container,
            self._run,
            end.event_count,
            end.chain_hash,
            exit_code,
            int(oom),
            0,
            time.time_ns(),
        )
        with self._log.write():
            self._append(self._segments)
            self._log.append_exit(leaf)
            if is_removed:
                self._log.append_operation("remove", self._container)

    def _append(self, segments: list[bytes]) -> int:
        """How many operations that were."""
        if segments:
            self._log.append_all(segments, container=self._container, run=self._run)
        operations = tuple(self._operations)
        for name, labels in operations:
            self._log.append_operation(name, self._container, labels)
        return len(operations)
