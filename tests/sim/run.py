"""Repeat one run: `.venv/bin/python -m tests.sim.run --seed N [-v]`.

Not here: the run itself (world), many runs (the tests). Exit status 1 if an invariant failed.
"""

from __future__ import annotations

import argparse
import importlib
import sys

from tests.sim.plan import PROFILES, make_plan
from tests.sim.world import Violation, simulate

PROTOCOLS = {"qbft": "chainlite.consensus.qbft", "eip650": "tests.sim.eip650"}


def describe_command(
    seed: int, profile: str | None = None, size: int | None = None, protocol: str = "qbft"
) -> str:
    """The one command that repeats a run."""
    command = f".venv/bin/python -m tests.sim.run --seed {seed}"
    command += f" --profile {profile}" if profile else ""
    command += f" --size {size}" if size else ""
    return command + (f" --protocol {protocol}" if protocol != "qbft" else "")


def main() -> int:
    parser = argparse.ArgumentParser(description="Repeat one simulated run of the validators.")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--runs", type=int, default=1, help="so many seeds from this one on")
    parser.add_argument("--profile", choices=PROFILES)
    parser.add_argument("--size", type=int, help="validators at the start")
    parser.add_argument("--protocol", choices=sorted(PROTOCOLS), default="qbft")
    parser.add_argument("--lockstep", action="store_true", help="with the reference model beside")
    parser.add_argument("-v", "--verbose", action="store_true", help="every step of it")
    options = parser.parse_args()
    protocol = importlib.import_module(PROTOCOLS[options.protocol])
    failed = 0
    for seed in range(options.seed, options.seed + options.runs):
        plan = make_plan(seed, options.profile, options.size)
        if options.verbose:
            print(plan)
        try:
            result = simulate(
                plan, protocol, print if options.verbose else None, lockstep=options.lockstep
            )
        except Violation as violation:
            failed += 1
            print(f"seed {seed} ({plan.profile}, {plan.size} validators): {violation}")
            command = describe_command(seed, options.profile, options.size, options.protocol)
            command += " --lockstep" if options.lockstep else ""
            print(f"repeat: {command} -v")
        else:
            if options.runs == 1:
                print(f"seed {seed} ({plan.profile}, {plan.size} validators): {result}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
