"""What happens in a run, drawn from its seed: who takes part, and every fault with its time.

Not here: what faults do (network, node, liars). Invariants: a plan is a pure function of seed,
profile and size; liars are never more than f of any validator set that the plan's changes can
make; a clock that is an hour off counts as a liar where that matters, which is liveness.
"""

from __future__ import annotations

import random
from itertools import combinations
from typing import NamedTuple

PROFILES = (
    "calm",
    "lossy",
    "partition",
    "targeted",
    "crash",
    "skew",
    "slow",
    "change",
    "liars",
    "split",
    "forge",
    "chaos",
)
SIZES = (1, 3, 4, 4, 4, 5, 5, 7)
SPARES_MAX = 2
AFTER = ("lie on", "keep to the protocol", "say nothing")
"""What liars do once the other faults have stopped."""
LIARS = frozenset(("liars", "split", "forge", "chaos", "change", "crash", "targeted"))
"""Profiles in which some validators may lie."""


REAL = ("lossy", "partition", "crash", "targeted", "liars", "split")
REAL_SHARE = 0.06
"""Of the runs of these profiles: with the real ledger and mempool; they take twice as long."""


class Window(NamedTuple):
    """From `start_ms` to `end_ms`, messages of these kinds from and to these nodes are lost.

    `groups` has a number for each node: what goes from one group to another is lost, but for what
    liars send and hear in a plan where they `reach` everybody.
    """

    start_ms: int
    end_ms: int
    kinds: tuple[int, ...]
    groups: tuple[int, ...]


class Crash(NamedTuple):
    """The node stops after so many more effects; `fate` says what becomes of what is unsynced."""

    at_ms: int
    node: int
    effects: int
    fate: str
    down_ms: int


class Plan(NamedTuple):
    """All of a run. Nodes are numbers: `size` validators, then `spares` that may join."""

    seed: int
    profile: str
    size: int
    spares: int
    liars: tuple[int, ...]
    joins: tuple[int, ...]
    leaves: tuple[int, ...]
    base_timeout_ms: int
    delays_ms: tuple[int, int]
    drop: float
    duplicate: float
    windows: tuple[Window, ...]
    crashes: tuple[Crash, ...]
    skews_ms: tuple[int, ...]
    bad_clock: int | None
    faults_ms: int
    liars_after: str
    liars_reach: bool
    client_ms: int
    is_real: bool


def compute_faults(size: int) -> int:
    return (size - 1) // 3


def make_plan(seed: int, profile: str | None = None, size: int | None = None) -> Plan:
    """The run of a seed; profile and size follow from it unless they are given."""
    rng = random.Random(seed)
    drawn, drawn_size = PROFILES[seed % len(PROFILES)], rng.choice(SIZES)
    profile, size = profile or drawn, size or drawn_size
    liars = _draw_liars(rng, profile, size)
    joins, leaves = _draw_changes(rng, profile, size, liars)
    spares = len(joins)
    nodes = size + spares
    faults_ms = rng.randrange(400, 900) if profile == "calm" else rng.randrange(700, 2_200)
    bad_clock = None
    if profile in ("skew", "chaos") and len(liars) < compute_faults(size):
        bad_clock = rng.choice([node for node in range(size) if node not in liars])
    return Plan(
        seed=seed,
        profile=profile,
        size=size,
        spares=spares,
        liars=liars,
        joins=joins,
        leaves=leaves,
        base_timeout_ms=60 if profile == "forge" else rng.choice((150, 250, 400)),
        delays_ms=_draw_delays(rng, profile),
        drop=rng.choice((0.02, 0.1, 0.3)) if profile in ("lossy", "chaos") else 0.0,
        duplicate=0.0 if profile in ("calm", "slow") else 0.1,
        windows=_draw_windows(rng, profile, nodes, faults_ms),
        crashes=_draw_crashes(rng, profile, nodes, liars, faults_ms),
        skews_ms=_draw_skews(rng, profile, nodes, bad_clock),
        bad_clock=bad_clock,
        faults_ms=faults_ms,
        liars_after=rng.choice(AFTER),
        liars_reach=rng.random() < 0.6,
        client_ms=rng.choice((40, 120, 300)),
        is_real=profile in REAL and rng.random() < REAL_SHARE,
    )


def _draw_liars(rng: random.Random, profile: str, size: int) -> tuple[int, ...]:
    faults = compute_faults(size)
    if profile not in LIARS or not faults:
        return ()
    if profile == "forge":
        return tuple(sorted(rng.sample(range(size), faults)))
    if profile in ("crash", "targeted", "change") and rng.random() < 0.5:
        return ()
    return tuple(sorted(rng.sample(range(size), rng.randint(1, faults))))


def _draw_changes(
    rng: random.Random, profile: str, size: int, liars: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if profile not in ("change", "chaos"):
        return (), ()
    joins = tuple(range(size, size + rng.randint(0, SPARES_MAX)))
    leaves = tuple(sorted(rng.sample(range(size), min(size - 1, rng.randint(0, 2)))))
    while not _is_bearable(size, joins, leaves, liars):
        leaves = leaves[1:]
    return joins, leaves


def _is_bearable(
    size: int, joins: tuple[int, ...], leaves: tuple[int, ...], liars: tuple[int, ...]
) -> bool:
    """Whether liars are at most f of every set that some of the changes make."""
    some = [gone for count in range(len(leaves) + 1) for gone in combinations(leaves, count)]
    return all(
        sum(liar not in gone for liar in liars) <= compute_faults(size - len(gone) + more)
        and size - len(gone) + more >= 1
        for gone in some
        for more in range(len(joins) + 1)
    )


def _draw_delays(rng: random.Random, profile: str) -> tuple[int, int]:
    if profile == "slow":
        return 60, rng.choice((150, 250, 400))
    if profile in ("calm", "forge"):
        return 1, rng.choice((2, 10))
    return 1, rng.choice((4, 20, 60))


def _draw_windows(
    rng: random.Random, profile: str, nodes: int, faults_ms: int
) -> tuple[Window, ...]:
    if profile == "forge":
        return _draw_lost_commits(rng, nodes, faults_ms)
    if profile not in ("partition", "targeted", "split", "chaos", "crash", "change"):
        return ()
    windows = []
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(0, faults_ms)
        groups = tuple(rng.randrange(2) for _ in range(nodes))
        kinds: tuple[int, ...] = ()
        if profile == "targeted" or (profile != "partition" and rng.random() < 0.6):
            kinds = tuple(rng.sample(range(5), rng.randint(1, 2)))
            if rng.random() < 0.5:  # one node alone still hears them
                lucky = rng.randrange(nodes)
                groups = tuple(1 if node == lucky else 2 + node for node in range(nodes))
        windows.append(Window(start, start + rng.randrange(50, 1_200), kinds, groups))
    return tuple(windows)


def _draw_lost_commits(rng: random.Random, nodes: int, faults_ms: int) -> tuple[Window, ...]:
    """Commits are lost most of the time, at times some prepares: round follows round."""
    apart = tuple(range(nodes))
    windows = [Window(at, at + 500, (2,), apart) for at in range(0, faults_ms, 600)]
    for _ in range(rng.randint(0, 6)):
        start, lucky = rng.randrange(0, faults_ms), rng.randrange(nodes)
        groups = tuple(0 if node == lucky else 1 + node for node in range(nodes))
        some = tuple(1 if rng.random() < 0.6 else group for group in groups)
        windows.append(Window(start, start + rng.randrange(50, 400), (1,), some))
    return tuple(windows)


def _draw_crashes(
    rng: random.Random, profile: str, nodes: int, liars: tuple[int, ...], faults_ms: int
) -> tuple[Crash, ...]:
    honest = [node for node in range(nodes) if node not in liars]
    if profile not in ("crash", "chaos", "change") or not honest:
        return ()
    return tuple(
        Crash(
            rng.randrange(0, faults_ms),
            rng.choice(honest),
            rng.randrange(0, 7),
            rng.choice(("lost", "torn", "kept")),
            rng.choice((1, 30, 300)),
        )
        for _ in range(rng.randint(1, 6))
    )


def _draw_skews(
    rng: random.Random, profile: str, nodes: int, bad_clock: int | None
) -> tuple[int, ...]:
    if profile == "calm":
        return (0,) * nodes
    skews = [rng.randrange(-900, 900) for _ in range(nodes)]
    if bad_clock is not None:
        skews[bad_clock] = rng.choice((-3_600_000, 3_600_000, 5_000, -5_000))
    return tuple(skews)
