"""The language of `/`: words, `field:value`, `field>n`, `!not`. Pure.

    web            some field of the row has "web" in it
    status:run     the field `status` has "run" in it
    cpu>50         the field `cpu`, a number, is above 50 (also `<`)
    !app:db        not that
All that stand beside each other must hold. Letters' case does not count.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TERMS_MAX = 16
LENGTH_MAX = 200

_TERM = re.compile(r"(?P<no>!?)(?:(?P<field>[a-z_-]+)(?P<how>[:<>]))?(?P<value>.*)", re.S)


class Term(NamedTuple):
    """One condition; `how` is "", ":", "<" or ">", and with "" `field` is empty."""

    value: str
    field: str = ""
    how: str = ""
    is_not: bool = False


class Filter(NamedTuple):
    """All terms must hold; `complaint` says what was wrong with the text, and nothing is hidden."""

    terms: tuple[Term, ...] = ()
    complaint: str = ""

    def is_match(
        self, fields: Sequence[str], get: Callable[[str], str | float], text: str | None = None
    ) -> bool:
        """Whether a row passes; `get` tells a field's text or number.

        A word looks in `text` (small letters), which a caller with many rows joins; else in all
        the `fields` that are text.
        """
        return all(_holds(term, fields, get, text) != term.is_not for term in self.terms)


def parse_filter(text: str, fields: Sequence[str]) -> Filter:
    """Read what was typed. A half-typed `field:` lets all pass."""
    terms = []
    for word in text[:LENGTH_MAX].lower().split()[:TERMS_MAX]:
        found = _TERM.fullmatch(word)
        assert found is not None  # every part of it may be empty
        field, how, value = found["field"] or "", found["how"] or "", found["value"]
        if field and field not in fields:
            return Filter((), f"no field {field}: there are {', '.join(fields)}")
        if not value:
            continue
        if how in ("<", ">") and not _is_number(value):
            return Filter((), f"{field}{how} wants a number")
        terms.append(Term(value, field, how, is_not=bool(found["no"])))
    return Filter(tuple(terms))


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,18}(\.[0-9]{0,9})?", text) is not None


def _holds(
    term: Term, fields: Sequence[str], get: Callable[[str], str | float], text: str | None
) -> bool:
    if term.how in ("<", ">"):
        value = get(term.field)
        if isinstance(value, str):
            return False
        return value > float(term.value) if term.how == ">" else value < float(term.value)
    if term.field:
        return term.value in str(get(term.field)).lower()
    if text is not None:
        return term.value in text
    return any(term.value in value.lower() for value in map(get, fields) if isinstance(value, str))
