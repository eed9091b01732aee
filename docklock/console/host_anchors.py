"""How far the evidence of this host's containers is held by others, and by whom.

What others have said is read as it was kept when it was checked: cosigned checkpoints, blocks that
ordered an anchor, servers' acknowledgements. Each holds the first leaves of the host's log, so a
container's evidence is held by whoever holds the newest leaf under which it lies. Not here: whether
all that holds (`docklock verify`). Read anew every APART_NS at most.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from chainlite import checkpoint, note
from chainlite.errors import DocklockError
from docklock.console.facts import Anchor
from docklock.evidence.database import sqlite3
from docklock.evidence.kept_log import KeptLog
from docklock.evidence.submitted import Submitted, has_submitted
from docklock.outbox.sent import Sent, has_sent

if TYPE_CHECKING:
    from docklock.paths import Paths

APART_NS = 3_000_000_000
NS_PER_MS = 1_000_000
ANCHORS_LOOKED_AT = 16
"""The newest of a chain: more than wait for a block at once."""
HOST_LOG = Anchor("host log")


class Mark(NamedTuple):
    """Somebody holds the first `size` leaves of the host's log."""

    size: int
    anchor: Anchor


class Place(NamedTuple):
    """Where a run's evidence is in the host's log, None where it is not yet; what it counts."""

    leaf: int | None
    event_count: int


class Anchors:
    """Owns an open host log. One thread at a time. `trouble` says what cannot be read."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._log = KeptLog(paths)
        self._marks: tuple[Mark, ...] = ()  # the furthest first
        self._read_ns = -APART_NS
        self.host = ""
        self.trouble = ""

    def refresh(self) -> None:
        """Read what others hold, if it is time to."""
        now_ns = time.monotonic_ns()
        if now_ns - self._read_ns < APART_NS:
            return
        self._read_ns, self.trouble = now_ns, ""
        marks: list[Mark] = []
        for read in (self._read_servers, self._read_blocks, self._read_witnesses):
            try:
                marks += read()
            except (DocklockError, sqlite3.Error, OSError) as error:
                self.trouble = str(error)
        self._marks = tuple(marks)

    def find_place(self, container: str, run: int) -> Place | None:
        """Where a run is in the log; None if it is not there."""
        try:
            log = self._log.open()
            if log is None or run < 0:
                return None
            runs = log.get_runs(container, run)
            if not runs:
                return None
            leaf = runs[0].exit_leaf
            if leaf is None:
                last = log.find_segment_before(bytes.fromhex(container), run, log.get_size())
                leaf = last[0] if last is not None else None
            return Place(leaf, runs[0].event_count)
        except (DocklockError, sqlite3.Error, OSError, ValueError) as error:
            self.trouble = str(error)
            return None

    def find(self, leaf: int | None) -> Anchor:
        """Who holds the leaf: the furthest of ANCHORS."""
        if leaf is None:
            return Anchor()
        return next((one.anchor for one in self._marks if leaf < one.size), HOST_LOG)

    def _read_servers(self) -> list[Mark]:
        if not has_sent(self._paths):
            return []
        with Sent(self._paths) as sent:
            standings = sent.get_standings()
        return [
            Mark(one.size, Anchor("server", name, one.acknowledged_ms * NS_PER_MS))
            for name, one in standings.items()
        ]

    def _read_blocks(self) -> list[Mark]:
        if not has_submitted(self._paths):
            return []
        marks = []
        with Submitted(self._paths) as submitted:
            for chain, _ in submitted.get_senders():
                rows = submitted.get_anchors(chain, ANCHORS_LOOKED_AT)
                marks += [
                    Mark(row.size, Anchor("block", str(row.ordered), row.ordered_ms * NS_PER_MS))
                    for row in rows
                    if row.ordered is not None and row.ordered_ms is not None
                ][:1]
        return marks

    def _read_witnesses(self) -> list[Mark]:
        log = self._log.open()
        if log is None:
            return []
        self.host = log.read_host().hex()
        marks = []
        for data in log.get_cosigned_notes(1):
            signed = checkpoint.parse_claim(data)
            names = {line.name for line in note.parse_note(data).lines} - {signed.origin}
            marks.append(Mark(signed.size, Anchor("witnesses", ", ".join(sorted(names)))))
        return marks
