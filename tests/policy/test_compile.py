from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainlite.errors import SpecError
from docklock.capability import CAPABILITIES
from docklock.cli.policy_questions import resolve_name
from docklock.policy.arguments import FULL_WIDTH, get_argument_count, get_width
from docklock.policy.compile import compile_policy, compute_arms
from docklock.policy.decision import Compiled
from docklock.policy.machines import MACHINES as MACHINE_TABLES
from docklock.policy.machines import get_machine
from docklock.policy.model import (
    GATED,
    OPERATORS,
    ArgumentTest,
    Condition,
    Model,
    RuleModel,
)
from docklock.policy.names import FLAGS
from docklock.policy.shipped import list_profiles
from tests.policy.bpf_interpreter import AARCH64, ALLOW, ERRNO, NOTIFY, X86_64, load, run
from tests.policy.policies import (
    CALLS,
    EDGES,
    MACHINES,
    capability_sets,
    compile_shipped,
    compile_text,
    models,
    registers,
)


def decide_slowly(
    model: Model, machine: str, capabilities: frozenset[str], nr: int, args: tuple[int, ...]
) -> tuple[str, int]:
    """The language's meaning, straight from the model: action and errno."""
    names = {number: name for name, number in get_machine(machine).numbers.items()}
    name = names.get(nr)
    if name is None or name.startswith("io_uring_"):
        return "closed", 38
    if name == "seccomp" and args[1] & 8:
        return "closed", 1

    def is_met(condition: Condition) -> bool:
        if condition.capability and condition.capability not in capabilities:
            return False
        for index, op, value, mask in condition.args:
            got = args[index] & get_width(name, index)
            held = {
                "==": got == value,
                "!=": got != value,
                "<": got < value,
                "<=": got <= value,
                ">": got > value,
                ">=": got >= value,
                "masked": got & mask == value,
                "any_bits": got & value != 0,
            }[op]
            if not held:
                return False
        return True

    for rule in model.rules:
        if name not in rule.syscalls:
            continue
        if rule.when is not None and not is_met(rule.when):
            continue
        if rule.unless is not None and is_met(rule.unless):
            continue
        return rule.action, rule.errno
    return model.default_action, model.default_errno


def get_verdict(action: str, errno: int) -> int:
    if action in GATED:
        return NOTIFY
    return ALLOW if action == "allow" else ERRNO | errno


def check_agreement(
    compiled: Compiled, model: Model, machine: str, held: frozenset[str], nr: int, args: tuple
) -> None:
    verdict = run(load(compiled.program), compiled.arch, nr, args)
    action, errno = decide_slowly(model, machine, held, nr, args)
    assert verdict == get_verdict(action, errno), (nr, args, hex(verdict), action)
    if verdict == NOTIFY:
        rule = compiled.decide(nr, args)
        assert (rule.action, rule.errno) == (action, errno)
        assert rule.op == f"syscall.{rule.name}"
        assert nr in compiled.rules


@given(models(), st.sampled_from(MACHINES), capability_sets, st.data())
def test_program_and_decide_agree_with_the_model(model, machine, held, data) -> None:
    compiled = compile_policy(model, get_machine(machine), held)
    numbers = get_machine(machine).numbers
    calls = [numbers[name] for name in CALLS if name in numbers]
    nr = data.draw(st.sampled_from(calls) | st.integers(0, 500))
    interesting = [
        test.value
        for rule in model.rules
        for condition in (rule.when, rule.unless)
        if condition
        for test in condition.args
    ]
    args = data.draw(registers)
    for value in interesting[:4]:
        at = data.draw(st.integers(0, 5))
        near = (value + data.draw(st.sampled_from((-1, 0, 1, 1 << 32)))) & ((1 << 64) - 1)
        args = (*args[:at], near, *args[at + 1 :])
    check_agreement(compiled, model, machine, held, nr, args)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", list_profiles())
@pytest.mark.parametrize("capabilities", [(), ("CAP_SYS_ADMIN", "CAP_SYS_PTRACE"), CAPABILITIES])
def test_shipped_programs_and_decide_agree_on_every_number(name, machine, capabilities) -> None:
    compiled = compile_shipped(name, machine, capabilities)
    program = load(compiled.program)
    arms = compute_arms_of(name, machine, capabilities)
    chosen = random.Random(2)
    for nr in range(600):
        tries = [(0,) * 6, *(tuple(chosen.choices(EDGES, k=6)) for _ in range(6))]
        tries += [(value, value, 0, 0, 0, 0) for value in FLAGS.values()] if nr in arms else []
        for args in tries:
            verdict = run(program, compiled.arch, nr, args)
            rule = compiled.decide(nr, args)
            assert (verdict == NOTIFY) == (nr in compiled.rules and rule.action in GATED)
            if verdict != NOTIFY and nr in compiled.arms:
                assert verdict == get_verdict(rule.action, rule.errno)


def compute_arms_of(name: str, machine: str, capabilities: tuple[str, ...]) -> dict[int, object]:
    model = resolve_name(name).model
    arms = compute_arms(model, get_machine(machine), frozenset(capabilities))
    return {nr: one for nr, one in arms.items() if len(one) > 1}


@pytest.mark.parametrize("name", list_profiles())
def test_other_machines_and_x32_numbers_are_unknown(name) -> None:
    for machine, own in (("x86_64", X86_64), ("aarch64", AARCH64)):
        program = load(compile_shipped(name, machine, CAPABILITIES).program)
        for arch in (X86_64, AARCH64, 0x40000003, 0x40000028, 0, 0xFFFFFFFF):
            for nr in (0, 1, 59, 221, 11):
                if arch != own:
                    assert run(program, arch, nr) == ERRNO | 38
        for nr in (0x40000000, 0x4000003B, 0x40000000 + 520, 0xFFFFFFFF, 463, 511, 1 << 31):
            assert run(program, own, nr) == ERRNO | 38


def test_no_policy_opens_io_uring_or_a_second_listener() -> None:
    model = Model("open", "", "allow", 0, (RuleModel(("seccomp",), "allow", 0, None, None),))
    for machine in MACHINE_TABLES:
        compiled = compile_policy(model, machine, frozenset(CAPABILITIES))
        program = load(compiled.program)
        for name in ("io_uring_setup", "io_uring_enter", "io_uring_register"):
            assert run(program, machine.audit, machine.numbers[name]) == ERRNO | 38
        seccomp = machine.numbers["seccomp"]
        for flags in (8, 9, 0xFFFFFFFF, (1 << 32) | 8):
            assert run(program, machine.audit, seccomp, (1, flags, 0, 0, 0, 0)) == ERRNO | 1
        assert run(program, machine.audit, seccomp, (1, 1, 0, 0, 0, 0)) == ALLOW


def test_high_bits_that_the_kernel_ignores_do_not_pass_a_comparison() -> None:
    program = load(compile_shipped("default").program)
    for family in (40, (1 << 32) | 40, (0xFFFFFFFF << 32) | 40):
        assert run(program, X86_64, 41, (family, 1, 0, 0, 0, 0)) == NOTIFY
    assert run(program, X86_64, 41, (2, 1, 0, 0, 0, 0)) == ALLOW
    for flags in (0x10000000, (1 << 32) | 0x10000000):
        assert run(program, X86_64, 56, (flags, 0, 0, 0, 0, 0)) == NOTIFY
    assert run(program, X86_64, 56, (1 << 32, 0, 0, 0, 0, 0)) == ALLOW


def test_jumps_beyond_255_instructions_are_right() -> None:
    """A body of its own for every call puts the upper half of the search, and the end, far away."""
    numbers = get_machine("x86_64").numbers
    skipped = ("exit", "io_uring", "restart_syscall", "rt_sigreturn", "seccomp")
    taken = sorted(name for name in numbers if not name.startswith(skipped) and has_number(name))
    lines = b""
    for i, name in enumerate(taken):
        test = f"{{index: 0, op: '==', value: {i + 1}}}"
        lines += f"  - {{syscalls: [{name}], action: allow, when: {{args: [{test}]}}}}\n".encode()
    compiled = compile_text(lines)
    program = load(compiled.program)
    trampolines = [at for at, one in enumerate(program) if one[0] == 5 and one[3] > 255]
    assert [at for at in trampolines if program[at - 1][0] == 0x35], "no far jump in the search"
    for i, name in enumerate(taken):
        for value in (i, i + 1, i + 2):
            verdict = ALLOW if value == i + 1 else NOTIFY
            assert run(program, X86_64, numbers[name], (value,) * 6) == verdict, name
    assert run(program, AARCH64, 0) == run(program, X86_64, 1 << 30) == ERRNO | 38
    assert run(program, X86_64, 400) == ERRNO | 38


def has_number(name: str) -> bool:
    """Whether its first argument can be told from others by more than 16 bits."""
    return get_argument_count(name) > 0 and get_width(name, 0) >= 0xFFFFFFFF


WIDTHS = (("lseek", 1), ("socket", 0), ("fchmod", 1))  # 64, 32 and 16 bits


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize(("name", "index"), WIDTHS)
@pytest.mark.parametrize("is_unless", [False, True])
def test_every_comparison_at_every_edge(op, name, index, is_unless) -> None:
    """Program, decide() and the language's meaning, on both sides of every edge."""
    width = get_width(name, index)
    machine = get_machine("x86_64")
    nr = machine.numbers[name]
    for value in sorted({edge & width for edge in EDGES}):
        if op == "any_bits" and value == 0:
            continue
        mask = 0
        if op == "masked":
            mask = (value | value << 1 | 1) & width
        condition = Condition("", (ArgumentTest(index, op, value, mask),))
        when, unless = (None, condition) if is_unless else (condition, None)
        rules = (RuleModel((name,), "record", 0, when, unless),)
        model = Model("edges", "", "deny", 1, rules)
        compiled = compile_policy(model, machine, frozenset())
        allowing = compile_policy(model._replace(default_action="allow"), machine, frozenset())
        near = {(value + step) & FULL_WIDTH for step in (-1, 0, 1, 1 << 32, -(1 << 32), 1 << 16)}
        for register in sorted({*EDGES, *near}):
            args = tuple(register if i == index else 0 for i in range(6))
            check_agreement(compiled, model, "x86_64", frozenset(), nr, args)
            hit = decide_slowly(model, "x86_64", frozenset(), nr, args)[0] == "record"
            verdict = run(load(allowing.program), X86_64, nr, args)
            assert verdict == (NOTIFY if hit else ALLOW), (value, register)


CAPABILITY_CONDITIONS = {
    # key, condition, does the container hold it -> does the rule apply
    ("when", True): True, ("when", False): False, ("unless", True): False, ("unless", False): True,
}  # fmt: skip


@pytest.mark.parametrize(("key", "holds"), CAPABILITY_CONDITIONS)
def test_capabilities_are_decided_when_compiling(key, holds) -> None:
    applies = CAPABILITY_CONDITIONS[key, holds]
    held = ("CAP_SYS_ADMIN",) if holds else ("CAP_KILL",)
    text = f"  - {{syscalls: [mount], action: allow, {key}: {{capability: CAP_SYS_ADMIN}}}}\n"
    program = load(compile_text(text.encode(), "x86_64", held).program)
    assert run(program, X86_64, 165) == (ALLOW if applies else NOTIFY)
    both = "{capability: CAP_SYS_ADMIN, args: [{index: 3, op: any_bits, value: 0x100000000}]}"
    text = f"  - {{syscalls: [mount], action: allow, {key}: {both}}}\n"
    program = load(compile_text(text.encode(), "x86_64", held).program)
    for register, met in ((0, False), (1 << 32, True), (1, False)):
        applies = (holds and met) == (key == "when")
        verdict = run(program, X86_64, 165, (0, 0, 0, register, 0, 0))
        assert verdict == (ALLOW if applies else NOTIFY), (register, held)


def test_a_program_the_kernel_would_refuse_is_a_spec_error() -> None:
    tests = ", ".join(f"{{index: 0, op: '!=', value: {j + 5_000_000_000}}}" for j in range(16))
    lines = b""
    for i in range(100):
        one = f"{{index: 0, op: '==', value: {i}}}"
        for action, args in (("deny", tests), ("allow", one)):
            lines += (
                f"  - {{syscalls: [brk], action: {action}, when: {{args: [{args}]}}}}\n".encode()
            )
    with pytest.raises(SpecError, match="4096"):
        compile_text(lines)


def test_calls_that_are_always_allowed_load_no_argument() -> None:
    """Else the kernel's allow cache (5.11) would not skip the program for them."""
    compiled = compile_shipped("default")
    lines = load(compiled.program)
    for name in ("read", "write", "openat", "futex", "mmap", "close"):
        nr = get_machine("x86_64").numbers[name]
        at = 0
        while lines[at][0] != 6:
            code, jt, jf, k = lines[at]
            assert code != 0x20 or k in (0, 4), name
            value = X86_64 if at < 2 else nr
            held = value == k if code == 0x15 else value >= k
            at += 1 + (k if code == 5 else 0 if code == 0x20 else jt if held else jf)
        assert lines[at][3] == ALLOW


def test_closed_names_what_fails_without_a_receipt() -> None:
    closed = compile_shipped("default").closed
    for name in ("abi.foreign", "abi.x32", "clone3", "io_uring_setup", "number.unknown"):
        assert name in closed
    assert "seccomp (conditional)" in closed
    assert list(closed) == sorted(closed)
    assert "abi.x32" not in compile_shipped("default", "aarch64").closed
