"""The smallest change to a policy that lets a refused call through and keeps a receipt of it. Pure.

It is one rule, `record`, ahead of what refuses the call; where rules on the call look at registers,
it is for their values alone. It stands at the top of a document of its own, that extends the policy
as it is, or of a document that is there, whose every other byte stays.
Not here: where documents lie and who may write them (docklock.console.host_policy).
Invariant: what is proposed resolves and lets that call through with a receipt, or there is no
proposal (tests/policy/test_propose.py).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from chainlite.errors import SpecError
from docklock.policy.arguments import get_width
from docklock.policy.compile import ALWAYS_CLOSED
from docklock.policy.explain import explain_call
from docklock.policy.inherit import resolve_policy
from docklock.policy.machines import is_syscall
from docklock.policy.model import ArgumentTest, Condition, RuleModel
from docklock.policy.write import format_rule
from docklock.policy.yaml_nodes import Source, parse_nodes

if TYPE_CHECKING:
    from docklock.policy.explain import Args, Explanation, Step
    from docklock.policy.inherit import Read, Resolved

REFUSED = ("closed", "deny", "kill")
_NEEDS = "when the container has "


class Refusal(NamedTuple):
    """What refuses a call now; `why_not` says why no rule is proposed, or nothing."""

    step: Step | None
    why_not: str = ""


def find_refusal(
    resolved: Resolved,
    default: Resolved,
    call: str,
    args: tuple[int, ...],
    capabilities: frozenset[str],
) -> Refusal:
    """What refuses the machine's own call `call` with these registers under `resolved`.

    `default` is the profile of that name: it knows which calls the kernel wants a capability for.
    """
    if call in ALWAYS_CLOSED:
        return Refusal(None, f"{call} is closed in every policy: it acts past the filter")
    if not is_syscall(call):
        return Refusal(None, "no rule can name what no table knows")
    found = explain_call(resolved, call, args, capabilities, is_i386=False)
    step = found.steps[-1] if found.steps else None
    if step is None or step.action not in REFUSED:
        return Refusal(step, "the policy lets it through by now: from its next start on")
    if not step.origin.line:
        return Refusal(step, "it is closed in every policy")
    for one in (found, explain_call(default, call, args, capabilities, is_i386=False)):
        missing = _find_missing(one)
        if missing:
            short = missing.removeprefix("CAP_")
            return Refusal(
                step,
                f"it is for containers with {missing}, which this one has not: that is "
                f"docklock run --cap-add {short}, not a rule",
            )
    return Refusal(step)


def _find_missing(found: Explanation) -> str:
    """The capability that alone keeps a rule from letting the call through; or nothing."""
    for step in found.steps:
        failed = [text for text, held in step.reasons if held is False]
        if step.applies is False and step.action not in REFUSED and len(failed) == 1:
            (text,) = failed
            if text.startswith(_NEEDS):
                return text.removeprefix(_NEEDS)
    return ""


def find_tests(
    resolved: Resolved, call: str, args: tuple[int, ...], capabilities: frozenset[str]
) -> tuple[ArgumentTest, ...]:
    """What the rules on the call, up to the one that decides, look at: as tests of these values."""
    tests: dict[ArgumentTest, None] = {}
    for rule in resolved.model.rules:
        if call not in rule.syscalls or not _is_held(rule.when, capabilities):
            continue
        for condition in (rule.when, rule.unless):
            if condition is not None and _is_held(condition, capabilities):
                tests.update(dict.fromkeys(_narrow(test, call, args) for test in condition.args))
        if rule.when is None and rule.unless is None:
            break
    return tuple(tests)


def _is_held(condition: Condition | None, capabilities: frozenset[str]) -> bool:
    return condition is None or condition.capability in {"", *capabilities}


def _narrow(test: ArgumentTest, call: str, args: Args) -> ArgumentTest:
    """A test that holds for this value, and for no other that `test` could tell from it."""
    index, op, value, mask = test
    got = (args[index] or 0) & get_width(call, index)
    if op == "masked":
        return ArgumentTest(index, "masked", got & mask, mask)
    if op == "any_bits":
        return ArgumentTest(index, "masked", got & value, value)
    if op in ("==", "!=") and value == 0 and got:
        return ArgumentTest(index, "!=", 0, 0)  # whatever there is; it may be a pointer
    return ArgumentTest(index, "==", got, 0)


def make_rule(call: str, tests: tuple[ArgumentTest, ...]) -> RuleModel:
    """The rule that records the call where all of these hold."""
    return RuleModel((call,), "record", 0, Condition("", tests) if tests else None, None)


def make_document(name: str, base: str, rule: RuleModel, comments: tuple[str, ...]) -> bytes:
    """A document that extends `base` (a profile, or a file's full path) with this rule first."""
    lines = [f"# {line}" for line in comments]
    lines += [f"name: {name}", f"extends: {json.dumps(base, ensure_ascii=False)}", "", "rules:"]
    return "".join(f"{line}\n" for line in (*lines, *format_rule(rule))).encode()


def insert_rule(data: bytes, where: str, rule: RuleModel) -> bytes | None:
    """The document with this rule as its first; None where its rules are not a block of lines."""
    root = parse_nodes(data, Source(where))
    found = [(key, value) for key, value in root.value if key.value == "rules"]
    lines = data.split(b"\n")
    if not found:
        end = b"" if data.endswith(b"\n") or not data else b"\n"
        return data + end + b"\nrules:\n" + _indent(rule, b"  ")
    ((key, value),) = found
    if value.kind != "sequence" or not value.value:
        return None
    first = lines[value.value[0].line - 1]
    space = first[: len(first) - len(first.lstrip(b" "))]
    if value.value[0].line == key.line or not first.lstrip(b" ").startswith(b"- "):
        return None
    head, rest = lines[: key.line], lines[key.line :]
    return b"\n".join(head) + b"\n" + _indent(rule, space) + b"\n".join(rest)


def _indent(rule: RuleModel, space: bytes) -> bytes:
    return b"".join(space + line[2:].encode() + b"\n" for line in format_rule(rule))


def is_opened(
    data: bytes,
    where: str,
    read: Read,
    call: str,
    args: tuple[int, ...],
    capabilities: frozenset[str],
) -> bool:
    """Whether the document resolves, and records the call with these registers."""
    try:
        resolved = resolve_policy(data, where, read)
    except SpecError:
        return False
    found = explain_call(resolved, call, args, capabilities, is_i386=False)
    return {action for action, _ in found.answers} == {"record"}
