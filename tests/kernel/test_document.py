"""A document that is wrong is refused with its place; a right one reads as written."""

from __future__ import annotations

import pytest

from chainlite.errors import SpecError
from docklock.document import SIZE_MAX_BYTES, encode_document, parse_document


def refuse(data: bytes) -> str:
    with pytest.raises(SpecError) as caught:
        parse_document(data, "config.json")
    return str(caught.value)


def test_a_wrong_type_is_named_with_its_place() -> None:
    root = parse_document(b'{"process":{"args":[3],"cwd":true}}', "config.json")
    with pytest.raises(SpecError) as caught:
        root.get("process").get("args").as_strings()
    assert str(caught.value) == "config.json: process.args[0]: expected a string, got 3"
    with pytest.raises(SpecError, match=r"process.cwd: expected a string, got true"):
        root.get("process").get("cwd").as_str()
    with pytest.raises(SpecError, match=r"process.cwd: expected an integer, got true"):
        root.get("process").get("cwd").as_int(0, 9)


def test_an_absent_value_takes_the_default_or_is_named() -> None:
    root = parse_document(b'{"a":null}', "x")
    assert not root.get("a").exists
    assert root.get("a").get("b").as_str("d") == "d"
    assert root.get("a").as_list() == ()
    with pytest.raises(SpecError, match=r"^x: a.b.c: missing$"):
        root.get("a").get("b").get("c").as_str()
    with pytest.raises(SpecError, match=r"^x: q: missing$"):
        root.required("q")


def test_an_integer_keeps_its_range_and_a_float_is_refused() -> None:
    root = parse_document(b'{"a":7,"b":1.0}', "x")
    assert root.get("a").as_int(7, 7) == 7
    with pytest.raises(SpecError, match=r"a: expected an integer in 0..6, got 7"):
        root.get("a").as_int(0, 6)
    with pytest.raises(SpecError, match=r"b: expected an integer"):
        root.get("b").as_int(0, 6)


def test_what_json_parsers_disagree_on_is_refused() -> None:
    assert 'the key "a" stands twice' in refuse(b'{"a":1,"a":2}')
    assert "NaN is not JSON" in refuse(b'{"a":NaN}')
    assert "not UTF-8" in refuse(b'{"a":"\xff"}')
    assert "line 2 column 1: not JSON" in refuse(b'{"a":1\n')
    assert "nested too deeply" in refuse(b"[" * 200_000)
    assert "digits" in refuse(b'{"a":' + b"9" * 5000 + b"}")
    assert "at most" in refuse(b" " * (SIZE_MAX_BYTES + 1))


def test_a_string_the_kernel_cannot_take_is_refused() -> None:
    root = parse_document(b'{"a":"x\\u0000y","b":"\\ud800"}', "x")
    with pytest.raises(SpecError, match=r"NUL"):
        root.get("a").as_str()
    with pytest.raises(SpecError, match=r"surrogate"):
        root.get("b").as_str()


def test_encoding_is_canonical() -> None:
    assert encode_document({"b": 1, "a": ["é"]}) == b'{"a":["\\u00e9"],"b":1}'
