"""--filter of the prune commands: until=TIME, label=NAME[=VALUE], label!=NAME[=VALUE].

What is to go was made before `until`, has each label, and none of those with `!=` (Docker keeps
only what has all of these: here less is removed, never more). Not here: removing.
Source: docker.com, reference of `docker system prune`; moby, daemon/prune.go.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from docklock.cli.filters import Filters
from docklock.cli.moment import parse_moment
from docklock.cli.options import listed

if TYPE_CHECKING:
    from collections.abc import Mapping

LABEL, WITHOUT, UNTIL = "label", "label!", "until"
PRUNE_FILTER = listed(
    "--filter", help="only what fits until=TIME, label=NAME, label!=NAME", metavar="KEY=VALUE"
)


class PruneFilters:
    """What --filter asks for. SpecError."""

    def __init__(self, command: str, words: list[str]) -> None:
        self._words = words
        self._filters = Filters(command, words, (LABEL, WITHOUT, UNTIL))
        self._without = [
            Filters(command, [f"{LABEL}={one}"], (LABEL,)) for one in self._filters.get(WITHOUT)
        ]
        until = self._filters.get(UNTIL)
        if len(until) > 1:
            raise self._filters.error("more than one until filter specified")
        name = f"docklock {command}: --filter until"
        self._until_ns = [parse_moment(name, word, time.time_ns()) for word in until]

    @property
    def is_any(self) -> bool:
        """Whether anything is asked for."""
        return bool(self._words)

    def fits(self, created_ns: int, labels: Mapping[str, str]) -> bool:
        """Whether it may be removed."""
        return (
            all(created_ns < until_ns for until_ns in self._until_ns)
            and self._filters.fits_labels(labels)
            and not any(one.fits_labels(labels) for one in self._without)
        )

    def describe(self) -> str:
        """Docker's lines for the warning; empty for none."""
        lines = [f"  - {word}\n" for word in self._words]
        head = "\n  Items to be pruned will be filtered with:\n"
        return head + "".join(lines) + "\n" if lines else ""


def parse_created_ns(created: str) -> int:
    """Unix ns of an image's time; 0 for what is none."""
    from docklock.cli.image_list import parse_created

    return int(parse_created(created) * 1e9)
