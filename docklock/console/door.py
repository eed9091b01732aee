"""From the words of a command line to the source that they name.

`--root DIR --runroot DIR` is this host, as for each docklock command. Not here: what else `docklock
top` takes (tui/start.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainlite.errors import SpecError
from docklock.console.host import open_host
from docklock.paths import get_paths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docklock.console.source import Source

WORDS = ("--root", "--runroot")


def open_source(words: Sequence[str]) -> Source:
    """The source; SpecError for a word that is none of WORDS, or has no value."""
    given = parse_words(words)
    return open_host(get_paths(given.get("--root"), given.get("--runroot")))


def parse_words(words: Sequence[str]) -> dict[str, str]:
    """`--name VALUE` and `--name=VALUE`, each once."""
    found: dict[str, str] = {}
    rest = list(words)
    while rest:
        name, has_value, value = rest.pop(0).partition("=")
        if name not in WORDS:
            raise SpecError(f"docklock top: {name}: give {' or '.join(WORDS)}")
        if not has_value and not rest:
            raise SpecError(f"docklock top: {name} needs a value")
        if name in found:
            raise SpecError(f"docklock top: {name} is given twice")
        found[name] = value if has_value else rest.pop(0)
    return found
