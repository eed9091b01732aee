"""The seccomp program of a policy: machine, number, registers, verdict.

Not here: which rule applies to which call (compile.py), encoding (bpf.py). Pure.
Order: machine, foreign numbers, binary search over ranges of numbers with the same verdict, then
one body for each distinct list of register conditions. A call that is always allowed is decided
without reading an argument, so the kernel's allow cache (5.11) skips the program for it.
"""

from __future__ import annotations

from typing import NamedTuple

from docklock.policy import bpf
from docklock.policy.decision import Arm, Check, Rule
from docklock.policy.machines import Machine
from docklock.policy.model import GATED
from docklock.policy.names import ERRNOS

MASK_32 = 0xFFFFFFFF
LOW, HIGH = 0, 4  # offsets of the halves of a register, little-endian
VERDICT_UNKNOWN = bpf.RET_ERRNO | ERRNOS["ENOSYS"]
INVERSE = {"ne": "eq", "lt": "ge", "le": "gt"}


class Turn(NamedTuple):
    """An arm as the kernel sees it."""

    when: tuple[Check, ...]
    unless: tuple[Check, ...]
    verdict: int


Body = tuple[Turn, ...]  # the last turn has no checks


class Range(NamedTuple):
    """Numbers from `first` up to the next range share `body`."""

    first: int
    body: Body


def build_program(
    sections: tuple[tuple[Machine, dict[int, tuple[Arm, ...]]], ...],
) -> tuple[bpf.Instruction, ...]:
    """The program for the arms of each machine, which are in the order of their numbers."""
    return bpf.assemble(_build(sections))


def get_verdict(rule: Rule) -> int:
    """What the program returns for a call under `rule`."""
    if rule.action in GATED:
        return bpf.RET_USER_NOTIF
    return bpf.RET_ALLOW if rule.action == "allow" else bpf.RET_ERRNO | rule.errno


def _build(
    sections: tuple[tuple[Machine, dict[int, tuple[Arm, ...]]], ...],
) -> list[bpf.Item]:
    """The whole program as assembler items; the machine's own calls, the most frequent, first."""
    items = [bpf.Item(bpf.LOAD, bpf.OFFSET_ARCH)]
    bodies: dict[Body, str] = {}
    for position, (machine, arms) in enumerate(sections, 1):
        after = machine.name if position < len(sections) else "unknown"
        items.append(bpf.Item(bpf.JEQ, machine.audit, None, after))
        items.append(bpf.Item(bpf.LOAD, bpf.OFFSET_NR))
        if machine.foreign_from:
            items.append(bpf.Item(bpf.JGE, machine.foreign_from, "unknown", None))
        _emit_search(items, _compute_ranges(arms), bodies, machine.name)
        if position < len(sections):
            items.append(bpf.place(after))
    items.append(bpf.place("unknown"))
    items.append(bpf.Item(bpf.RET, VERDICT_UNKNOWN))
    for body, label in bodies.items():
        _emit_body(items, body, label)
    return items


def _compute_ranges(arms: dict[int, tuple[Arm, ...]]) -> list[Range]:
    """Every number belongs to one range; holes and what lies above the table are unknown."""
    unknown = (Turn((), (), VERDICT_UNKNOWN),)
    ranges = [Range(0, unknown)]
    previous = -1
    for number, one in arms.items():
        if number > previous + 1:
            _append_range(ranges, previous + 1, unknown)
        body = tuple(Turn(arm.when, arm.unless, get_verdict(arm.rule)) for arm in one)
        _append_range(ranges, number, _shorten(body))
        previous = number
    _append_range(ranges, previous + 1, unknown)
    return ranges


def _shorten(body: Body) -> Body:
    """Drop conditions before the end that decide nothing, as their verdict is the end's."""
    turns = list(body)
    while len(turns) > 1 and turns[-2].verdict == turns[-1].verdict:
        del turns[-2]
    return tuple(turns)


def _append_range(ranges: list[Range], first: int, body: Body) -> None:
    if ranges[-1].first == first:
        ranges.pop()
    if not ranges or ranges[-1].body != body:
        ranges.append(Range(first, body))


def _emit_search(
    items: list[bpf.Item], ranges: list[Range], bodies: dict[Body, str], machine: str
) -> None:
    """Binary search: `jge` on the first number of the upper half, lower half next, then upper."""
    if len(ranges) > 1:
        middle = len(ranges) // 2
        label = f"{machine} from {ranges[middle].first}"
        items.append(bpf.Item(bpf.JGE, ranges[middle].first, label, None))
        _emit_search(items, ranges[:middle], bodies, machine)
        items.append(bpf.place(label))
        _emit_search(items, ranges[middle:], bodies, machine)
        return
    body = ranges[0].body
    if len(body) == 1:
        items.append(bpf.Item(bpf.RET, body[0].verdict))
        return
    label = bodies.setdefault(body, f"body {len(bodies)}")
    items.append(bpf.Item(bpf.JA, 0, label))


def _emit_body(items: list[bpf.Item], body: Body, label: str) -> None:
    items.append(bpf.place(label))
    for i, (when, unless, verdict) in enumerate(body):
        after = f"{label} arm {i + 1}"
        for j, check in enumerate(when):
            _emit_check(items, check, f"{label} {i} when {j}", None, after)
        taken = f"{label} {i} taken"
        for j, check in enumerate(unless):
            last = j == len(unless) - 1
            _emit_check(items, check, f"{label} {i} unless {j}", after if last else None, taken)
        items.append(bpf.place(taken))
        items.append(bpf.Item(bpf.RET, verdict))
        items.append(bpf.place(after))


def _emit_check(
    items: list[bpf.Item], check: Check, label: str, yes: str | None, no: str | None
) -> None:
    """Go to `yes` if the check holds, else to `no`; None is the instruction after this check."""
    end = f"{label} end"
    yes, no = yes or end, no or end
    op = check.op
    if op in INVERSE:
        op, yes, no = INVERSE[op], no, yes
    if op == "any":
        _emit_any(items, check, yes, no)
    elif op == "eq":
        _emit_equal(items, check, yes, no)
    else:
        _emit_greater(items, check, bpf.JGT if op == "gt" else bpf.JGE, yes, no)
    items.append(bpf.place(end))


def _load(items: list[bpf.Item], check: Check, half: int, mask: int = MASK_32) -> None:
    offset = bpf.OFFSET_ARGS + 8 * check.argument + half
    items.append(bpf.Item(bpf.LOAD, offset))
    if mask != MASK_32:
        items.append(bpf.Item(bpf.AND, mask))


def _emit_any(items: list[bpf.Item], check: Check, yes: str, no: str) -> None:
    bits = check.value & check.mask
    if bits >> 32:
        _load(items, check, HIGH)
        items.append(bpf.Item(bpf.JSET, bits >> 32, yes, None))
    _load(items, check, LOW)
    items.append(bpf.Item(bpf.JSET, bits & MASK_32, yes, no))


def _emit_equal(items: list[bpf.Item], check: Check, yes: str, no: str) -> None:
    high, low = check.mask >> 32, check.mask & MASK_32
    if high:
        _load(items, check, HIGH, high)
        items.append(bpf.Item(bpf.JEQ, check.value >> 32, None, no))
    _load(items, check, LOW, low)
    items.append(bpf.Item(bpf.JEQ, check.value & MASK_32, yes, no))


def _emit_greater(items: list[bpf.Item], check: Check, code: int, yes: str, no: str) -> None:
    """gt or ge: the high half decides unless it is equal."""
    if check.mask >> 32:
        _load(items, check, HIGH, check.mask >> 32)
        items.append(bpf.Item(bpf.JGT, check.value >> 32, yes, None))
        items.append(bpf.Item(bpf.JEQ, check.value >> 32, None, no))
    _load(items, check, LOW, check.mask & MASK_32)
    items.append(bpf.Item(code, check.value & MASK_32, yes, no))
