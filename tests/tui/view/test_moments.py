from __future__ import annotations

import random
from datetime import UTC, datetime

from tui.view.moments import NS, format_age, format_clock, format_day


def test_a_date_is_the_standard_librarys(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(1000):
        second = rng.randrange(1, 253_402_300_799)
        stamp = datetime.fromtimestamp(second, UTC)
        assert format_day(second * NS) == f"{stamp:%Y-%m-%d %H:%M:%S}"
        assert format_clock(second * NS + 7_000_000, is_exact=True) == f"{stamp:%H:%M:%S}.007"


def test_an_age_has_the_greatest_unit_that_fits() -> None:
    now = 10**18
    ages = [format_age(now - seconds * NS, now) for seconds in (0, 59, 60, 7200, 200_000, 10**8)]
    assert ages == ["0 s", "59 s", "1 min", "2 h", "2 d", "3 y"]
    assert format_age(now + NS, now) == "0 s"
    assert format_age(0, now) == format_clock(0) == format_day(0) == "-"
