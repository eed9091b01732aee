from __future__ import annotations

import random
import unicodedata

import pytest

from tui.view.text import LIMIT_DEFAULT, make_harmless
from tui.view.wrapping import get_width, wrap

REFUSED = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("web-1", "web-1"),
        ("\x1b[31mred\x1b[0m", "␛[31mred␛[0m"),
        ("a\nb\tc\x7f", "a␊b␉c␡"),
        ("\u202eevil", "\\u202eevil"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("\x9b31m", "\\u009b31m"),
        ("half \ud800", "half \\ud800"),
        ("Zürich 東京", "Zürich 東京"),
        ("[red]not markup[/red]", "[red]not markup[/red]"),
    ],
)
def test_text_is_drawn_as_what_it_says(text: str, shown: str) -> None:
    assert make_harmless(text) == shown


def test_no_text_holds_a_letter_that_acts_and_none_is_longer_than_its_limit(
    seed: int, full: bool
) -> None:
    rng = random.Random(seed)
    for _ in range(20_000 if full else 500):
        length = rng.choice((0, 1, 5, 40, 300))
        text = "".join(
            chr(rng.choice((rng.randrange(0x20), rng.randrange(0x3000), rng.randrange(0x110000))))
            for _ in range(length)
        )
        limit = rng.choice((1, 8, 20, LIMIT_DEFAULT))
        shown = make_harmless(text, limit)
        assert len(shown) <= limit
        assert not {unicodedata.category(letter) for letter in shown} & REFUSED
        shown.encode()


def test_a_megabyte_is_cut_and_says_how_much_is_missing() -> None:
    assert make_harmless("x" * 1_000_000, 20) == "xxxxxxxxx…(+999,991)"


def test_marks_are_not_piled_up() -> None:
    assert make_harmless("e" + "\u0301" * 50) == "e\u0301\u0301"


def test_lines_are_folded_to_the_width_and_lose_no_letter(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(300):
        letters = rng.choice(("ab ", "ab東 ", "x"))
        text = "".join(rng.choice(letters) for _ in range(rng.randrange(120)))
        width = rng.randrange(2, 30)
        lines = wrap(text, width)
        assert all(get_width(line) <= width for line in lines)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
