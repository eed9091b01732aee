"""libseccomp as oracle: the same rules in both compilers, the same verdict for every call."""

from __future__ import annotations

import errno
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docklock.policy.arguments import SIGNATURES, get_width
from docklock.policy.compile import compile_policy
from docklock.policy.machines import get_machine
from docklock.policy.model import ArgumentTest, Condition, Model, RuleModel
from tests.policy.bpf_interpreter import load, run
from tests.policy.policies import EDGES, MACHINES, registers, values_64

pyseccomp = pytest.importorskip("pyseccomp", reason="libseccomp is the oracle")
ARCHES = {"x86_64": pyseccomp.Arch.X86_64, "aarch64": pyseccomp.Arch.AARCH64}
OPERATORS = {
    "==": pyseccomp.EQ,
    "!=": pyseccomp.NE,
    "<": pyseccomp.LT,
    "<=": pyseccomp.LE,
    ">": pyseccomp.GT,
    ">=": pyseccomp.GE,
    "masked": pyseccomp.MASKED_EQ,
}
# Calls of both machines whose first argument or more has 64 bits, for libseccomp compares all 64.
CALLS = ("mmap", "mremap", "munmap", "brk", "unshare", "remap_file_pages", "getpid", "mincore")


@st.composite
def comparisons_64(draw: st.DrawFn, name: str) -> ArgumentTest:
    wide = [i for i in range(len(SIGNATURES[name])) if get_width(name, i) >> 32]
    index, op, value = draw(st.sampled_from(wide)), draw(st.sampled_from(sorted(OPERATORS))), 0
    value = draw(values_64)
    if op == "masked":
        mask = draw(values_64) or 1
        return ArgumentTest(index, op, value & mask, mask)
    return ArgumentTest(index, op, value, 0)


@st.composite
def models_64(draw: st.DrawFn) -> Model:
    """One rule a call with one action, as libseccomp has no order among rules; a condition has at
    most one test of each argument, as libseccomp refuses more."""
    rules = []
    for name in draw(st.lists(st.sampled_from(CALLS), unique=True, min_size=1)):
        action = draw(st.sampled_from(("record", "closed")))
        number = errno.EBUSY if action == "closed" else 0
        when = None
        if SIGNATURES[name] and draw(st.booleans()):
            unique = st.lists(
                comparisons_64(name), min_size=1, max_size=3, unique_by=lambda one: one[0]
            )
            when = Condition("", tuple(draw(unique)))
        rules.append(RuleModel((name,), action, number, when, None))
    return Model("oracle", "", "allow", 0, tuple(rules))


def compile_by_libseccomp(model: Model, machine: str) -> bytes:
    chain = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    if pyseccomp.system_arch() != ARCHES[machine]:
        chain.add_arch(ARCHES[machine])
        chain.remove_arch(pyseccomp.system_arch())
    for rule in model.rules:
        action = pyseccomp.NOTIFY if rule.action == "record" else pyseccomp.ERRNO(rule.errno)
        args = []
        for index, op, value, mask in rule.when.args if rule.when else ():
            pair = (mask, value) if op == "masked" else (value,)
            args.append(pyseccomp.Arg(index, OPERATORS[op], *pair))
        chain.add_rule_exactly(action, rule.syscalls[0], *args)
    with tempfile.TemporaryFile() as file:
        chain.export_bpf(file)
        file.seek(0)
        return file.read()


@given(models_64(), st.sampled_from(MACHINES), st.lists(registers, min_size=1, max_size=8))
def test_verdicts_are_those_of_libseccomp(model, machine, tries) -> None:
    compiled = compile_policy(model, get_machine(machine), frozenset())
    ours, theirs = load(compiled.program), load(compile_by_libseccomp(model, machine))
    for rule in model.rules:
        nr = get_machine(machine).numbers[rule.syscalls[0]]
        for args in [*tries, *get_near(rule)]:
            assert run(ours, compiled.arch, nr, args) == run(theirs, compiled.arch, nr, args)


def get_near(rule: RuleModel) -> list[tuple[int, ...]]:
    """Registers that meet every test, and neighbours of each."""
    if rule.when is None:
        return [(value,) * 6 for value in EDGES[:3]]
    base = [0] * 6
    for index, _, value, _ in rule.when.args:
        base[index] = value
    near = [tuple(base)]
    for index, *_ in rule.when.args:
        for step in (-1, 1, 1 << 32, -(1 << 32)):
            changed = list(base)
            changed[index] = (base[index] + step) & ((1 << 64) - 1)
            near.append(tuple(changed))
    return near


@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_are_those_of_libseccomp(machine) -> None:
    table = get_machine(machine).numbers
    known = {name: pyseccomp.resolve_syscall(ARCHES[machine], name) for name in table}
    assert {name: nr for name, nr in known.items() if nr >= 0 and nr != table[name]} == {}
    older = {name for name, nr in table.items() if nr < 451}
    assert {name for name in older if known[name] < 0} == set(), "libseccomp lacks these"


@pytest.mark.parametrize("machine", MACHINES)
def test_every_number_of_libseccomp_is_in_the_table(machine) -> None:
    """Its table also has numbers (negative) for calls that this machine lacks: not ours."""
    ours = set(get_machine(machine).numbers.values())
    for nr in range(463):
        name = resolve_number(ARCHES[machine], nr)
        assert (nr in ours) or name is None, f"{name}={nr} is missing"


def resolve_number(arch: object, nr: int) -> str | None:
    try:
        name = pyseccomp.resolve_syscall(arch, nr)
    except (ValueError, OSError):
        return None
    return name.decode() if isinstance(name, bytes) else name
