"""Mutants: QBFT with one rule broken each, by name. The simulator must tell them from the true one.

Not here: which they are (mutants.txt), how a mutant is loaded (universe), how many are tried when
(test_mutants). Each replaces one piece of text that its module has exactly once; one that does not
apply any more is an error, so the list follows the code. ARGUED says of those that survive why no
run should tell them apart: they are run all the same.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import NamedTuple

from chainlite.errors import DocklockError
from tests.sim import universe

RUN_MAX_S = 5.0
"""Of a processor: the longest run of the true protocol takes a tenth of that."""
CRASHES = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, DocklockError)
"""What broken code may raise; an AssertionError is its own, or a Violation."""
ARGUED = {
    "strangers' blocks": "a fresh block is the leader's, a re-proposed one was fresh once, and a "
    "quorum has prepared it: no other way leads here",
    "new blocks of any height": "the hash of the block before is compared too, and a seal is for "
    "one height: a block of another height fails both",
    "the second vote counts": "of a liar's two votes either may count, for one signer has one place",
    "another proposal after a restart": "the node has prepared another and does not prepare this one; "
    "its commit still needs a quorum that did",
    "a commit is said again after a restart": "the record that has the COMMIT has what it prepared, "
    "so that round is prepared already and the place is not reached",
    "those in later rounds are no company": "it needs one that got ahead with a quorum whose others "
    "then lost their votes; tests/consensus/test_company.py has it",
    "prepared later than now": "the proof needs a quorum's prepares of this round or a later one; "
    "then this round's leader has proposed, or a quorum has left the round and takes nothing in it",
}


class Mutant(NamedTuple):
    """One broken rule: what stands in the module, and what stands there instead."""

    name: str
    module: str
    old: str
    new: str


class Death(NamedTuple):
    """What killed a mutant: the run, and what was seen."""

    seed: int
    profile: str | None
    what: str


class Hang(AssertionError):
    """A run that takes so much time that it will not end."""

    name = "hang"


def read_mutants() -> list[Mutant]:
    """All mutants of mutants.txt, in its order."""
    found: list[Mutant] = []
    for section in Path(__file__).with_suffix(".txt").read_text().split("\n# ")[1:]:
        head, *lines = section.split("\n")
        module, _, name = head.partition(": ")
        old = "\n".join(line[1:] for line in lines if line.startswith("-"))
        new = "\n".join(line[1:] for line in lines if line.startswith("+"))
        found.append(Mutant(name, module, old, new))
    return found


def make_source(mutant: Mutant) -> str:
    """The module's source with the rule broken."""
    source = universe.get_path(mutant.module).read_text()
    count = source.count(mutant.old)
    assert count == 1, f"{mutant.name}: its text is {count} times in {mutant.module}"
    return source.replace(mutant.old, mutant.new)


def _give_up(_number: int, _frame: object) -> None:
    raise Hang


def get_run(number: int) -> tuple[int, str | None]:
    """Seed and profile of a hunt's run, by turns the seed's own profile and that of near misses."""
    return number // 2, "forge" if number % 2 else None


def hunt(mutant: Mutant, runs: int) -> Death | None:
    """Run a mutant so many times, or until an invariant fails; None if it survives."""
    world = universe.load(mutant.module, make_source(mutant))
    before = signal.signal(signal.SIGVTALRM, _give_up)
    try:
        for seed, profile in map(get_run, range(runs)):
            signal.setitimer(signal.ITIMER_VIRTUAL, RUN_MAX_S)
            try:
                world.simulate(world.make_plan(seed, profile), world.protocol)
            except AssertionError as error:
                return Death(seed, profile, getattr(error, "name", "assertion"))
            except CRASHES as error:
                return Death(seed, profile, type(error).__name__)
            finally:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    finally:
        signal.signal(signal.SIGVTALRM, before)
    return None
