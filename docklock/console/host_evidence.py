"""The receipts of this host's containers. Not here: whether all is whole (the part `checks`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainlite.errors import StateError
from docklock.console.facts import Event
from docklock.console.host_feed import HostFeed

if TYPE_CHECKING:
    from docklock.console.facts import ReceiptFacts
    from docklock.console.source import Feed
    from docklock.paths import Paths


class HostEvidence:
    """The part of a source. One thread at a time, not always the same."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def open_feed(self, container: str) -> Feed:
        """Its receipts from now on; the first look tells the newest of the past."""
        return HostFeed(self._paths, container)

    def read_receipt(self, container: str, run: int, index: int) -> ReceiptFacts:
        """One receipt and its way up, unchecked. StateError if it is not there."""
        return self._read(container, run, index, is_checked=False)

    def check_receipt(self, container: str, run: int, index: int) -> ReceiptFacts:
        """The same with its proof made and verified now, as a stranger would."""
        return self._read(container, run, index, is_checked=True)

    def _read(self, container: str, run: int, index: int, *, is_checked: bool) -> ReceiptFacts:
        from docklock.console.host_receipt import HostReceipts, Place

        event = self._find(container, run, index)
        place = Place(container, run, index)
        return HostReceipts(self._paths).read(event, place, is_checked=is_checked)

    def _find(self, container: str, run: int, index: int) -> Event:
        """As a list shows it; of one that cannot be read no more than where it is."""
        feed = HostFeed(self._paths, container)
        try:
            part = feed.read_before(run, index + 1, 1)
        finally:
            feed.close()
        for event in part.events:
            if (event.run, event.event_index) == (run, index):
                return event
        if part.trouble:
            return Event(run, index, 0, 0, "", "", container=container)
        raise StateError(f"container {container[:12]}: run {run} has no receipt {index}")
