"""The receipts of this host's containers. Not here: whether all is whole (the part `checks`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainlite.errors import StateError
from docklock.console.facts import ReceiptFacts
from docklock.console.host_feed import HostFeed

if TYPE_CHECKING:
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
        """One receipt. StateError if it is not there."""
        feed = HostFeed(self._paths, container)
        try:
            found = [one for one in feed.read_before(run, index + 1, 1).events if one.run == run]
        finally:
            feed.close()
        if not found:
            raise StateError(f"container {container[:12]}: run {run} has no receipt {index}")
        return ReceiptFacts(found[0])

    def check_receipt(self, container: str, run: int, index: int) -> ReceiptFacts:
        """The same, unchecked: `is_whole` is None."""
        return self.read_receipt(container, run, index)
