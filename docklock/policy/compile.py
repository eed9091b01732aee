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
from docklock.policy.decision import Arm, Check, Compiled, Rule, compute_key
from docklock.policy.i386 import MULTIPLEXERS, get_counterpart
from docklock.policy.machines import ARCHITECTURES, Machine
from docklock.policy.model import GATED, ArgumentTest, Condition, Model, RuleModel, encode_model
from docklock.policy.names import ERRNOS
from docklock.policy.program import build_program

DIGEST_DOMAIN = b"docklock policy 2\n"

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

# From the mildest to the hardest.
STRICTNESS = ("allow", "record", "hold", "closed", "deny", "kill")

Section = tuple[Machine, dict[int, tuple[Arm, ...]]]  # arms by number

_OPERATORS = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


def compile_policy(model: Model, machine: Machine, capabilities: frozenset[str]) -> Compiled:
    """The program and decision table of `model`. SpecError if the kernel would refuse its size."""
    sections = compute_sections(model, machine, capabilities)
    program = build_program(sections)
    if len(program) > bpf.INSTRUCTIONS_MAX:
        raise SpecError(
            f"policy {model.name}: {len(program)} instructions, the kernel takes"
            f" {bpf.INSTRUCTIONS_MAX}: use fewer conditions on arguments"
        )
    data = bpf.encode_program(program)
    arms = {
        compute_key(one.audit, nr, machine.audit): turn
        for one, turns in sections
        for nr, turn in turns.items()
    }
    return Compiled(
        name=model.name,
        digest=compute_digest(encode_model(model), data),
        program=data,
        arch=machine.audit,
        rules=_pick_rules(arms),
        arms={key: one for key, one in arms.items() if len(one) > 1 and _is_gated(one)},
        closed=_name_closed(sections),
        kills_on_worker_death=model.on_worker_death == "kill",
        architectures=tuple(one.name for one, _ in sections[1:]),
    )


def compute_digest(model: bytes, program: bytes) -> bytes:
    """SHA-256(domain || u32 length of the model || model || program), length big-endian."""
    return hashlib.sha256(DIGEST_DOMAIN + len(model).to_bytes(4, "big") + model + program).digest()


def compute_sections(
    model: Model, machine: Machine, capabilities: frozenset[str]
) -> tuple[Section, ...]:
    """The arms of the machine's own calls, then those of each other architecture it runs."""
    sections = [(machine, compute_arms(model, machine, capabilities))]
    for name in model.architectures:
        runs_on, other = ARCHITECTURES[name]
        if runs_on == machine.name:
            sections.append((other, _compute_i386(model, other, capabilities)))
    return tuple(sections)


def compute_arms(
    model: Model, machine: Machine, capabilities: frozenset[str]
) -> dict[int, tuple[Arm, ...]]:
    """For each number the machine knows, in order: what to check, ending in an arm without."""
    calls = _Calls(model, capabilities)
    by_number = sorted((number, name) for name, number in machine.numbers.items())
    return {nr: calls.compute(name, name) for nr, name in by_number}


class _Calls:
    """The rules that may apply to each call, in order."""

    def __init__(self, model: Model, capabilities: frozenset[str]) -> None:
        self.model = model
        self.capabilities = capabilities
        self.rules: dict[str, list[tuple[int, RuleModel]]] = {}
        for position, rule in enumerate(PREAMBLE + model.rules):
            if _may_apply(rule, capabilities):
                for name in rule.syscalls:
                    self.rules.setdefault(name, []).append((position, rule))

    def compute(self, name: str, other: str) -> tuple[Arm, ...]:
        """The arms of a call that is named `name` and `other`: a rule on either is on it."""
        found = [(position, name, rule) for position, rule in self.rules.get(name, ())]
        if other != name:
            found += [(position, other, rule) for position, rule in self.rules.get(other, ())]
            found.sort(key=lambda one: one[0])
        arms = []
        for _, called, rule in found:
            arm = _make_arm(called, rule, self.capabilities)
            arms.append(arm)
            if not arm.when and not arm.unless:
                return tuple(arms)
        model = self.model
        arms.append(Arm((), (), _make_rule(other, model.default_action, model.default_errno)))
        return tuple(arms)


def _compute_i386(
    model: Model, machine: Machine, capabilities: frozenset[str]
) -> dict[int, tuple[Arm, ...]]:
    """Each call as its counterpart, a multiplexer as what it does, unless rules name it itself.

    Where a comparison is of a register that i386 uses otherwise, the strictest rule stands alone.
    """
    calls = _Calls(model, capabilities)
    found: dict[int, tuple[Arm, ...]] = {}
    for number, name in sorted((number, name) for name, number in machine.numbers.items()):
        if name in MULTIPLEXERS and name not in calls.rules:
            mask, inner = MULTIPLEXERS[name]
            rules = {value: _get_strictest(calls.compute(one, one)) for value, one in inner.items()}
            found[number] = _make_multiplexed(name, mask, rules)
            continue
        other = get_counterpart(name)
        arms = calls.compute(name, other.name)
        tests = [test for arm in arms for test in arm.when + arm.unless]
        if any(test.argument >= other.changed for test in tests):
            arms = (Arm((), (), _get_strictest(arms)),)
        found[number] = tuple(
            arm._replace(rule=_rename(arm.rule, name, other.changed)) for arm in arms
        )
    return found


def _get_strictest(arms: tuple[Arm, ...]) -> Rule:
    """What to do where the registers that decide cannot be read: the hardest of it all."""
    return max((arm.rule for arm in arms), key=lambda rule: STRICTNESS.index(rule.action))


def _make_multiplexed(name: str, mask: int, calls: dict[int, Rule]) -> tuple[Arm, ...]:
    """One arm for each value of argument 0; a value that no call has is as an unknown number."""
    arms = [
        Arm((Check(0, "eq", mask, value),), (), _rename(rule, name, 0))
        for value, rule in calls.items()
    ]
    return (*arms, Arm((), (), _make_rule(name, "closed", ERRNOS["ENOSYS"])))


def _rename(rule: Rule, name: str, changed: int) -> Rule:
    """`rule` for i386's call `name`: pointers have 32 bits, strings are below `changed`."""
    strings = tuple(
        (index, "argv32" if kind == "argv" else kind)
        for index, kind in rule.strings
        if index < changed
    )
    return rule._replace(name=name, op=f"syscall.{name}", strings=strings)


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
        tuple(make_check(name, test) for test in when),
        tuple(make_check(name, test) for test in unless),
        _make_rule(name, rule.action, rule.errno, rule.masks),
    )


def _make_rule(name: str, action: str, errno: int, masks: tuple[str, ...] = ()) -> Rule:
    known = get_strings(name) if action in GATED else {}
    strings = tuple(place for label, place in known.items() if label not in masks)
    masked = tuple(label for label in known if label in masks)
    return Rule(name, f"syscall.{name}", action, errno, strings, masked)


def make_check(name: str, test: ArgumentTest) -> Check:
    """The comparison in the bits that the kernel reads of this call's argument."""
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


def _name_closed(sections: tuple[Section, ...]) -> tuple[str, ...]:
    names = [CLOSED_FOREIGN, CLOSED_UNKNOWN]
    if sections[0][0].foreign_from:
        names.append(CLOSED_X32)
    for position, (machine, arms) in enumerate(sections):
        prefix = f"{machine.name}." if position else ""
        for one in arms.values():
            closed = [arm for arm in one if arm.rule.action == "closed"]
            if closed:
                tail = CLOSED_CONDITIONAL if len(one) > 1 else ""
                names.append(prefix + closed[0].rule.name + tail)
    return tuple(sorted(names))
