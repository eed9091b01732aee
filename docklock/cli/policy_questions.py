"""`docklock policy explain` and `diff`: which rule decides and why; what another policy changes.

Not here: the answers (docklock/policy/explain.py, diff.py). `diff` exits 1 if the second policy is
looser than the first, as diff(1) does for files that differ; 0 if it is not; 2 for a mistake.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from chainlite.errors import SpecError
from docklock.policy.load import read_base, read_source
from docklock.policy.machines import ARCHITECTURES, find_architecture, get_machine, is_syscall
from docklock.policy.model import GATED
from docklock.policy.names import FLAGS
from docklock.policy.shipped import find_policy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from docklock.policy.diff import Change
    from docklock.policy.explain import Explanation, Step
    from docklock.policy.inherit import Resolved

ARGUMENTS = 6
VERDICTS = {True: "yes", False: "no", None: "unknown"}
TITLES = {
    "allows": "newly allowed",
    "hides": "with less of a receipt",
    "unclear": "not to be compared, so perhaps looser",
    "refuses": "newly refused",
    "records": "with more of a receipt",
    "other": "otherwise changed",
}


def resolve_name(name: str) -> Resolved:
    """The policy that a user's word means, with what it extends."""
    from docklock.policy.inherit import resolve_policy

    path = find_policy(name)
    return resolve_policy(read_source(path), path, read_base)


def run_explain(
    policy: str, machine: str, words: list[str], capabilities: Iterable[str], *, is_json: bool
) -> int:
    """`words` are a system call, by name or number, and its arguments."""
    from docklock.policy.explain import explain_call

    is_i386 = machine in ARCHITECTURES
    table = ARCHITECTURES[machine][1] if is_i386 else get_machine(machine)
    name = _find_syscall(words[0], table.numbers)
    args = _parse_args(words[1:])
    resolved = resolve_name(policy)
    found = explain_call(resolved, name, args, frozenset(capabilities), is_i386=is_i386)
    call = f"{name}({', '.join(words[1:])})"
    if name not in table.numbers:
        found = found._replace(steps=(), answers=(("closed", 38),), note=f"{machine} lacks it")
    if is_json:
        _print_json(_view_explanation(found, call, machine, resolved))
        return 0
    print(f"{call} under {resolved.model.name} on {machine}: {_format_answers(found)}")
    for step in found.steps:
        _print_step(step)
    if found.note:
        print(f"  ({found.note})")
    return 0


def run_diff(names: list[str], machine: str, capabilities: Iterable[str], *, is_json: bool) -> int:
    """Print what the second policy changes; 1 if it is looser than the first."""
    from docklock.policy.diff import compare_policies, is_looser

    before, after = (resolve_name(name).model for name in names)
    changes = compare_policies(before, after, get_machine(machine), frozenset(capabilities))
    if is_json:
        _print_json({"looser": is_looser(changes), "changes": [_view(one) for one in changes]})
    else:
        _print_changes(changes)
    return 1 if is_looser(changes) else 0


def _print_json(document: object) -> None:
    import json

    sys.stdout.write(json.dumps(document) + "\n")


def _find_syscall(word: str, numbers: dict[str, int]) -> str:
    """The name of a call that the user names or numbers."""
    if word.isdigit():
        for name, number in numbers.items():
            if number == int(word):
                return name
        raise SpecError(f"no system call has the number {word}: it answers ENOSYS in every policy")
    if not is_syscall(word) and not find_architecture(word):
        from docklock.policy.parse_words import suggest

        raise SpecError(f"no system call is called {word!r}{suggest(word, tuple(numbers))}")
    return word


def _parse_args(words: list[str]) -> tuple[int | None, ...]:
    """Numbers, names of constants, several joined by |; `_` is an argument that is not known."""
    if len(words) > ARGUMENTS:
        raise SpecError(f"{len(words)} arguments; a system call has at most {ARGUMENTS}")
    values = [None if word == "_" else _parse_arg(word) for word in words]
    return tuple(values) + (None,) * (ARGUMENTS - len(values))


def _parse_arg(word: str) -> int:
    value = 0
    for part in word.split("|"):
        if part in FLAGS:
            value |= FLAGS[part]
            continue
        try:
            value |= int(part, 0) & 0xFFFFFFFFFFFFFFFF
        except ValueError:
            from docklock.policy.parse_words import suggest

            near = suggest(part, tuple(FLAGS))
            raise SpecError(f"argument {word!r}: {part!r} is no number{near}") from None
    return value


def format_treatment(action: str, errno: int) -> str:
    """As `deny EPERM`."""
    from docklock.policy.write import get_errno_name

    return f"{action} {get_errno_name(errno)}" if errno else action


def _format_answers(found: Explanation) -> str:
    if not found.answers:
        return "it depends"
    words = " or ".join(format_treatment(*answer) for answer in found.answers)
    if len(found.answers) > 1:
        return f"{words}: it depends on arguments that are not given"
    return f"{words}, {'with' if found.answers[0][0] in GATED else 'without'} a receipt"


def _print_step(step: Step) -> None:
    where = f"{step.origin.where}:{step.origin.line}" if step.origin.line else step.origin.policy
    verdict = {True: "applies", False: "does not apply", None: "may apply"}[step.applies]
    treatment = format_treatment(step.action, step.errno)
    print(f"  {where}: {treatment} ({step.origin.policy}): {verdict}")
    for text, held in step.reasons:
        print(f"      {text}: {VERDICTS[held]}")


def _view_explanation(
    found: Explanation, call: str, machine: str, resolved: Resolved
) -> dict[str, object]:
    return {
        "call": call,
        "policy": resolved.model.name,
        "architecture": machine,
        "answers": [format_treatment(*answer) for answer in found.answers],
        "note": found.note,
        "rules": [
            {
                "file": step.origin.where,
                "line": step.origin.line,
                "policy": step.origin.policy,
                "does": format_treatment(step.action, step.errno),
                "applies": VERDICTS[step.applies],
                "conditions": [
                    {"text": text, "holds": VERDICTS[held]} for text, held in step.reasons
                ],
            }
            for step in found.steps
        ],
    }


def _format_side(side: tuple[str, int, tuple[str, ...]]) -> str:
    masked = f" masking {', '.join(side[2])}" if side[2] else ""
    return format_treatment(*side[:2]) + masked


def describe_change(change: Change) -> str:
    """As `newly allowed: connect: deny EPERM -> record`."""
    before, after = _format_side(change.before), _format_side(change.after)
    return f"{TITLES[change.kind]}: {_format_call(change)}: {before} -> {after}"


def _format_call(change: Change) -> str:
    """As `socket(0x28, _)`: the arguments up to the last that matters."""
    args = ["_" if value is None else f"{value:#x}" for value in change.args]
    while args and args[-1] == "_":
        args.pop()
    name = "every call" if change.syscall == "*" else change.syscall
    return name + (f"({', '.join(args)})" if args else "")


def _view(change: Change) -> dict[str, object]:
    return {
        "kind": change.kind,
        "architecture": change.architecture,
        "syscall": change.syscall,
        "example": _format_call(change),
        "before": _format_side(change.before),
        "after": _format_side(change.after),
    }


def _print_changes(changes: tuple[Change, ...]) -> None:
    title = ""
    for change in changes:
        if TITLES[change.kind] != title:
            title = TITLES[change.kind]
            print(f"{title}:")
        before, after = _format_side(change.before), _format_side(change.after)
        print(f"  {change.architecture}  {_format_call(change)}: {before} -> {after}")
    if not changes:
        print("no difference")
