from __future__ import annotations

import pytest

from tui.view.filters import parse_filter

FIELDS = ("name", "status", "app", "cpu")
ROWS = (
    {"name": "web-1", "status": "running", "app": "Shop", "cpu": 60.0},
    {"name": "web-2", "status": "exited", "app": "shop", "cpu": -1},
    {"name": "db", "status": "running", "app": "bank", "cpu": 3.5},
)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["web-1", "web-2", "db"]),
        ("web", ["web-1", "web-2"]),
        ("WEB run", ["web-1"]),
        ("app:shop", ["web-1", "web-2"]),
        ("!app:shop", ["db"]),
        ("!web", ["db"]),
        ("cpu>50", ["web-1"]),
        ("cpu<4", ["web-2", "db"]),
        ("status:", ["web-1", "web-2", "db"]),
        ("name:web !status:exited", ["web-1"]),
        ("60", []),
    ],
)
def test_a_filter_lets_pass_what_all_its_words_match(text: str, names: list[str]) -> None:
    found = parse_filter(text, FIELDS)
    assert not found.complaint
    assert [row["name"] for row in ROWS if found.is_match(FIELDS, row.__getitem__)] == names


@pytest.mark.parametrize("text", ["colour:red", "cpu>many"])
def test_what_makes_no_sense_is_said_and_hides_nothing(text: str) -> None:
    found = parse_filter(text, FIELDS)
    assert found.complaint
    assert all(found.is_match(FIELDS, row.__getitem__) for row in ROWS)
