"""The simulator finds what is known to be wrong with EIP-650; else it would prove nothing."""

from __future__ import annotations

from typing import Any

from tests.sim import eip650
from tests.sim.plan import make_plan
from tests.sim.world import Violation, World

SEEDS = 150


def run(seed: int, profile: str, size: int) -> tuple[World, str | None]:
    world = World(make_plan(seed, profile, size), eip650)
    try:
        world.run()
    except Violation as violation:
        return world, violation.name
    return world, None


def test_two_blocks_are_final_at_one_height_where_quorums_share_no_honest_validator() -> None:
    """n = 5, F = 1: two quorums of 2F + 1 = 3 may have the liar alone in common."""
    for seed in range(SEEDS):
        world, found = run(seed, "liars", 5)
        if found == "fork":
            assert len(world.plan.liars) == 1
            return
    raise AssertionError(f"no fork in {SEEDS} runs: the simulator is too gentle")


def get_locks(world: World) -> list[bytes]:
    """The blocks on which honest validators are locked at the lowest height, each once."""
    states: list[Any] = [node.state for node in world.nodes if node.honest]
    height = min(state.place.parent.height for state in states)
    here = [state for state in states if state.place.parent.height == height]
    return sorted({state.locked.hash for state in here if state.locked is not None})


def test_validators_that_are_locked_on_different_blocks_wait_for_ever() -> None:
    """n = 4: a liar helps two validators to lock on different blocks, and says no more."""
    for seed in range(SEEDS):
        world, found = run(seed, "split", 4)
        if found == "liveness" and len(get_locks(world)) > 1:
            assert world.healed
            return
    raise AssertionError(f"no deadlock in {SEEDS} runs: the simulator is too gentle")


def test_without_faults_it_works() -> None:
    """So that what is found is EIP-650's, not a mistake of these lines."""
    for seed in range(30):
        for profile in ("calm", "lossy"):
            assert run(seed, profile, 4 + seed % 2)[1] is None
