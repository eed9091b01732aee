"""Break one rule of the protocol, and the runs notice: else they would not see it broken either."""

from __future__ import annotations

import pytest

from tests.sim.mutants import ARGUED, Mutant, hunt, make_source, read_mutants
from tests.sim.run import describe_command
from tests.sim.seeds import FULL

MUTANTS_MIN = 60
KILLED_MIN = 0.95
RUNS_FULL = 1_000
RUNS_SLICE = 300
SLICE = (
    "quorum one less",
    "one leader for all rounds",
    "round not in the seal digest",
    "one seal less than a quorum",
    "embedded votes are not checked",
    "signers may come twice",
    "any prepared block will do",
    "votes are sent before they are written",
    "a restart forgets its votes",
    "commit without prepares",
    "no jump after f + 1",
    "a later round's timer waits for nobody",
    "a round change forgets what was prepared",
)
"""Those that are tried each time; all are with ./test --full."""


def test_every_mutant_is_another_program() -> None:
    mutants = read_mutants()
    assert len(mutants) >= MUTANTS_MIN
    assert len({mutant.name for mutant in mutants}) == len(mutants)
    assert set(SLICE) | set(ARGUED) <= {mutant.name for mutant in mutants}
    for mutant in mutants:
        compile(make_source(mutant), mutant.name, "exec")


def describe(mutant: Mutant, budget: int) -> tuple[bool, str]:
    death = hunt(mutant, budget)
    if death is None:
        return False, f"survives {budget} runs: {mutant.name} ({mutant.module})"
    command = describe_command(death.seed, death.profile)
    return True, f"{mutant.name}: {death.what}, {command}"


@pytest.mark.parametrize("name", SLICE)
def test_a_broken_rule_is_noticed(name: str) -> None:
    mutant = next(mutant for mutant in read_mutants() if mutant.name == name)
    killed, text = describe(mutant, RUNS_SLICE)
    assert killed, text


@pytest.mark.skipif(not FULL, reason="./test --full tries all mutants")
def test_95_of_100_broken_rules_are_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    mutants = read_mutants()
    killed, survivors = 0, []
    for mutant in mutants:
        is_killed, text = describe(mutant, RUNS_FULL)
        killed += is_killed
        if not is_killed:
            survivors.append(f"{text}: {ARGUED.get(mutant.name, 'and should not')}")
    with capsys.disabled():
        print(f"\n{killed} of {len(mutants)} mutants are killed", *survivors, sep="\n  ")
    assert killed >= KILLED_MIN * len(mutants), survivors
