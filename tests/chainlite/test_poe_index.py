"""Phi, Gamma and the mint: the economy's own vectors, and what holds for all usage."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainlite.economy.poe_index import (
    DEFAULT_MINT,
    DEFAULT_TERMS,
    U64_MAX,
    Ratio,
    cap_usage,
    check_terms,
    compute_gamma,
    compute_mint,
    compute_phi,
    format_ratio,
    make_ratio,
)
from chainlite.errors import SpecError
from chainlite.receipt import USAGE_PARTS

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/poe_index.json").read_text())
COUNTER = st.integers(0, 2**64)
USAGE = st.tuples(COUNTER, COUNTER, COUNTER, COUNTER, COUNTER)


@pytest.mark.parametrize("vector", VECTORS, ids=[str(vector["usage"]) for vector in VECTORS])
def test_every_vector_of_the_economy_is_met_to_the_last_digit(vector: dict[str, object]) -> None:
    usage = tuple(int(Fraction(text) * USAGE_PARTS) for text in vector["usage"])  # type: ignore[attr-defined]
    phi = compute_phi(usage, DEFAULT_TERMS)
    gamma = compute_gamma(phi)
    assert phi == Ratio(*vector["phi"])  # type: ignore[misc]
    assert gamma == Ratio(*vector["gamma"])  # type: ignore[misc]
    assert compute_mint(phi) == vector["mint"]
    assert [format_ratio(phi), format_ratio(gamma)] == vector["shown"]


@given(USAGE, st.integers(1, 4096))
def test_the_index_is_the_fraction_that_it_is_defined_as(
    usage: tuple[int, ...], hosts: int
) -> None:
    weights = [Fraction(text) for text in ("0.35", "0.15", "0.15", "0.15", "0.20")]
    scales = [1000, 1000, 1, 10, 100]
    exact = sum(
        (w * Fraction(u, USAGE_PARTS) / (s * hosts)
         for w, u, s in zip(weights, usage, scales, strict=True)),
        Fraction(0),
    )  # fmt: skip
    phi = compute_phi(usage, DEFAULT_TERMS, hosts)
    gamma = compute_gamma(phi)
    assert Fraction(*phi) == exact and phi == (exact.numerator, exact.denominator)
    assert Fraction(*gamma) == exact / (exact + 1)
    assert 0 <= Fraction(*gamma) < 1
    whole = Fraction(1000 * 10**8) * exact / (exact + 1)
    assert compute_mint(phi) == (int(whole) if exact >= Fraction(1, 10) else 0)


@given(USAGE, st.integers(0, 4), st.integers(1, 2**40))
def test_more_work_never_counts_less(usage: tuple[int, ...], which: int, more: int) -> None:
    greater = tuple(value + more * (number == which) for number, value in enumerate(usage))
    less, greater_phi = (compute_phi(one, DEFAULT_TERMS) for one in (usage, greater))
    assert Fraction(*less) < Fraction(*greater_phi)
    assert Fraction(*compute_gamma(less)) < Fraction(*compute_gamma(greater_phi))
    assert compute_mint(less) <= compute_mint(greater_phi) <= DEFAULT_MINT.cap


@given(USAGE, USAGE)
def test_gamma_of_parts_adds_up_to_more_so_that_a_mint_takes_it_once(
    one: tuple[int, ...], other: tuple[int, ...]
) -> None:
    both = tuple(a + b for a, b in zip(one, other, strict=True))
    parts = [Fraction(*compute_gamma(compute_phi(u, DEFAULT_TERMS))) for u in (one, other, both)]
    assert parts[0] + parts[1] >= parts[2]


def test_terms_that_are_none_are_refused() -> None:
    zero = DEFAULT_TERMS._replace(scales=(1, 1, 0, 1, 1))
    for terms, why in (
        (zero, "scale 2 is 0"),
        (DEFAULT_TERMS._replace(weights_ppm=(350_001, 150_000, 150_000, 150_000, 200_000)), "sum"),
        (DEFAULT_TERMS._replace(weights_ppm=(-1, 350_001, 250_000, 200_000, 200_000)), "between"),
        (DEFAULT_TERMS._replace(scales=(1, 1, 1, 1)), "want 5"),
        (DEFAULT_TERMS._replace(scales=(1, 1, 1, 1, 2**64)), "64 bits"),
        (DEFAULT_TERMS._replace(receipts_max=-1), "cap"),
    ):
        with pytest.raises(SpecError, match=why):
            check_terms(terms)
        with pytest.raises(SpecError):
            compute_phi((0,) * 5, terms)
    for usage in ((0,) * 4, (0, 0, -1, 0, 0)):
        with pytest.raises(SpecError):
            compute_phi(usage, DEFAULT_TERMS)
    with pytest.raises(SpecError):
        compute_phi((0,) * 5, DEFAULT_TERMS, 0)
    for numerator, denominator in ((-1, 2), (1, 0), (1, -1)):
        with pytest.raises(SpecError):
            make_ratio(numerator, denominator)


def test_an_agreement_caps_the_receipts_that_a_host_could_inflate() -> None:
    terms = DEFAULT_TERMS._replace(receipts_max=50 * USAGE_PARTS)
    assert cap_usage((1, 2, 3, 4, U64_MAX), terms) == (1, 2, 3, 4, 50 * USAGE_PARTS)
    assert cap_usage((1, 2, 3, 4, 5), terms) == (1, 2, 3, 4, 5)


def test_below_the_floor_nothing_is_minted_and_the_cap_holds() -> None:
    assert compute_mint(Ratio(1, 10)) == 1000 * 10**8 // 11
    assert compute_mint(Ratio(99_999, 1_000_000)) == 0
    doubled = DEFAULT_MINT._replace(activity_ppm=2_000_000)
    assert compute_mint(Ratio(9, 1), doubled) == DEFAULT_MINT.cap
