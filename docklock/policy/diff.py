"""What a policy newly allows, refuses, records or hides, compared with another: call by call.

Not here: reading policies, printing (docklock/cli). Pure.
Both are compiled for one machine and one set of capabilities, and what they do is compared, not how
they are written. Where registers decide, they are compared at probes: values of which one lies in
every region that the comparisons of both tell apart. Where there would be too many, or an argument
is compared both by size and by bits, the change is `unclear` and counts as looser.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

from docklock.policy.arguments import WIDTHS
from docklock.policy.compile import compute_sections
from docklock.policy.decision import Arm, Check, Compiled, Rule
from docklock.policy.machines import Machine
from docklock.policy.model import Model

PROBES_MAX = 20_000  # register tuples for one call
REFUSED = ("closed", "deny", "kill")
RECEIPTS = {"allow": 0, "closed": 0, "deny": 1, "hold": 2, "kill": 2, "record": 1}
# In the order they are printed. The first three make a policy looser.
KINDS = ("allows", "hides", "unclear", "refuses", "records", "other")
LOOSER = KINDS[:3]
EVERY_CALL = "*"
_ONES = 0xFFFFFFFFFFFFFFFF


class Change(NamedTuple):
    """One call, one treatment before and one after; `args` is an example (None: any value)."""

    kind: str
    architecture: str
    syscall: str  # EVERY_CALL: all calls of the architecture
    args: tuple[int | None, ...]
    before: tuple[str, int, tuple[str, ...]]  # action, errno, masks
    after: tuple[str, int, tuple[str, ...]]


def compare_policies(
    before: Model, after: Model, machine: Machine, capabilities: frozenset[str]
) -> tuple[Change, ...]:
    """Every change from `before` to `after`, by kind, architecture and call."""
    old = dict(_name_sections(before, machine, capabilities))
    new = dict(_name_sections(after, machine, capabilities))
    changes: list[Change] = []
    if before.on_worker_death != after.on_worker_death:
        deaths = (before.on_worker_death, 0, ()), (after.on_worker_death, 0, ())
        changes.append(Change("other", machine.name, "on-worker-death", (), *deaths))
    for name in sorted(old.keys() | new.keys()):
        if name not in old or name not in new:
            pair = (("closed", 38, ()), ("allow", 0, ()))
            first, second = pair if name in new else pair[::-1]
            kind = "allows" if name in new else "refuses"
            changes.append(Change(kind, name, EVERY_CALL, (), first, second))
            continue
        for nr, arms in old[name].items():
            changes += _compare_call(name, arms, new[name][nr])
    return tuple(sorted(changes, key=lambda one: (KINDS.index(one.kind), one[1:3])))


def is_looser(changes: tuple[Change, ...]) -> bool:
    """Whether any change lets more happen, or lets it happen with less of a receipt."""
    return any(change.kind in LOOSER for change in changes)


def _name_sections(
    model: Model, machine: Machine, capabilities: frozenset[str]
) -> list[tuple[str, dict[int, tuple[Arm, ...]]]]:
    return [(one.name, arms) for one, arms in compute_sections(model, machine, capabilities)]


def _compare_call(architecture: str, old: tuple[Arm, ...], new: tuple[Arm, ...]) -> list[Change]:
    if old == new:
        return []
    call = old[-1].rule.name
    probes = compute_probes([check for arm in old + new for check in arm.when + arm.unless])
    if probes is None:
        treatments = _get_treatment(old[-1].rule), _get_treatment(new[-1].rule)
        return [Change("unclear", architecture, call, (), *treatments)]
    found: dict[tuple[object, object], Change] = {}
    for args in probes:
        registers = tuple(value or 0 for value in args)
        before = _get_treatment(_decide(old, registers))
        after = _get_treatment(_decide(new, registers))
        if before != after and (before, after) not in found:
            kind = _classify(before, after)
            found[before, after] = Change(kind, architecture, call, args, before, after)
    return list(found.values())


def _decide(arms: tuple[Arm, ...], args: tuple[int, ...]) -> Rule:
    return Compiled("", b"", b"", 0, {}, {0: arms}, ()).decide(0, args)


def _get_treatment(rule: Rule) -> tuple[str, int, tuple[str, ...]]:
    return rule.action, rule.errno, rule.masks


def _classify(
    before: tuple[str, int, tuple[str, ...]], after: tuple[str, int, tuple[str, ...]]
) -> str:
    was, now = before[0] in REFUSED, after[0] in REFUSED
    if was != now:
        return "allows" if was else "refuses"
    less = RECEIPTS[after[0]] - RECEIPTS[before[0]]
    if less < 0 or set(after[2]) - set(before[2]):
        return "hides"
    return "records" if less > 0 or after[2] != before[2] else "other"


def compute_probes(checks: list[Check]) -> list[tuple[int | None, ...]] | None:
    """Registers, one tuple at least in every region that `checks` tell apart; None: too many.

    None in a tuple is an argument that no check reads.
    """
    columns: list[list[int | None]] = []
    count = 1
    for argument in range(6):
        own = [check for check in checks if check.argument == argument]
        values = _probe_argument(own) if own else [None]
        count *= len(values) if values is not None else PROBES_MAX + 1
        if values is None or count > PROBES_MAX:
            return None
        columns.append(list(values))
    return list(itertools.product(*columns))


def _probe_argument(checks: list[Check]) -> list[int] | list[None] | None:
    """Values of one argument; None if they cannot be told or are too many."""
    width = _ONES
    sizes = [check for check in checks if check.op in ("lt", "le", "gt", "ge")]
    if sizes:
        width = sizes[0].mask
        if any(check.op == "any" or check.mask != width for check in checks):
            return None
    if all(check.op != "any" and check.mask == checks[0].mask for check in checks):
        width = checks[0].mask
        near = {check.value + step for check in checks for step in (-1, 0, 1)} | {0, width}
        if sizes or width in (_ONES, *WIDTHS.values()):
            return sorted(value for value in near if 0 <= value <= width)
    return _probe_bits(checks)


def _probe_bits(checks: list[Check]) -> list[int] | None:
    """For classes of bits that the same checks read: each pattern one asks for, and one of none."""
    masks = [check.value & check.mask if check.op == "any" else check.mask for check in checks]
    classes: dict[tuple[bool, ...], int] = {}
    for bit in range(64):
        readers = tuple(bool(mask >> bit & 1) for mask in masks)
        if any(readers):
            classes[readers] = classes.get(readers, 0) | 1 << bit
    columns = []
    count = 1
    for readers, bits in classes.items():
        patterns = {0, bits}
        patterns |= {
            check.value & bits
            for check, reads in zip(checks, readers, strict=True)
            if reads and check.op != "any"
        }
        patterns |= _find_other(bits, patterns)
        count *= len(patterns)
        if count > PROBES_MAX:
            return None
        columns.append(sorted(patterns))
    return sorted({sum(parts) for parts in itertools.product(*columns)})


def _find_other(bits: int, taken: set[int]) -> set[int]:
    """A pattern of `bits` that is not taken, if there is one."""
    pattern = bits
    while pattern in taken and pattern:
        pattern = (pattern - 1) & bits
    return {pattern} - taken
