"""Up to f validators that lie, alone and with every other fault: one chain, and it grows."""

from __future__ import annotations

import pytest

from chainlite.consensus import qbft
from tests.sim.liars import Coalition
from tests.sim.plan import PROFILES, make_plan
from tests.sim.seeds import check_seeds, describe_chunk, get_chunks
from tests.sim.world import World

PROFILES_HERE = ("targeted", "change", "liars", "split", "forge", "chaos")


@pytest.mark.parametrize("seeds", get_chunks(PROFILES_HERE), ids=describe_chunk)
def test_one_chain_that_grows(seeds: range) -> None:
    assert check_seeds(seeds, PROFILES_HERE) >= len(seeds) // len(PROFILES) * len(PROFILES_HERE)


def test_liars_are_caught_in_the_act() -> None:
    """Else the lies are too small: some run ends with an honest node's accusation."""
    accused = 0
    for seed in range(8, 8 + 20 * len(PROFILES), len(PROFILES)):
        plan = make_plan(seed)
        world = World(plan, qbft)
        world.run()
        accused += world.watch.has_accused
        assert isinstance(world.coalition, Coalition) and plan.profile == "liars"
    assert accused >= 5
