"""Receipts: one canonical form, and commitments that hide and bind."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainlite import receipt
from chainlite.errors import SpecError
from tests.chainlite.samples import make_receipt

U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
RECEIPTS = st.builds(
    make_receipt,
    U64,
    run=U32,
    mono=U64,
    time=U64,
    pid=U32,
    tid=U32,
    arch=U32,
    nr=U32,
    ret=st.integers(-(2**63), 2**63 - 1),
    errno=st.integers(-(2**31), 2**31 - 1),
    decision=st.integers(0, 3),
    plane=st.integers(0, 2),
    seen=st.integers(0, 1),
    args=st.tuples(*[U64] * 6),
    usage=st.tuples(*[U64] * 5),
    app=NAMES,
    op=NAMES,
    host=st.binary(min_size=32, max_size=32),
    labels=st.lists(st.tuples(NAMES, NAMES), max_size=4).map(tuple),
    commitments=st.lists(st.tuples(NAMES, st.binary(min_size=32, max_size=32)), max_size=4).map(
        tuple
    ),
)


@given(RECEIPTS)
def test_a_receipt_comes_back_as_it_went_in(event: receipt.Receipt) -> None:
    assert receipt.decode_receipt(receipt.encode_receipt(event)) == event


@given(st.binary(max_size=600))
def test_bytes_are_refused_or_are_the_canonical_form(data: bytes) -> None:
    try:
        event = receipt.decode_receipt(data)
    except SpecError:
        return
    assert receipt.encode_receipt(event) == data


def test_a_changed_receipt_is_refused_or_is_another_receipt(seed: int) -> None:
    rng = random.Random(seed)
    event = make_receipt(3, commitments=(("path", b"\x01" * 32), ("argv", b"\x02" * 32)))
    data = receipt.encode_receipt(event)
    for _ in range(3000):
        spoilt = bytearray(data)
        spoilt[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        if rng.random() < 0.3:
            del spoilt[rng.randrange(len(spoilt)) :]
        try:
            other = receipt.decode_receipt(bytes(spoilt))
        except SpecError:
            continue
        assert other != event
        assert receipt.encode_receipt(other) == bytes(spoilt)


@pytest.mark.parametrize("field", ["decision", "plane", "seen"])
def test_a_number_without_a_name_is_refused(field: str) -> None:
    with pytest.raises(SpecError, match="no name"):
        receipt.decode_receipt(receipt.encode_receipt(make_receipt(0, **{field: 9})))


def test_a_count_of_values_beyond_the_bytes_is_refused() -> None:
    data = bytearray(receipt.encode_receipt(make_receipt(0)))
    for count in (1, 16, 17, 255):
        data[receipt.FIXED.size - 1] = count
        with pytest.raises(SpecError):
            receipt.decode_receipt(bytes(data))


def test_limits_hold_when_encoding() -> None:
    with pytest.raises(SpecError):
        receipt.encode_receipt(make_receipt(0, op="x" * 65))
    with pytest.raises(SpecError):
        receipt.encode_receipt(make_receipt(0, labels=(("a", "b"),) * 17))
    with pytest.raises(SpecError):
        receipt.encode_receipt(make_receipt(0, commitments=(("a", bytes(32)),) * 17))


@given(st.lists(st.one_of(st.none(), st.binary(max_size=50)), max_size=6).map(tuple))
def test_values_come_back_as_they_went_in(values: tuple[bytes | None, ...]) -> None:
    data = receipt.encode_values(values)
    assert receipt.decode_values(data, len(values), "v") == values
    with pytest.raises(SpecError):
        receipt.decode_values(data + b"x", len(values), "v")
    with pytest.raises(SpecError):
        receipt.decode_values(data, len(values) + 1, "v")


def test_equal_values_have_unequal_commitments() -> None:
    secret = b"\x01" * 32
    seen = {receipt.compute_commitment(secret, i, f, b"/tmp") for i in range(9) for f in range(9)}
    assert len(seen) == 81
    assert receipt.compute_commitment(b"\x02" * 32, 0, 0, b"/tmp") not in seen
