"""--filter KEY=VALUE of `ps` and `images`: of one key any value fits, of several keys each must.

Labels are the exception, as with Docker: each must be there. Not here: what a key means (ps,
image_list). Source: moby api/types/filters/parse.go.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from chainlite.errors import SpecError
from docklock.nearest import suggest


class Filters:
    """What --filter asks for."""

    def __init__(self, command: str, words: Iterable[str], known: tuple[str, ...]) -> None:
        self._command = command
        self._wanted: dict[str, list[str]] = {}
        for word in words:
            key, has_value, value = word.partition("=")
            if not has_value:
                raise self.error(f"{word}: give KEY=VALUE")
            if key not in known:
                hint = suggest(key, known) or f"; there are {', '.join(known)}"
                raise self.error(f"invalid filter {key!r}{hint}")
            self._wanted.setdefault(key, []).append(value)

    def error(self, why: str) -> SpecError:
        """The SpecError to raise for a value."""
        return SpecError(f"docklock {self._command}: --filter: {why}")

    def get(self, key: str) -> list[str]:
        """The values of a key; none if it was not given."""
        return self._wanted.get(key, [])

    def check(self, key: str, legal: Iterable[str]) -> list[str]:
        """The values of a key. SpecError for one that is not legal."""
        words = tuple(legal)
        for value in self.get(key):
            if value not in words:
                raise self.error(f"invalid filter '{key}={value}'; there are {', '.join(words)}")
        return self.get(key)

    def fits(self, key: str, test: Callable[[str], bool]) -> bool:
        """Whether the key was not given, or some value of it passes."""
        values = self.get(key)
        return not values or any(map(test, values))

    def fits_text(self, key: str, *texts: str) -> bool:
        """Whether some value is found in some text, as a part or as a regular expression."""
        return self.fits(key, lambda value: any(_is_found(value, text) for text in texts))

    def fits_labels(self, labels: Mapping[str, str]) -> bool:
        """Whether each label is there, with its value if one is given."""
        for wanted in self.get("label"):
            name, has_value, value = wanted.partition("=")
            if name not in labels or (has_value and labels[name] != value):
                return False
        return True


def _is_found(pattern: str, text: str) -> bool:
    if pattern in text:
        return True
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return False
