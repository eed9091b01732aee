"""The PoE index: Phi, Gamma and the mint that follows from them, in integers and exact.

Not here: where usage comes from (chainlite.logblock, poe_bundle), who is paid and how a mint is
split. Invariants: no floats; Phi and Gamma are fractions in lowest terms; rounding is down and
happens once, at the mint; what is shown is cut at 10^-10, for the eye only.
Source: the economy's definitions, "PoE index"; README.md of this room.
"""

from __future__ import annotations

from math import gcd, lcm

from chainlite.errors import SpecError
from chainlite.lean import NamedTuple
from chainlite.receipt import USAGE_PARTS

COUNTERS = 5
RECEIPTS = 4
"""The place of receipts_count among the counters."""
WEIGHTS_PPM = 1_000_000
TOKEN_PARTS = 10**8
U32_MAX, U64_MAX = 2**32 - 1, 2**64 - 1
SHOWN_DIGITS = 10
ACTIVE_HOSTS_MAX = 1 << 20


class Terms(NamedTuple):
    """What usage is measured by; a published agreement may have others than DEFAULT_TERMS.

    `weights_ppm` sum to a million. `scales` are per active host, in 10^-6 of each counter's unit.
    Of a host's receipts_count (10^-6 too) at most `receipts_max` counts in one window.
    """

    weights_ppm: tuple[int, ...]
    scales: tuple[int, ...]
    receipts_max: int


DEFAULT_TERMS = Terms(
    (350_000, 150_000, 150_000, 150_000, 200_000),
    tuple([unit * USAGE_PARTS for unit in (1000, 1000, 1, 10, 100)]),
    U64_MAX,
)


class Ratio(NamedTuple):
    """A fraction in lowest terms; the denominator is above 0."""

    numerator: int
    denominator: int


class MintRule(NamedTuple):
    """One epoch's NEX: `base` and `cap` in 10^-8, `floor` is the Phi below which nothing is."""

    base: int = 1000 * TOKEN_PARTS
    cap: int = 1000 * TOKEN_PARTS
    activity_ppm: int = 1_000_000
    floor: Ratio = Ratio(1, 10)


DEFAULT_MINT = MintRule()


def make_ratio(numerator: int, denominator: int) -> Ratio:
    """The fraction in lowest terms; SpecError unless it is one that is not negative."""
    if numerator < 0 or denominator <= 0:
        raise SpecError(f"{numerator}/{denominator} is not a ratio")
    shared = gcd(numerator, denominator)
    return Ratio(numerator // shared, denominator // shared)


def check_terms(terms: Terms) -> None:
    """SpecError unless the weights sum to one and no scale is zero."""
    if len(terms.weights_ppm) != COUNTERS or len(terms.scales) != COUNTERS:
        raise SpecError(f"terms: want {COUNTERS} weights and scales")
    if not all(0 <= weight <= WEIGHTS_PPM for weight in terms.weights_ppm):
        raise SpecError("terms: a weight is not between 0 and 1")
    if sum(terms.weights_ppm) != WEIGHTS_PPM:
        raise SpecError(
            f"terms: the weights sum to {sum(terms.weights_ppm)} ppm, not {WEIGHTS_PPM}"
        )
    for number, scale in enumerate(terms.scales):
        if not 1 <= scale <= U64_MAX:
            raise SpecError(f"terms: scale {number} is {scale}: it must be above zero, in 64 bits")
    if not 0 <= terms.receipts_max <= U64_MAX:
        raise SpecError("terms: the cap of receipts is not a number of 64 bits")


def cap_usage(usage: tuple[int, ...], terms: Terms) -> tuple[int, ...]:
    """What of one host's usage in one window counts."""
    return (*usage[:RECEIPTS], min(usage[RECEIPTS], terms.receipts_max))


def compute_phi(usage: tuple[int, ...], terms: Terms, active_hosts: int = 1) -> Ratio:
    """Phi = sum of weight * usage / (scale * active hosts), exactly.

    `usage` is the sum over the hosts, in 10^-6 of each unit. SpecError for terms that are none.
    """
    check_terms(terms)
    if len(usage) != COUNTERS or min(usage) < 0:
        raise SpecError("usage: want five counters, none below zero")
    if not 1 <= active_hosts <= ACTIVE_HOSTS_MAX:
        raise SpecError(f"usage: {active_hosts} active hosts, not 1 to {ACTIVE_HOSTS_MAX}")
    shared = lcm(*terms.scales)
    parts = zip(terms.weights_ppm, usage, terms.scales, strict=True)
    total = sum(weight * used * (shared // scale) for weight, used, scale in parts)
    return make_ratio(total, WEIGHTS_PPM * shared * active_hosts)


def compute_gamma(phi: Ratio) -> Ratio:
    """Gamma = N/(N+D): 0 for no work, below 1 for any."""
    return make_ratio(phi.numerator, phi.numerator + phi.denominator)


def compute_mint(phi: Ratio, rule: MintRule = DEFAULT_MINT) -> int:
    """NEX of an epoch in 10^-8: min(cap, floor(base * Gamma * activity)), 0 below the floor."""
    if phi.numerator * rule.floor.denominator < rule.floor.numerator * phi.denominator:
        return 0
    gamma = compute_gamma(phi)
    whole = rule.base * gamma.numerator * rule.activity_ppm
    return min(rule.cap, whole // (gamma.denominator * 1_000_000))


def format_ratio(ratio: Ratio) -> str:
    """The fraction as a decimal, cut after ten digits."""
    whole, rest = divmod(ratio.numerator * 10**SHOWN_DIGITS // ratio.denominator, 10**SHOWN_DIGITS)
    return f"{whole}.{rest:0{SHOWN_DIGITS}d}"
