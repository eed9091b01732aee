"""What a mistaken word was meant to be: the nearest of what is known, for the end of an error.

Loaded by errors alone: difflib takes 3 ms to import. Not here: the words of policies, whose errors
name all that may stand there (docklock.policy.parse_words).
"""

from __future__ import annotations

from chainlite.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

WORD_CHARS_MAX = 128
KNOWN_MAX = 2000  # names looked at: an error of a store of 100,000 is no slower


def suggest(word: str, known: Iterable[str]) -> str:
    """`, did you mean X?` or nothing."""
    from difflib import get_close_matches
    from itertools import islice

    matches = get_close_matches(word[:WORD_CHARS_MAX], list(islice(known, KNOWN_MAX)), 1)
    return f", did you mean {matches[0]}?" if matches else ""
