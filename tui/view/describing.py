"""What is told of one thing: pairs of a name and a text, and paragraphs. Pure.

Not here: what is told of which thing (chain, sync, alerts), how it is drawn
(tui.widgets.described). Invariant: all of a Description is harmless, made so by `make_pair` and
`describe`; newlines are only between paragraphs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tui.view.text import make_harmless

if TYPE_CHECKING:
    from collections.abc import Iterable

TEXT_MAX = 4000
"""Of one text: a path or a reason longer than this is cut, and says so."""
PAIRS_MAX = 200
TITLE_MAX = 120


class Pair(NamedTuple):
    """`tone` is one of tui.view.cells.TONES."""

    name: str
    text: str
    tone: str = ""


class Description(NamedTuple):
    """One thing, told in full."""

    title: str = ""
    pairs: tuple[Pair, ...] = ()
    paragraphs: tuple[Pair, ...] = ()  # a heading (or "") and its text


def make_pair(name: str, text: str, tone: str = "") -> Pair:
    """A pair whose two texts are harmless."""
    return Pair(make_harmless(name, TITLE_MAX), make_harmless(text, TEXT_MAX), tone)


def describe(
    title: str, pairs: Iterable[Pair], paragraphs: Iterable[tuple[str, str]] = ()
) -> Description:
    """Leaves out the pairs that have no text, and the paragraphs that have none."""
    kept = [pair for pair in pairs if pair.text]
    if len(kept) > PAIRS_MAX:
        rest = len(kept) - PAIRS_MAX
        kept = [*kept[:PAIRS_MAX], Pair("and", f"{rest:,} more that are not shown", "dim")]
    return Description(
        make_harmless(title, TITLE_MAX),
        tuple(kept),
        tuple(make_pair(heading, text) for heading, text in paragraphs if text),
    )
