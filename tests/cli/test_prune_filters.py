"""--filter of the prune commands: what fits is removed, and nothing besides."""

from __future__ import annotations

import time

import pytest

from chainlite.errors import SpecError
from docklock.cli.prune_filters import PruneFilters, parse_created_ns

HOUR_NS = 3600 * 10**9
LABELS = {"tier": "front", "keep": ""}


def fits(*words: str, age_h: float = 0) -> bool:
    return PruneFilters("container prune", list(words)).fits(
        time.time_ns() - round(age_h * HOUR_NS), LABELS
    )


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ((), True),
        (("label=tier",), True),
        (("label=tier=front", "label=keep"), True),
        (("label=tier=back",), False),
        (("label=tier", "label=none"), False),
        (("label!=none",), True),
        (("label!=keep",), False),
        (("label!=tier=back",), True),
        (("label!=tier=front",), False),
        (("label!=none", "label!=keep"), False),  # Docker would remove it
        (("label=tier", "label!=none"), True),
    ],
)
def test_labels_that_it_must_and_must_not_have(words: tuple[str, ...], wanted: bool) -> None:
    assert fits(*words) == wanted


def test_until_is_older_than() -> None:
    assert fits("until=24h", age_h=25)
    assert not fits("until=24h", age_h=23)
    assert not fits("until=2001-01-01", age_h=23)
    assert not fits("until=24h", "label=none", age_h=25)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("until=soon",), "docklock container prune: --filter until soon: want 10m"),
        (("until=1h", "until=2h"), "more than one until filter specified"),
        (("lable=x",), "invalid filter 'lable', did you mean label"),
        (("label",), "give KEY=VALUE"),
    ],
)
def test_what_it_does_not_know_is_refused(words: tuple[str, ...], why: str) -> None:
    with pytest.raises(SpecError, match=why):
        fits(*words)


def test_the_warning_says_what_is_asked_for() -> None:
    assert PruneFilters("x", []).describe() == ""
    assert "\n  - until=1h\n  - label=a\n" in PruneFilters("x", ["until=1h", "label=a"]).describe()


def test_an_image_without_a_time_is_as_old_as_can_be() -> None:
    assert parse_created_ns("") == 0
    assert parse_created_ns("2026-11-29T10:00:00Z") == 1_795_946_400 * 10**9
