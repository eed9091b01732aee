"""A container's receipts as they come: what is kept, what is shown, what was passed over. Pure.

Not here: how a line looks (event_text.py), who reads the feed (screens/container.py). Invariants:
what is kept is in the feed's order; where the feed sampled there is a Gap with the count, so that
kept and passed over add up to all that came since the first look; `shown` is what of it the filter
lets through. Nothing grows without bound: live, the oldest go at EVENTS_MAX; of who looks at older
ones nothing is taken away, so at PAST_MAX no more is read (`is_full`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from docklock.console.facts import UNKNOWN, Event
from tui.view.filters import Filter

if TYPE_CHECKING:
    from docklock.console.facts import FeedPart

EVENTS_MAX = 5_000
PAST_MAX = 20_000
VALUE_CHARS_KEPT = 1_024
"""Of each value: a list shows no more, and a filter looks at no more. The receipt has all."""
VALUES_KEPT = 16
EVENT_FIELDS = ("op", "path", "peer", "decision", "errno", "value", "label", "pid", "run")
"""What `/` may ask for, as `op:connect decision:denied path:/etc`."""
PATHS = frozenset(("path", "file"))
PEERS = frozenset(("sockaddr", "peer", "address"))


class Gap(NamedTuple):
    """`number` receipts that were passed over right before `before` of `run`."""

    number: int
    run: int
    before: int


Item = Event | Gap


def get_field(event: Event, field: str) -> str | float:
    """What a filter compares: the texts of one kind joined, or a number."""
    if field == "path":
        return "\n".join(text for name, text in event.values if name in PATHS)
    if field == "peer":
        return "\n".join(text for name, text in event.values if name in PEERS)
    if field in ("value", "label"):
        pairs = event.values if field == "value" else event.labels
        return "\n".join(f"{name}={text}" for name, text in pairs)
    found: str | int = getattr(event, field)
    return found


def is_match(wanted: Filter, event: Event) -> bool:
    """Whether a filter of EVENT_FIELDS lets an event through."""
    return wanted.is_match(EVENT_FIELDS, lambda field: get_field(event, field))


def get_item_key(item: Item) -> str:
    """What a line is called for good."""
    if isinstance(item, Event):
        return f"{item.run}:{item.event_index}"
    return f"before {item.run}:{item.before}"


class EventList:
    """What one feed told."""

    def __init__(self) -> None:
        self.shown: list[Item] = []
        self.filter = Filter()
        self.total = 0
        self.run = UNKNOWN
        self.is_paused = False
        self.is_held = False  # somebody looks at older ones
        self.is_end = False
        self.is_sampled = False  # of what came last some was passed over
        self.has_all_before = False
        self.trouble = ""
        self._kept: list[Item] = []
        self._is_first = True

    @property
    def kept_count(self) -> int:
        """Events that are held, shown or not."""
        return sum(isinstance(item, Event) for item in self._kept)

    @property
    def passed_count(self) -> int:
        """Receipts that came and were passed over, and are not held now."""
        return sum(item.number for item in self._kept if isinstance(item, Gap))

    @property
    def is_full(self) -> bool:
        """Whether no more is to be read until somebody looks at the newest again."""
        return self.is_held and len(self._kept) >= PAST_MAX

    def take(self, part: FeedPart) -> int:
        """Put what came at the end; how many of it are shown."""
        self.trouble, self.is_end = part.trouble, part.is_end
        if part.run != UNKNOWN:
            self.total, self.run = part.total, part.run
        new: list[Item] = [_slim(event) for event in part.events]
        passed = part.came - len(part.events)
        self.is_sampled = passed > 0 and bool(part.events) and not self._is_first
        if self.is_sampled:
            new.insert(0, Gap(passed, part.events[0].run, part.events[0].event_index))
        self._is_first = self._is_first and not part.events
        self._kept += new
        wanted = self._choose(new)
        self.shown += wanted
        if len(self._kept) > EVENTS_MAX and not self.is_held and not self.is_paused:
            self._drop_oldest()
        return len(wanted)

    def get_earlier(self) -> tuple[int, int] | None:
        """The run and index to ask for what is before; None where nothing is, or no room."""
        if self.has_all_before or len(self._kept) >= PAST_MAX:
            return None
        first = next((item for item in self._kept if isinstance(item, Event)), None)
        return (first.run, first.event_index) if first else None

    def take_before(self, events: tuple[Event, ...]) -> int:
        """Put older ones before the first; how many of them are shown. None says it is all."""
        self.has_all_before = not events
        while self._kept and isinstance(self._kept[0], Gap):
            self._kept.pop(0)
        new: list[Item] = [_slim(event) for event in events]
        self._kept = new + self._kept
        self.shown = self._choose(self._kept)
        return len(self._choose(new))

    def fill(self, gap: Gap, events: tuple[Event, ...]) -> None:
        """Put the newest of what was passed over in its place; a smaller gap stays before it."""
        if gap not in self._kept or not events:
            return
        at = self._kept.index(gap)
        new: list[Item] = [_slim(event) for event in events[-gap.number :]]
        left = gap.number - len(new)
        if left > 0:
            new.insert(0, Gap(left, events[0].run, events[0].event_index))
        self._kept[at : at + 1] = new
        self.shown = self._choose(self._kept)

    def set_filter(self, wanted: Filter) -> None:
        """Show what it lets through, of all that is kept."""
        self.filter = wanted
        self.shown = self._choose(self._kept)

    def find(self, run: int, index: int) -> int:
        """Where a receipt stands in `shown`; -1 if it does not."""
        for at, item in enumerate(self.shown):
            if isinstance(item, Event) and (item.run, item.event_index) == (run, index):
                return at
        return -1

    def describe(self) -> str:
        """As "12 of 4,031 shown", and why it is not all."""
        count = sum(isinstance(item, Event) for item in self.shown)
        words = [f"{count:,} of {max(self.total, count):,} shown"]
        if self.filter.terms:
            words.append(f"the filter looked at {self.kept_count:,}")
        if passed := self.passed_count:
            words.append(f"sampled: {passed:,} passed over")
        if self.is_paused:
            words.append("HELD STILL: space lets them come")
        elif self.is_full:
            words.append("FULL: G goes to the newest, and on")
        if self.is_end:
            words.append("the run has ended")
        return " · ".join(words)

    def _choose(self, items: list[Item]) -> list[Item]:
        if not self.filter.terms:
            return list(items)
        wanted = self.filter
        return [item for item in items if isinstance(item, Event) and is_match(wanted, item)]

    def _drop_oldest(self) -> None:
        self._kept = self._kept[-EVENTS_MAX:]
        self.has_all_before = False
        self.shown = self._choose(self._kept)


def _slim(event: Event) -> Event:
    """The event with values as long as a list needs them: a path of a megabyte is not kept."""
    values, labels = event.values, event.labels
    if max(len(values), len(labels)) <= VALUES_KEPT and not any(
        len(name) > VALUE_CHARS_KEPT or len(text) > VALUE_CHARS_KEPT
        for name, text in (*values, *labels)
    ):
        return event
    return event._replace(values=_cut(values), labels=_cut(labels))


def _cut(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name[:VALUE_CHARS_KEPT], text[:VALUE_CHARS_KEPT] + "…" * (len(text) > VALUE_CHARS_KEPT))
        for name, text in pairs[:VALUES_KEPT]
    )
