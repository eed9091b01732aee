"""Honest validators on a bad network, on bad disks and with bad clocks: one chain, and it grows."""

from __future__ import annotations

import pytest

from chainlite.consensus import qbft
from tests.sim.plan import PROFILES, make_plan
from tests.sim.seeds import RUNS, check_seeds, describe_chunk, get_chunks
from tests.sim.world import simulate

PROFILES_HERE = ("calm", "lossy", "partition", "crash", "skew", "slow")


@pytest.mark.parametrize("seeds", get_chunks(PROFILES_HERE), ids=describe_chunk)
def test_one_chain_that_grows(seeds: range) -> None:
    assert check_seeds(seeds, PROFILES_HERE) >= len(seeds) // len(PROFILES) * len(PROFILES_HERE)


def test_one_seed_is_one_run() -> None:
    for seed in range(len(PROFILES)):
        traces: list[list[str]] = [[], []]
        results = [simulate(make_plan(seed), qbft, trace.append) for trace in traces]
        assert results[0] == results[1]
        assert traces[0] == traces[1]
        assert len(traces[0]) > 20


def test_the_faults_happen() -> None:
    """Else the runs prove nothing: rounds are lost, nodes crash with votes on their disks."""
    lost, restarts = 0, 0
    for seed in range(min(RUNS, 150)):
        plan = make_plan(seed)
        trace: list[str] = []
        result = simulate(plan, qbft, trace.append)
        lost += result.rounds_max > 0
        restarts += sum("starts at height" in line and "with 0 votes" not in line for line in trace)
    assert lost >= 30
    assert restarts >= 10
