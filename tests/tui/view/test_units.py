"""tui.view.units: short, with a unit, and never a 0 for what nobody knows."""

from __future__ import annotations

import math
import random

import pytest

from tests.conftest import get_seed
from tui.view.units import (
    AMOUNT_CHARS_MAX,
    NOBODY_KNOWS,
    write_amount,
    write_count,
    write_span,
)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "", "0"),
        (12, "", "12"),
        (999, "", "999"),
        (999.7, "", "1k"),
        (31_000, "/s", "31k/s"),
        (4_200_000, "", "4.2M"),
        (7, "blocks", "7 blocks"),
        (0, "B", "0 B"),
        (1536, "B", "1.5 KiB"),
        (1023.9, "B", "1 KiB"),
        (3 << 30, "B/s", "3 GiB/s"),
        (4.2, "ms", "4.2 ms"),
        (0.25, "ms", "250 us"),
        (90_000, "ms", "1.5 min"),
        (12, "s", "12 s"),
        (7200, "s", "2 h"),
        (86400 * 9, "s", "9 d"),
        (0, "s", "0 s"),
        (1e-9, "s", "<1 us"),
        (7.25, "%", "7.2%"),
        (200, "%", "200%"),
    ],
)
def test_an_amount_is_short_and_has_its_unit(value: float, unit: str, text: str) -> None:
    assert write_amount(value, unit) == text


def test_what_nobody_knows_is_never_a_number() -> None:
    for value in (-1, -0.5, math.nan, math.inf, -math.inf):
        assert write_amount(value, "B") == write_span(value) == NOBODY_KNOWS
    assert write_count(-1) == NOBODY_KNOWS


def test_no_amount_is_longer_than_promised() -> None:
    rng = random.Random(get_seed())
    for _ in range(5000):
        value = rng.random() * 10.0 ** rng.randint(-20, 40)
        for unit in ("", "B", "B/s", "/s", "s", "ms", "%"):
            assert len(write_amount(value, unit)) <= AMOUNT_CHARS_MAX, (value, unit)
        assert len(write_count(int(value))) <= AMOUNT_CHARS_MAX


def test_a_count_has_all_its_digits() -> None:
    assert write_count(4031) == "4,031"
    assert write_count(999_999_999) == "999,999,999"
    assert write_count(2_000_000_000) == "2G"
