"""docklock.json_text reads, writes and refuses what the module json does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docklock.json_text import encode_json, parse_json

TOP = Path(__file__).resolve().parent.parent.parent
SCALARS = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
VALUES = st.recursive(
    SCALARS.filter(lambda value: value not in (float("inf"), float("-inf"))),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
WRONG = (
    b"", b" ", b"{", b'{"a" 1}', b'{"a":}', b"[1,", b'"abc', b"nul", b"1 2", b"[1]]", b"{1:2}",
    b'"\n"', b"\xff", b'"\\ud8"', b"01", b"+1", b"'a'", b"[1,]", b'"\\x"',
)  # fmt: skip


def read(function: Any, *arguments: Any, **named: Any) -> object:
    """The result, or the type and words of what was raised."""
    try:
        return repr(function(*arguments, **named))
    except (ValueError, RecursionError) as error:
        return type(error), str(error)


@given(VALUES)
def test_every_value_is_written_and_read_as_json_does(value: object) -> None:
    for is_sorted in (False, True):
        text = json.dumps(value, separators=(",", ":"), sort_keys=is_sorted)
        assert encode_json(value, sort_keys=is_sorted) == text
    assert encode_json(value, is_spaced=True) == json.dumps(value)
    spread = f" \t\n{json.dumps(value, indent=3)}\r\n"
    assert parse_json(spread) == parse_json(spread.encode()) == value


@given(st.binary(max_size=12) | st.text('{}[]:,"\\1e.-tnuaN \n\ud800').map(
    lambda text: text.encode("utf-8", "surrogatepass")
))  # fmt: skip
def test_any_bytes_are_read_or_refused_as_by_json(data: bytes) -> None:
    assert read(parse_json, data) == read(json.loads, data)


@pytest.mark.parametrize("data", [*WRONG, b"[" * 100_000])
def test_wrong_text_is_refused_in_the_words_of_json(data: bytes) -> None:
    found = read(parse_json, data)
    assert isinstance(found, tuple)
    if data[:2] != b"[[":
        assert found == read(json.loads, data)


def test_odd_text_is_read_as_json_reads_it() -> None:
    for data in (b"\xef\xbb\xbf[1]", "[1]".encode("utf-16"), b"[NaN, -Infinity, 1e5, -0.0]"):
        assert read(parse_json, data) == read(json.loads, data)


def test_hooks_are_asked() -> None:
    value = parse_json(
        b'{"a": 1, "a": [NaN, 2]}',
        object_pairs_hook=tuple,
        parse_constant=str.lower,
        parse_int=lambda text: f"int {text}",
    )
    assert value == (("a", "int 1"), ("a", ["nan", "int 2"]))


def test_what_is_no_json_is_not_written() -> None:
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            encode_json([wrong])
    with pytest.raises(TypeError, match="type set is not JSON serializable"):
        encode_json({"a": set()})
    ring: list[object] = []
    ring.append(ring)
    with pytest.raises(ValueError, match="Circular"):
        encode_json(ring)


def test_reading_and_writing_import_no_json() -> None:
    program = (
        "import sys; from docklock.json_text import encode_json, parse_json;"
        "assert parse_json(encode_json({'a': [1.5, None, 'x']})) == {'a': [1.5, None, 'x']};"
        "print(*sorted({'json', 're', 'enum', 'typing'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": str(TOP)}
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], env=environment, capture_output=True, text=True
    )
    assert (done.stdout.strip(), done.stderr) == ("", "")
