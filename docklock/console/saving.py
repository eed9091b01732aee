"""Recording what a source answers: `docklock top --save FILE`.

Not here: the file's format (saved_format.py), who shows it again (saved.py). A Saver's source
answers exactly what the source in it answers, and keeps it. Bounded by FACTS_MAX facts: past it the
most kept call loses every second answer between its first and its last, so a long recording is
coarse, never cut off. Acts are passed on and not recorded.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from docklock.console.facts import FeedPart
from docklock.console.saved_format import Answer, encode_saved
from docklock.console.source import FEED_EVENTS_MAX, Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.console import source as parts
    from docklock.console.facts import (
        Alert,
        ChainFacts,
        Denial,
        Details,
        Done,
        LogLine,
        Overview,
        Progress,
        Proposal,
        ReceiptFacts,
        SyncFacts,
        Verdict,
    )

FACTS_MAX = 100_000
"""Rows, events, lines, blocks: 10,000 containers at ten moments, or a hundred at a thousand."""
Key = tuple[str, tuple[str | int, ...]]


class Saver:
    """A source, and all that it answered."""

    def __init__(self, inner: Source, get_ns: Callable[[], int] = time.time_ns) -> None:
        record = _Record(get_ns)
        self._record = record
        self._name = inner.name
        self._note = inner.note
        self.source = Source(
            name=inner.name,
            containers=_Containers(inner.containers, record),
            alerts=_Alerts(inner.alerts, record),
            evidence=_Evidence(inner.evidence, record) if inner.evidence else None,
            checks=_Checks(inner.checks, record) if inner.checks else None,
            policy=_Policy(inner.policy, record) if inner.policy else None,
            chain=_Chain(inner.chain, record) if inner.chain else None,
            sync=_Sync(inner.sync, record) if inner.sync else None,
            acts=inner.acts,
            note=inner.note,
        )

    def encode(self) -> bytes:
        """The file of all that was answered so far."""
        return encode_saved(self._name, self._record.get_answers(), self._note)


class _Record:
    """Answers by what was asked, at most FACTS_MAX facts in all."""

    def __init__(self, get_ns: Callable[[], int]) -> None:
        self._get_ns = get_ns
        self._lock = threading.Lock()
        self._rows: dict[Key, list[Answer]] = {}
        self._weights: dict[Key, int] = {}

    def keep(self, answer: Any, call: str, *of: str | int) -> Any:
        """Keep it, and hand it back. One that says the same as the last before it is not kept."""
        row = Answer(call, self._get_ns(), answer, of)
        with self._lock:
            rows = self._rows.setdefault((call, of), [])
            if rows and rows[-1].answer == answer:
                return answer
            rows.append(row)
            self._weights[(call, of)] = self._weights.get((call, of), 0) + _weigh(answer)
            while sum(self._weights.values()) > FACTS_MAX and self._thin():
                pass
        return answer

    def get_answers(self) -> list[Answer]:
        with self._lock:
            return [row for rows in self._rows.values() for row in rows]

    def _thin(self) -> bool:
        """Make the most kept call lighter; False if nothing can be."""
        for key in sorted(self._weights, key=self._weights.__getitem__, reverse=True):
            rows = self._rows[key]
            if len(rows) > 2:
                thinned = _join(rows) if key[0] == "feed" else [*rows[:-1:2], rows[-1]]
                self._rows[key] = thinned
                self._weights[key] = sum(_weigh(row.answer) for row in thinned)
                return True
        oldest = min(self._rows, key=lambda key: self._rows[key][-1].at_ns, default=None)
        if oldest is None or len(self._rows) == 1:
            return False
        del self._rows[oldest], self._weights[oldest]
        return True


def _join(rows: list[Answer]) -> list[Answer]:
    """Two parts of a feed as one, the newest events of both: a part is what came since the last."""
    joined = []
    for first, second in zip(rows[::2], rows[1::2], strict=False):
        old, new = first.answer, second.answer
        most = max(len(old.events), len(new.events))
        events = (*old.events, *new.events)[-most:] if most else ()
        joined.append(second._replace(answer=new._replace(events=events, came=old.came + new.came)))
    return joined if len(rows) % 2 == 0 else [*joined, rows[-1]]


def _weigh(answer: Any) -> int:
    """How many facts these are, about: an item of a list in it is one."""
    if not isinstance(answer, tuple):
        return 1
    items = [answer] if hasattr(answer, "_fields") else answer
    lists = (field for item in items for field in item if isinstance(field, tuple))
    return 1 + len(items) + sum(map(len, lists))


class _Containers:
    def __init__(self, inner: parts.Containers, record: _Record) -> None:
        self._inner = inner
        self._record = record

    def read_overview(self, focus: tuple[str, ...] = ()) -> Overview:
        overview: Overview = self._record.keep(self._inner.read_overview(focus), "overview")
        return overview

    def read_details(self, container: str) -> Details:
        answer = self._inner.read_details(container)
        details: Details = self._record.keep(answer, "details", container)
        return details

    def read_log(self, container: str, limit: int) -> tuple[LogLine, ...]:
        answer = self._inner.read_log(container, limit)
        lines: tuple[LogLine, ...] = self._record.keep(answer, "log", container)
        return lines


class _Evidence:
    def __init__(self, inner: parts.Evidence, record: _Record) -> None:
        self._inner = inner
        self._record = record

    def open_feed(self, container: str) -> _Feed:
        return _Feed(self._inner.open_feed(container), self._record, container)

    def read_receipt(self, container: str, run: int, index: int) -> ReceiptFacts:
        answer = self._inner.read_receipt(container, run, index)
        facts: ReceiptFacts = self._record.keep(answer, "receipt", container, run, index)
        return facts

    def check_receipt(self, container: str, run: int, index: int) -> ReceiptFacts:
        answer = self._inner.check_receipt(container, run, index)
        facts: ReceiptFacts = self._record.keep(answer, "checked_receipt", container, run, index)
        return facts


class _Feed:
    def __init__(self, inner: parts.Feed, record: _Record, container: str) -> None:
        self._inner = inner
        self._record = record
        self._container = container

    def read(self, limit: int = FEED_EVENTS_MAX) -> FeedPart:
        part: FeedPart = self._record.keep(self._inner.read(limit), "feed", self._container)
        return part

    def read_before(self, run: int, index: int, limit: int = FEED_EVENTS_MAX) -> FeedPart:
        part = self._inner.read_before(run, index, limit)
        self._record.keep(part.events, "past", self._container)
        return part

    def close(self) -> None:
        self._inner.close()


class _Checks:
    def __init__(self, inner: parts.Checks, record: _Record) -> None:
        self._inner = inner
        self._record = record

    def read_verdicts(self) -> tuple[Verdict, ...]:
        verdicts: tuple[Verdict, ...] = self._record.keep(self._inner.read_verdicts(), "verdicts")
        return verdicts

    def verify(self, container: str, tell: Callable[[Progress], bool]) -> tuple[Verdict, ...]:
        answer = self._inner.verify(container, tell)
        verdicts: tuple[Verdict, ...] = self._record.keep(answer, "verify", container)
        return verdicts


class _Policy:
    def __init__(self, inner: parts.PolicyDesk, record: _Record) -> None:
        self._inner = inner
        self._record = record

    def read_denials(self, container: str = "") -> tuple[Denial, ...]:
        answer = self._inner.read_denials(container)
        denials: tuple[Denial, ...] = self._record.keep(answer, "denials", container)
        return denials

    def propose(self, denial: Denial) -> Proposal:
        of = (denial.container, denial.op, denial.errno, denial.rule)
        proposal: Proposal = self._record.keep(self._inner.propose(denial), "proposal", *of)
        return proposal

    def apply(self, proposal: Proposal) -> Done:
        return self._inner.apply(proposal)


class _Chain:
    def __init__(self, inner: parts.Chain, record: _Record) -> None:
        self._inner = inner
        self._record = record

    def read_chain(self) -> ChainFacts:
        chain: ChainFacts = self._record.keep(self._inner.read_chain(), "chain")
        return chain


class _Sync:
    def __init__(self, inner: parts.Sync, record: _Record) -> None:
        self._inner = inner
        self._record = record

    def read_sync(self) -> SyncFacts:
        sync: SyncFacts = self._record.keep(self._inner.read_sync(), "sync")
        return sync


class _Alerts:
    def __init__(self, inner: parts.Alerts, record: _Record) -> None:
        self._inner = inner
        self._record = record

    def read_alerts(self) -> tuple[Alert, ...]:
        alerts: tuple[Alert, ...] = self._record.keep(self._inner.read_alerts(), "alerts")
        return alerts
