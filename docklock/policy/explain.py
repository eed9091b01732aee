"""Which rule decides a call and why: every rule on it, and each of its conditions, yes or no.

Not here: printing (docklock/cli), deciding for the kernel (compile.py). Pure.
An argument that is not given is unknown: a comparison of it is None, and so may be the answer.
Invariant: with all registers given, the answer is decide()'s (tests/policy/test_explain.py).
"""

from __future__ import annotations

from typing import NamedTuple

from docklock.policy.arguments import get_width
from docklock.policy.compile import PREAMBLE, STRICTNESS
from docklock.policy.i386 import MULTIPLEXERS, SAME, Counterpart, get_counterpart
from docklock.policy.inherit import Origin, Resolved
from docklock.policy.model import ArgumentTest, Condition, RuleModel
from docklock.policy.names import ERRNOS

EVERY_POLICY = Origin("", "every policy", 0)
UNKNOWN = ("closed", ERRNOS["ENOSYS"])

Args = tuple[int | None, ...]


class Step(NamedTuple):
    """One rule that names the call. `applies` is None where an argument that decides is unknown."""

    origin: Origin
    action: str
    errno: int
    applies: bool | None
    reasons: tuple[tuple[str, bool | None], ...]  # a condition in words, and whether it holds


class Explanation(NamedTuple):
    """`answers` are what may happen, in order; one, if it is certain. `note` says what is odd."""

    call: str
    steps: tuple[Step, ...]
    answers: tuple[tuple[str, int], ...]
    note: str


def explain_call(
    resolved: Resolved, name: str, args: Args, capabilities: frozenset[str], *, is_i386: bool
) -> Explanation:
    """Why the call `name` with these registers (six, None: not given) is treated as it is."""
    if not is_i386:
        return _explain(resolved, name, Counterpart(name, SAME), args, capabilities)
    if "i386" not in resolved.model.architectures:
        return Explanation(name, (), (UNKNOWN,), "the policy has no architectures: [i386]")
    rules = [rule for rule in resolved.model.rules if _may_apply(rule, capabilities)]
    named = {call for rule in rules for call in rule.syscalls}
    if name not in MULTIPLEXERS or name in named:
        return _explain(resolved, name, get_counterpart(name), args, capabilities)
    mask, calls = MULTIPLEXERS[name]
    if args[0] is None:
        return Explanation(name, (), (), f"argument 0 says which call it is: {_list(calls)}")
    inner = calls.get(args[0] & mask)
    if inner is None:
        return Explanation(name, (), (UNKNOWN,), f"no call of {name} has the number {args[0]}")
    found = _explain(resolved, inner, Counterpart(inner, 0), (None,) * 6, capabilities)
    return found._replace(call=name, note=f"it is {inner} here. {found.note}".strip())


def _explain(
    resolved: Resolved, name: str, other: Counterpart, args: Args, capabilities: frozenset[str]
) -> Explanation:
    """The rules on `name` and on its counterpart in order, up to the one that surely applies."""
    rules = [(rule, EVERY_POLICY) for rule in PREAMBLE]
    rules += zip(resolved.model.rules, resolved.origins, strict=True)
    own = [(rule, origin) for rule, origin in rules if {name, other.name} & set(rule.syscalls)]
    strictest = _compares_above(other.changed, [rule for rule, _ in own], capabilities)
    known = (None,) * 6 if strictest else args
    steps: list[Step] = []
    for rule, origin in own:
        called = name if name in rule.syscalls else other.name
        steps.append(_judge(rule, origin, called, known, capabilities))
        if steps[-1].applies:
            break
    else:
        model = resolved.model
        end = Step(resolved.default_origin, model.default_action, model.default_errno, True, ())
        steps.append(end)
    answers = dict.fromkeys((s.action, s.errno) for s in steps if s.applies is not False)
    if not strictest:
        return Explanation(name, tuple(steps), tuple(answers), "")
    hardest = max(answers, key=lambda answer: STRICTNESS.index(answer[0]))
    note = "i386 has no register to compare, so the strictest of these decides"
    return Explanation(name, tuple(steps), (hardest,), note)


def _compares_above(changed: int, rules: list[RuleModel], capabilities: frozenset[str]) -> bool:
    """Whether one of these rules that can decide looks at a register from `changed` on."""
    for rule in rules:
        step = _judge(rule, EVERY_POLICY, rule.syscalls[0], (None,) * 6, capabilities)
        if step.applies is False:
            continue
        for condition in (rule.when, rule.unless):
            if condition is None or (condition.capability or "") not in {"", *capabilities}:
                continue  # an `unless` whose capability is not held never spares a call
            if any(test.argument >= changed for test in condition.args):
                return True
        if step.applies:
            return False  # no later rule is reached
    return False


def _may_apply(rule: RuleModel, capabilities: frozenset[str]) -> bool:
    step = _judge(rule, EVERY_POLICY, rule.syscalls[0], (None,) * 6, capabilities)
    return step.applies is not False


def _judge(
    rule: RuleModel, origin: Origin, name: str, args: Args, capabilities: frozenset[str]
) -> Step:
    reasons: list[tuple[str, bool | None]] = []
    verdicts: list[bool | None] = []
    for key, condition in (("when", rule.when), ("unless", rule.unless)):
        if condition is not None:
            parts = _check(condition, name, args, capabilities)
            reasons += [(f"{key} {text}", held) for text, held in parts]
            met = _all([held for _, held in parts])
            verdicts.append(met if key == "when" or met is None else not met)
    return Step(origin, rule.action, rule.errno, _all(verdicts), tuple(reasons))


def _all(verdicts: list[bool | None]) -> bool | None:
    """False if one is, None if one is not known, else True."""
    if False in verdicts:
        return False
    return None if None in verdicts else True


def _check(
    condition: Condition, name: str, args: Args, capabilities: frozenset[str]
) -> list[tuple[str, bool | None]]:
    """Each part of the condition in words, and whether it holds."""
    parts: list[tuple[str, bool | None]] = []
    if condition.capability:
        held = condition.capability in capabilities
        parts.append((f"the container has {condition.capability}", held))
    for test in condition.args:
        parts.append((_describe(test), _compare(test, name, args[test.argument])))
    return parts


def _describe(test: ArgumentTest) -> str:
    if test.op == "masked":
        return f"arg{test.argument} & {test.mask:#x} == {test.value:#x}"
    if test.op == "any_bits":
        return f"arg{test.argument} has any bit of {test.value:#x}"
    return f"arg{test.argument} {test.op} {test.value:#x}"


def _compare(test: ArgumentTest, name: str, value: int | None) -> bool | None:
    """The language's meaning, in the bits at which the kernel looks."""
    if value is None:
        return None
    got = value & get_width(name, test.argument)
    if test.op == "masked":
        return got & test.mask == test.value
    if test.op == "any_bits":
        return got & test.value != 0
    return {
        "==": got == test.value,
        "!=": got != test.value,
        "<": got < test.value,
        "<=": got <= test.value,
        ">": got > test.value,
        ">=": got >= test.value,
    }[test.op]


def _list(calls: dict[int, str]) -> str:
    return ", ".join(f"{value} {call}" for value, call in calls.items())
