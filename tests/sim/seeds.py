"""Many runs: which seeds a test takes, and the report of one that fails.

Not here: a run (world). With DOCKLOCK_TEST_FULL=1 there are RUNS_FULL runs in all, else RUNS_SLICE;
they are in two files of tests by profile, so that two workers share them (xdist keeps a file
together), and in chunks, so that a report names a small part.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from chainlite.consensus import qbft
from tests.sim.plan import PROFILES, make_plan
from tests.sim.run import describe_command
from tests.sim.world import Violation, simulate

if TYPE_CHECKING:
    from collections.abc import Sequence

FULL = os.environ.get("DOCKLOCK_TEST_FULL") == "1"
RUNS_FULL = 20_000
RUNS_SLICE = 300
RUNS = RUNS_FULL if FULL else RUNS_SLICE
CHUNK = 500 if FULL else 50
LOCKSTEP_EVERY = 40
"""One in so many runs has the reference model beside each honest node: it is six times as slow."""


def get_chunks(profiles: Sequence[str]) -> list[range]:
    """The seeds of all chunks, of which those with these profiles are run."""
    assert set(profiles) <= set(PROFILES)
    return [range(first, min(first + CHUNK, RUNS)) for first in range(0, RUNS, CHUNK)]


def check_seeds(seeds: range, profiles: Sequence[str]) -> int:
    """Run those of these seeds that have such a profile; AssertionError names the command."""
    runs = 0
    for seed in seeds:
        plan = make_plan(seed)
        if plan.profile not in profiles:
            continue
        runs += 1
        # Not always the same remainder: profiles follow from the seed's.
        lockstep = seed % LOCKSTEP_EVERY == seed // LOCKSTEP_EVERY % LOCKSTEP_EVERY
        try:
            simulate(plan, qbft, lockstep=lockstep)
        except Violation as violation:
            command = describe_command(seed) + (" --lockstep" if lockstep else "")
            raise AssertionError(f"{violation}\nrepeat: {command} -v") from violation
    return runs


def describe_chunk(seeds: range) -> str:
    """A test's id, for -k."""
    return f"seeds_{seeds.start}_to_{seeds.stop - 1}"
