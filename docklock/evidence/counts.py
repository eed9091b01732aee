"""What one run has recorded, for whoever looks at it often: how much, and how often by which rule.

The guard counts what it takes from the journal, a batch at a time and off the path of a call. How
many receipts are committed and how many calls were refused lies in the journal's control page: a
look there costs a read and wakes nobody (`read_totals`). The rest its guard tells (the verb
`counts`, docklock/supervisor/control.py). Not here: receipts, which alone are evidence. The worker
has the journal mapped: a container that has taken it over can make these numbers false, no more.
Invariant: what is read is of the run that was asked for, or nothing
(tests/evidence/test_counts.py).
"""

from __future__ import annotations

import os
import struct

from chainlite.lean import TYPE_CHECKING, NamedTuple
from docklock.evidence import attempts, journal

if TYPE_CHECKING:
    from typing import Any

    from docklock.paths import Paths

    def _count_elements(_mapping: dict[int, int], iterable: list[int]) -> None: ...
else:
    from _collections import _count_elements  # what collections.Counter is made of

TOLD_MAX = 512
"""Rules whose counts are told: more than a policy has that a program meets."""
DONE_NAMES = ("record", "hold", "deny", "kill", "aborted")
"""By attempts.RECORD and the others: the policy's actions."""
_RULE, _DONE = 19, 20  # fields of attempts.SLOT
_DONES = 8
_REFUSED = frozenset((attempts.DENY, attempts.KILL))
_TOTALS = struct.Struct("@QQ")


class Totals(NamedTuple):
    """Committed receipts of a run, and calls that its policy refused or killed for."""

    receipts: int
    refused: int


class Counts:
    """One run's. `count` is called under the recorder's lock."""

    __slots__ = ("_met", "_rules")

    def __init__(self, rules: tuple[attempts.RuleText, ...]) -> None:
        self._rules = rules
        self._met: dict[int, int] = {}

    def count(self, found: list[attempts.Attempt]) -> None:
        """Attempts that have their receipts now."""
        keys = [fields[_RULE] * _DONES + fields[_DONE] for fields, _ in found]
        _count_elements(self._met, keys)

    def count_refused(self) -> int:
        """Calls that the policy refused or killed for; other threads may count meanwhile."""
        return sum([times for key, times in list(self._met.items()) if key % _DONES in _REFUSED])

    def describe(self) -> list[tuple[str, str, int]]:
        """(op, one of DONE_NAMES, how often), the most frequent first; at most TOLD_MAX."""
        summed: dict[tuple[str, str], int] = {}
        for key, times in list(self._met.items()):  # whole: the writer goes on meanwhile
            name = self._rules[key // _DONES].op, DONE_NAMES[key % _DONES]
            summed[name] = summed.get(name, 0) + times
        ordered = sorted(summed.items(), key=lambda item: item[1], reverse=True)
        return [(*name, times) for name, times in ordered[:TOLD_MAX]]


def read_totals(paths: Paths, container: str, run: int) -> Totals | None:
    """What a live run's guard has counted; None if no such run is live, or nothing is committed."""
    try:
        fd = os.open(journal.get_journal_path(paths, container), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        head = os.pread(fd, journal.PAGE_BYTES, 0)
        words = os.pread(fd, _TOTALS.size, attempts.TOTALS_OFFSET)
    finally:
        os.close(fd)
    named = journal.parse_file_head(head)
    if named is None or named.run != run or len(words) != _TOTALS.size:
        return None
    totals = Totals(*_TOTALS.unpack(words))
    return totals if totals.receipts else None


def parse_counts(message: dict[str, Any]) -> dict[tuple[str, str], int]:
    """What a guard told, by op and action. ValueError if it is none of that."""
    try:
        return {(str(op), str(done)): int(times) for op, done, times in message["counts"]}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not counts: {error!r}") from None
