"""A saved source shown again: `docklock top --replay FILE`.

Not here: the file's format (saved_format.py), its recording (saving.py). It answers as the source
did, at the pace at which it was recorded: each call is given the newest answer of the moment that
the replay has come to, or the first there is. Nothing is done: acts are None, apply refuses. What
was not looked at while it was recorded is not known, and said so.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from chainlite.errors import StateError
from docklock.console.facts import (
    ContainerRow,
    Details,
    Event,
    FeedPart,
    Overview,
    ReceiptFacts,
)
from docklock.console.saved_format import Answer, encode_saved, parse_saved
from docklock.console.source import FEED_EVENTS_MAX, Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.console.facts import (
        Alert,
        ChainFacts,
        Denial,
        Done,
        LogLine,
        Progress,
        Proposal,
        SyncFacts,
        Verdict,
    )

__all__ = ["Answer", "encode_saved", "load_saved"]

NOTE = "a replay: nothing can be done, and only what was looked at is known"
Key = tuple[str | int, ...]


def load_saved(
    data: bytes,
    where: str = "saved file",
    get_ns: Callable[[], int] = time.monotonic_ns,
) -> Source:
    """The source that was saved. SpecError with the place if these bytes are none.

    `get_ns` is the clock that moves the replay: it is at the file's first moment now.
    """
    name, answers, note = parse_saved(data, where)
    tape = Tape(answers, get_ns)
    calls = {answer.call for answer in answers}
    notes = [f"{NOTE} ({_format_start(answers)})", *([note] if note else [])]
    return Source(
        name=f"replay of {name}",
        containers=SavedContainers(tape),
        alerts=SavedAlerts(tape),
        evidence=SavedEvidence(tape) if calls & EVIDENCE else None,
        checks=SavedChecks(tape) if calls & {"verdicts", "verify"} else None,
        policy=SavedPolicy(tape) if calls & {"denials", "proposal"} else None,
        chain=SavedChain(tape) if "chain" in calls else None,
        sync=SavedSync(tape) if "sync" in calls else None,
        note="; ".join(notes),
    )


EVIDENCE = frozenset(("feed", "past", "receipt", "checked_receipt"))


def _format_start(answers: tuple[Answer, ...]) -> str:
    if not answers:
        return "it is empty"
    try:
        start = datetime.fromtimestamp(answers[0].at_ns // 10**9, UTC)
    except (OverflowError, OSError, ValueError):
        return "of no known time"
    return f"of {start:%Y-%m-%d %H:%M:%S} UTC"


class Tape:
    """The answers by what was asked, and the moment that the replay has come to."""

    def __init__(self, answers: tuple[Answer, ...], get_ns: Callable[[], int]) -> None:
        self._get_ns = get_ns
        self._began_ns = get_ns()
        self._first_ns = answers[0].at_ns if answers else 0
        self._rows: dict[tuple[str, Key], list[Answer]] = {}
        for answer in answers:
            self._rows.setdefault((answer.call, answer.of), []).append(answer)

    def get_until(self, call: str, *of: str | int) -> list[Answer]:
        """All that was answered until now; the first one at least, if there is any."""
        rows = self._rows.get((call, of), [])
        now_ns = self._first_ns + self._get_ns() - self._began_ns
        return rows[: max(1, bisect_right(rows, now_ns, key=lambda row: row.at_ns))]

    def get(self, call: str, *of: str | int) -> Any:
        """The newest answer until now; None where this was never asked."""
        rows = self.get_until(call, *of)
        return rows[-1].answer if rows else None

    def demand(self, what: str, call: str, *of: str | int) -> Any:
        """As get. StateError where this was never asked."""
        rows = self.get_until(call, *of)
        if not rows:
            raise StateError(f"{what} was not looked at while this was recorded")
        return rows[-1].answer


class SavedContainers:
    """source.Containers of a tape."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    def read_overview(self, focus: tuple[str, ...] = ()) -> Overview:  # noqa: ARG002
        overview: Overview | None = self._tape.get("overview")
        return overview or Overview(at_ns=0, trouble="nothing was recorded")

    def read_details(self, container: str) -> Details:
        details: Details | None = self._tape.get("details", container)
        if details is not None:
            return details
        rows = (row for row in self.read_overview().containers if row.id == container)
        row = next(rows, ContainerRow(id=container, name=container[:12]))
        return Details(row=row, trouble="not looked at while this was recorded")

    def read_log(self, container: str, limit: int) -> tuple[LogLine, ...]:
        lines: tuple[LogLine, ...] = self._tape.demand("its log", "log", container)
        return lines[-limit:] if limit > 0 else ()


class SavedEvidence:
    """source.Evidence of a tape."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    def open_feed(self, container: str) -> SavedFeed:
        return SavedFeed(self._tape, container)

    def read_receipt(self, container: str, run: int, index: int) -> ReceiptFacts:
        return self._get("receipt", "checked_receipt", container, run, index)

    def check_receipt(self, container: str, run: int, index: int) -> ReceiptFacts:
        checked: ReceiptFacts = self._tape.demand(
            "whether its proof holds", "checked_receipt", container, run, index
        )
        return checked

    def _get(self, call: str, other: str, container: str, run: int, index: int) -> ReceiptFacts:
        """The receipt as it was read, else as it was checked, else as a list has shown it."""
        for one in (call, other):
            found: ReceiptFacts | None = self._tape.get(one, container, run, index)
            if found is not None:
                return found
        line = SavedFeed(self._tape, container).read_before(run, index + 1, 1).events
        if not line or line[0].event_index != index:
            raise StateError("this receipt was not looked at while this was recorded")
        return ReceiptFacts(line[0], why="only its line was looked at while this was recorded")


class SavedFeed:
    """source.Feed of a tape: what was told until now, each receipt once."""

    def __init__(self, tape: Tape, container: str) -> None:
        self._tape = tape
        self._container = container
        self._told = (-1, -1)
        self._total = 0

    def read(self, limit: int = FEED_EVENTS_MAX) -> FeedPart:
        parts: list[FeedPart] = [
            row.answer for row in self._tape.get_until("feed", self._container)
        ]
        if not parts:
            return FeedPart(trouble="not looked at while this was recorded")
        newest = parts[-1]
        told = {
            (event.run, event.event_index): event
            for part in parts
            for event in part.events
            if (event.run, event.event_index) > self._told
        }
        keys = sorted(told)
        run, _ = self._told
        grown = newest.total - (self._total if newest.run == run else 0)
        if keys:
            self._told = keys[-1]
        self._total = newest.total
        events = tuple(told[key] for key in keys[-limit:]) if limit > 0 else ()
        return newest._replace(events=events, came=max(len(keys), grown))

    def read_before(self, run: int, index: int, limit: int = FEED_EVENTS_MAX) -> FeedPart:
        lists: list[tuple[Event, ...]] = [
            row.answer for row in self._tape.get_until("past", self._container)
        ]
        parts: list[FeedPart] = [
            row.answer for row in self._tape.get_until("feed", self._container)
        ]
        lists += [part.events for part in parts]
        known = {
            event.event_index: event
            for events in lists
            for event in events
            if event.run == run and event.event_index < index
        }
        indices = sorted(known)[-limit:] if limit > 0 else []
        return FeedPart(
            tuple(known[each] for each in indices),
            came=len(indices),
            total=parts[-1].total if parts else 0,
            run=run,
        )

    def close(self) -> None:
        pass


class SavedChecks:
    """source.Checks of a tape."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    def read_verdicts(self) -> tuple[Verdict, ...]:
        return self._tape.get("verdicts") or ()

    def verify(
        self,
        container: str,
        tell: Callable[[Progress], bool],  # noqa: ARG002
    ) -> tuple[Verdict, ...]:
        verdicts: tuple[Verdict, ...] = self._tape.demand("this", "verify", container)
        return verdicts


class SavedPolicy:
    """source.PolicyDesk of a tape."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    def read_denials(self, container: str = "") -> tuple[Denial, ...]:
        known = self._tape.get("denials", container)
        if known is None and container:
            known = [
                one for one in self._tape.get("denials", "") or () if one.container == container
            ]
        return tuple(known or ())

    def propose(self, denial: Denial) -> Proposal:
        of = (denial.container, denial.op, denial.errno, denial.rule)
        proposal: Proposal = self._tape.demand("this rule", "proposal", *of)
        return proposal

    def apply(self, proposal: Proposal) -> Done:  # noqa: ARG002
        raise StateError("a replay changes no policy")


class SavedChain:
    """source.Chain of a tape."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    def read_chain(self) -> ChainFacts:
        chain: ChainFacts = self._tape.demand("the chain", "chain")
        return chain


class SavedSync:
    """source.Sync of a tape."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    def read_sync(self) -> SyncFacts:
        sync: SyncFacts = self._tape.demand("what is sent", "sync")
        return sync


class SavedAlerts:
    """source.Alerts of a tape."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    def read_alerts(self) -> tuple[Alert, ...]:
        return self._tape.get("alerts") or ()
