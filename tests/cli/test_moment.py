"""Times in Docker's forms."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from chainlite.errors import SpecError
from docklock.cli.moment import parse_moment

NOW_NS = 1_700_000_000 * 10**9
SECOND_NS = 10**9


@pytest.fixture(autouse=True)
def _zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC-2")  # two hours east of Greenwich
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("word", "ago_s"),
    [("90s", 90), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172_800), ("300ms", 0.3), ("-10m", -600)],
)
def test_a_duration_is_so_long_ago(word: str, ago_s: float) -> None:
    assert parse_moment("--since", word, NOW_NS) == NOW_NS - round(ago_s * SECOND_NS)


@pytest.mark.parametrize(
    ("word", "time_ns"),
    [
        ("0", 0),
        ("10", 10 * SECOND_NS),
        ("12.5", 12_500_000_000),
        ("1136073600.000000001", 1_136_073_600_000_000_001),
        ("1970-01-01T00:00:10Z", 10 * SECOND_NS),
        ("1970-01-01T00:00:10.123456789Z", 10_123_456_789),
        ("1970-01-01T01:00:10.5+01:00", 10_500_000_000),
        ("1970-01-02T02:00:10", 86_410 * SECOND_NS),
        ("1970-01-02T02:00:10.000000007", 86_410 * SECOND_NS + 7),
        ("1970-01-02T02:01", 86_460 * SECOND_NS),
        ("1970-01-02T00:01Z", 86_460 * SECOND_NS),
        ("1970-01-02T03", 90_000 * SECOND_NS),
        ("1970-01-02T01Z", 90_000 * SECOND_NS),
        ("1970-01-02", 79_200 * SECOND_NS),
        ("1970-01-02Z", 86_400 * SECOND_NS),
        ("1970-01-02+01:00", 82_800 * SECOND_NS),
    ],
)
def test_a_time_is_exact_and_of_this_host_where_it_names_no_zone(word: str, time_ns: int) -> None:
    assert parse_moment("--since", word, NOW_NS) == time_ns


@pytest.mark.parametrize(
    "word", ["", "soon", "5x", "1d2h", "1970-13-01", "1970-01-01T00:00:10.Z", "1e5", "m", "--5m"]
)
def test_what_is_no_time_is_refused_by_name(word: str) -> None:
    with pytest.raises(SpecError, match=r"^--until"):
        parse_moment("--until", word, NOW_NS)
