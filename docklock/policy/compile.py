"""Canonical model, machine and capabilities -> seccomp program and the arms of decide().

Not here: YAML (parse.py), the program's shape (program.py), installing it (docklock/kernel). Pure:
no clock, no file, no environment; the same input gives the same bytes everywhere.
Invariant: what is compiled to BPF and what decide() walks are the same arms.
"""

from __future__ import annotations

import hashlib

from chainlite.errors import SpecError
from docklock.policy import bpf
from docklock.policy.arguments import get_strings, get_width
from docklock.policy.decision import Arm, Check, Compiled, Rule
from docklock.policy.machines import Machine
from docklock.policy.model import GATED, ArgumentTest, Condition, Model, RuleModel, encode_model
from docklock.policy.names import ERRNOS
from docklock.policy.program import build_program

DIGEST_DOMAIN = b"docklock policy 1\n"

# What no profile can take away (CAPTURE.md): a listener of the container's own could answer for
# us, and io_uring does calls past the filter. io_uring answers ENOSYS, not Docker's EPERM: that is
# what a kernel without it says, and libraries then take their other path.
ALWAYS_CLOSED = ("io_uring_enter", "io_uring_register", "io_uring_setup")
_NEW_LISTENER = Condition("", (ArgumentTest(1, "any_bits", 8, 0),))
PREAMBLE: tuple[RuleModel, ...] = (
    RuleModel(ALWAYS_CLOSED, "closed", ERRNOS["ENOSYS"], None, None),
    RuleModel(("seccomp",), "closed", ERRNOS["EPERM"], _NEW_LISTENER, None),
)
CLOSED_FOREIGN = "abi.foreign"
CLOSED_X32 = "abi.x32"
CLOSED_UNKNOWN = "number.unknown"
CLOSED_CONDITIONAL = " (conditional)"

_OPERATORS = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


def compile_policy(model: Model, machine: Machine, capabilities: frozenset[str]) -> Compiled:
    """The program and decision table of `model`. SpecError if the kernel would refuse its size."""
    arms = compute_arms(model, machine, capabilities)
    program = build_program(arms, machine)
    if len(program) > bpf.INSTRUCTIONS_MAX:
        raise SpecError(
            f"policy {model.name}: {len(program)} instructions, the kernel takes"
            f" {bpf.INSTRUCTIONS_MAX}: use fewer conditions on arguments"
        )
    data = bpf.encode_program(program)
    return Compiled(
        name=model.name,
        digest=compute_digest(encode_model(model), data),
        program=data,
        arch=machine.audit,
        rules=_pick_rules(arms),
        arms={nr: one for nr, one in arms.items() if len(one) > 1 and _is_gated(one)},
        closed=_name_closed(arms, machine),
    )


def compute_digest(model: bytes, program: bytes) -> bytes:
    """SHA-256(domain || u32 length of the model || model || program), length big-endian."""
    return hashlib.sha256(DIGEST_DOMAIN + len(model).to_bytes(4, "big") + model + program).digest()


def compute_arms(
    model: Model, machine: Machine, capabilities: frozenset[str]
) -> dict[int, tuple[Arm, ...]]:
    """For each number the machine knows, in order: what to check, ending in an arm without."""
    found: dict[str, list[Arm]] = {name: [] for name in machine.numbers}
    done: set[str] = set()
    for rule in PREAMBLE + model.rules:
        if not _may_apply(rule, capabilities):
            continue
        for name in rule.syscalls:
            if name in found and name not in done:
                arm = _make_arm(name, rule, capabilities)
                found[name].append(arm)
                if not arm.when and not arm.unless:
                    done.add(name)
    for name, arms in found.items():
        if name not in done:
            arms.append(Arm((), (), _make_rule(name, model.default_action, model.default_errno)))
    by_number = sorted((number, name) for name, number in machine.numbers.items())
    return {number: tuple(found[name]) for number, name in by_number}


def _may_apply(rule: RuleModel, capabilities: frozenset[str]) -> bool:
    """Capabilities are known now: False if the rule can apply to no call of this container."""
    if rule.when and rule.when.capability and rule.when.capability not in capabilities:
        return False
    unless = rule.unless
    if unless is None or unless.args:
        return True
    return unless.capability not in capabilities


def _make_arm(name: str, rule: RuleModel, capabilities: frozenset[str]) -> Arm:
    when = rule.when.args if rule.when else ()
    unless: tuple[ArgumentTest, ...] = ()
    if rule.unless and rule.unless.args:
        named = rule.unless.capability
        unless = rule.unless.args if not named or named in capabilities else ()
    return Arm(
        tuple(_make_check(name, test) for test in when),
        tuple(_make_check(name, test) for test in unless),
        _make_rule(name, rule.action, rule.errno),
    )


def _make_rule(name: str, action: str, errno: int) -> Rule:
    strings = get_strings(name) if action in GATED else ()
    return Rule(name, f"syscall.{name}", action, errno, strings)


def _make_check(name: str, test: ArgumentTest) -> Check:
    width = get_width(name, test.argument)
    if test.op == "masked":
        return Check(test.argument, "eq", test.mask & width, test.value)
    if test.op == "any_bits":
        return Check(test.argument, "any", width, test.value)
    return Check(test.argument, _OPERATORS[test.op], width, test.value)


def _is_gated(arms: tuple[Arm, ...]) -> bool:
    return any(arm.rule.action in GATED for arm in arms)


def _pick_rules(arms: dict[int, tuple[Arm, ...]]) -> dict[int, Rule]:
    """The first gated rule of each call that has one."""
    picked = {}
    for number, one in arms.items():
        gated = [arm.rule for arm in one if arm.rule.action in GATED]
        if gated:
            picked[number] = gated[0]
    return picked


def _name_closed(arms: dict[int, tuple[Arm, ...]], machine: Machine) -> tuple[str, ...]:
    names = [CLOSED_FOREIGN, CLOSED_UNKNOWN]
    if machine.foreign_from:
        names.append(CLOSED_X32)
    for one in arms.values():
        closed = [arm for arm in one if arm.rule.action == "closed"]
        if closed:
            names.append(closed[0].rule.name + (CLOSED_CONDITIONAL if len(one) > 1 else ""))
    return tuple(sorted(names))
