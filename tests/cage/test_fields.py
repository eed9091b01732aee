"""Structured fields: only what a serialiser writes is read, and read as it was written."""

from __future__ import annotations

import random

import http_sf
import pytest

from chainlite.cage.fields import (
    encode_bytes,
    encode_string,
    parse_bytes,
    parse_dictionary,
    parse_inner_list,
    parse_parameters,
)
from chainlite.cage.refusal import Refusal

GOOD = 'a=("x" "y";req;key="z" 7);n=1;s="a\\"b\\\\";t=tok/en:x;b=:AAEC:;f=?0;v, b=:AAEC:, c, d=-7'


def test_a_dictionary_is_its_members_as_they_were_written() -> None:
    members = parse_dictionary(GOOD, "test")
    assert list(members) == ["a", "b", "c", "d"]
    assert members["a"].text == GOOD.split(", ")[0].removeprefix("a=")
    assert (members["b"].text, members["c"].text, members["d"].text) == (":AAEC:", "?1", "-7")
    values = parse_parameters(members["a"].parameters, "test")
    assert values == {"n": 1, "s": 'a"b\\', "t": "tok/en:x", "b": b"\0\1\2", "f": False, "v": True}
    items = parse_inner_list(members["a"].inner, "test")
    assert [item.value for item in items] == ["x", "y", 7]
    assert items[1].parameters == (("req", True), ("key", "z"))


def test_what_a_serialiser_does_not_write_is_refused() -> None:
    for text in (
        "a=1.5", "a=01", "a=-0", "a=1234567890123456", "a=@1", 'a=%"x"', "a=(1", "a=( 1)",
        "a=(1  2)", "a=1; b", "A=1", "a=1,", ",a=1", "a=1 b=2", "a=1,a=2", 'a="\\x"', 'a="\n"',
        "a=1\n", " a=1", "a=1 ", 'a="é"', "a=", "=1", "a==1", "a=?1", "a=:A A:",
    ):  # fmt: skip
        with pytest.raises(Refusal):
            parse_dictionary(text, "test")
    for text in (";a;a", ";a=?1"):
        with pytest.raises(Refusal):
            parse_parameters(text, "test")
    for text in (":AAE:", ":AAF=:", ":AA==A:", "AAEC", ":", ""):
        with pytest.raises(Refusal):
            parse_bytes(text, "test")


def test_limits_hold() -> None:
    for text in (
        ", ".join(f"a{n}=1" for n in range(9)), "a=" + "b" * 9000,
    ):  # fmt: skip
        with pytest.raises(Refusal):
            parse_dictionary(text, "test")
    with pytest.raises(Refusal):
        parse_parameters("".join(f";a{n}" for n in range(9)), "test")
    with pytest.raises(Refusal):
        parse_inner_list(f"({' '.join('1' for _ in range(49))})", "test")


def test_what_is_accepted_another_library_serialises_alike(seed: int, full: bool) -> None:
    choose = random.Random(seed)
    marks, accepted = "abz=\"\\;, ()?10:-/'A\t", 0
    for _ in range(200_000 if full else 10_000):
        text = list(GOOD)
        for _ in range(choose.randrange(4)):
            place = choose.randrange(len(text))
            text[place : place + choose.randrange(2)] = choose.choice(marks)
        changed = "".join(text)
        try:
            members = parse_dictionary(changed, "test")
            for member in members.values():
                parse_parameters(member.parameters, "test")
                if member.inner:
                    parse_inner_list(member.inner, "test")
                elif member.bare.startswith(":"):
                    parse_bytes(member.bare, "test")
        except Refusal:
            continue
        accepted += 1
        ours = ", ".join(
            name + (one.text[2:] if one.text.startswith("?1") else f"={one.text}")
            for name, one in members.items()
        )
        assert http_sf.ser(http_sf.parse(changed.encode(), tltype="dictionary")) == ours
    assert accepted > 500


def test_encoding_is_read_back() -> None:
    assert parse_bytes(encode_bytes(b"\xff" * 65), "test") == b"\xff" * 65
    text = 'a"b\\c'
    assert parse_parameters(f";s={encode_string(text)}", "test") == {"s": text}
