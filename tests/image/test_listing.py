"""Sizes and ages read as in Docker."""

from __future__ import annotations

import pytest

from docklock.image.listing import show_age, show_created, show_size, show_table


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (4_421_000, "4.42MB"), (77_800_000, "77.8MB"),
     (999_999, "1MB"), (1_230_000_000, "1.23GB")],
)  # fmt: skip
def test_sizes_have_decimal_units_and_three_digits(size: int, text: str) -> None:
    assert show_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "Less than a second ago"), (1, "1 second ago"), (59, "59 seconds ago"),
     (60, "About a minute ago"), (120, "2 minutes ago"), (3599, "59 minutes ago"),
     (3600, "About an hour ago"), (7200, "2 hours ago"), (86400, "24 hours ago"),
     (172800, "2 days ago"), (1209600, "2 weeks ago"), (5184000, "2 months ago"),
     (63072000, "2 years ago")],
)  # fmt: skip
def test_ages_are_rounded_as_docker_rounds_them(seconds: int, text: str) -> None:
    assert show_age(seconds) == text


def test_times_with_nanoseconds_and_none_at_all_are_shown() -> None:
    assert show_created("2026-01-02T03:04:05.678901234Z")[0] == "2026-01-02 03:04:05 +0000 UTC"
    assert show_created("2026-01-02T03:04:05+02:00")[0] == "2026-01-02 01:04:05 +0000 UTC"
    assert show_created("") == ("N/A", "N/A")
    assert show_created("0") == ("N/A", "N/A")


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert show_table(["A", "B"], [["x" * 9, "y"]]) == "A           B\nxxxxxxxxx   y\n"
