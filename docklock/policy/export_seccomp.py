"""A policy for one machine and set of capabilities -> the OCI's `linux.seccomp`, as JSON values.

Not here: the other way (import_seccomp.py). Pure.
What it keeps is what the kernel does with each call; what it loses is receipts: record and hold
become SCMP_ACT_LOG, which writes to the kernel's audit log; deny and closed become SCMP_ACT_ERRNO.
The first rule that matches wins with us and rules have no order with them, so each rule is exported
as the registers that only it decides. These are unions of masks and values (SCMP_CMP_MASKED_EQ), in
the bits that the kernel reads.
Source: OCI runtime-spec, config-linux.md#seccomp.
"""

from __future__ import annotations

from chainlite.errors import SpecError
from docklock.policy.arguments import FULL_WIDTH
from docklock.policy.compile import compute_arms
from docklock.policy.decision import Arm, Check, Rule
from docklock.policy.machines import Machine
from docklock.policy.model import Model

ACTIONS = {
    "allow": "SCMP_ACT_ALLOW",
    "closed": "SCMP_ACT_ERRNO",
    "deny": "SCMP_ACT_ERRNO",
    "hold": "SCMP_ACT_LOG",
    "kill": "SCMP_ACT_KILL_PROCESS",
    "record": "SCMP_ACT_LOG",
}
ARCHITECTURES = {"aarch64": "SCMP_ARCH_AARCH64", "x86_64": "SCMP_ARCH_X86_64"}
TERMS_MAX = 256  # for one rule on one call
OPERATORS = {
    "eq": "SCMP_CMP_EQ",
    "ge": "SCMP_CMP_GE",
    "gt": "SCMP_CMP_GT",
    "le": "SCMP_CMP_LE",
    "lt": "SCMP_CMP_LT",
    "ne": "SCMP_CMP_NE",
}
OPPOSITES = {"eq": "ne", "ne": "eq", "lt": "ge", "ge": "lt", "gt": "le", "le": "gt"}

Cube = tuple[int, int]  # mask, value: the registers with register & mask == value
Term = tuple[tuple[int, Cube], ...]  # argument and cube, by argument; all of them hold
Region = list[Term]  # any of them holds


def export_profile(
    model: Model, machine: Machine, capabilities: frozenset[str]
) -> dict[str, object]:
    """The `linux.seccomp` object. SpecError if a condition takes too many comparisons."""
    default = _get_verdict(Rule("", "", model.default_action, model.default_errno, ()))
    plain: dict[tuple[str, int], list[str]] = {}
    special: list[dict[str, object]] = []
    for arms in compute_arms(model, machine, capabilities).values():
        name = arms[-1].rule.name
        verdicts = {_get_verdict(arm.rule) for arm in arms}
        if len(verdicts) > 1:
            special += _export_arms(arms, default)
        elif verdicts != {default}:
            plain.setdefault(verdicts.pop(), []).append(name)
    rules = [{"names": sorted(names), **_view(verdict)} for verdict, names in sorted(plain.items())]
    return {
        **_view(default, "default"),
        "architectures": [ARCHITECTURES[machine.name]],
        "syscalls": [*rules, *special],
    }


def _get_verdict(rule: Rule) -> tuple[str, int]:
    return ACTIONS[rule.action], rule.errno


def _view(verdict: tuple[str, int], prefix: str = "") -> dict[str, object]:
    action, errno = verdict
    keys = ("defaultAction", "defaultErrnoRet") if prefix else ("action", "errnoRet")
    return {keys[0]: action} | ({keys[1]: errno} if errno else {})


def _export_arms(arms: tuple[Arm, ...], default: tuple[str, int]) -> list[dict[str, object]]:
    """One rule for each term of each arm whose verdict is not the default's."""
    rules: list[dict[str, object]] = []
    for position, arm in enumerate(arms):
        verdict = _get_verdict(arm.rule)
        if verdict == default:
            continue
        others = [one for one in arms[:position] if _get_verdict(one.rule) != verdict]
        if arm.when and not others and not arm.unless and _is_plain(arm.when):
            terms = [[_view_check(check) for check in arm.when]]
        else:
            region = _get_region(arm, inverted=False)
            for earlier in others:
                region = _intersect(region, _get_region(earlier, inverted=True), arm.rule.name)
            terms = [[_view_cube(argument, cube) for argument, cube in term] for term in region]
        rules += [{"names": [arm.rule.name], **_view(verdict), "args": args} for args in terms]
    return rules


def _is_plain(checks: tuple[Check, ...]) -> bool:
    """Whether libseccomp's own comparisons say the same: all 64 bits, each argument once."""
    arguments = {check.argument for check in checks}
    whole = all(check.op in OPERATORS and check.mask == FULL_WIDTH for check in checks)
    return whole and len(arguments) == len(checks)


def _view_check(check: Check) -> dict[str, object]:
    return {"index": check.argument, "value": check.value, "op": OPERATORS[check.op]}


def _view_cube(argument: int, cube: Cube) -> dict[str, object]:
    mask, value = cube
    if mask == FULL_WIDTH:
        return {"index": argument, "value": value, "op": "SCMP_CMP_EQ"}
    return {"index": argument, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}


def _get_region(arm: Arm, *, inverted: bool) -> Region:
    """The registers to which the arm applies, or those to which it does not."""
    name = arm.rule.name
    when = _get_conjunction(arm.when, name, inverted=inverted)
    if not arm.unless:
        return when
    unless = _get_conjunction(arm.unless, name, inverted=not inverted)
    return _unite(when, unless) if inverted else _intersect(when, unless, name)


def _get_conjunction(checks: tuple[Check, ...], name: str, *, inverted: bool) -> Region:
    """Where every check holds; inverted, where one does not."""
    if inverted:
        return [term for check in checks for term in _get_terms(check, inverted=True)]
    region: Region = [()]
    for check in checks:
        region = _intersect(region, _get_terms(check, inverted=False), name)
    return region


def _get_terms(check: Check, *, inverted: bool) -> Region:
    argument, op, mask, value = check
    if op == "any":
        bits = value & mask
        if inverted:
            return [((argument, (bits, 0)),)]
        ones = [1 << bit for bit in range(64) if bits >> bit & 1]
        return [((argument, (one, one)),) for one in ones]
    op = OPPOSITES[op] if inverted else op
    return [((argument, cube),) for cube in get_cubes(op, mask, value)]


def get_cubes(op: str, mask: int, value: int) -> list[Cube]:
    """Disjoint cubes of (register & mask) `op` value, unsigned; `op` is eq ne lt le gt ge."""
    cubes = [(mask, value)] if op in ("eq", "le", "ge") else []
    for bit in range(mask.bit_length() - 1, -1, -1):
        one = 1 << bit
        if not mask & one:
            continue
        above = mask & ~(one - 1)  # this bit and those over it: the others are free
        is_set = bool(value & one)
        wanted = {"ne": True, "lt": is_set, "le": is_set, "gt": not is_set, "ge": not is_set}
        if wanted.get(op, False):
            cubes.append((above, (value ^ one) & above))
    return cubes


def _unite(one: Region, other: Region) -> Region:
    return [*one, *(term for term in other if term not in one)]


def _intersect(one: Region, other: Region, name: str) -> Region:
    found: dict[Term, None] = {}
    for left in one:
        for right in other:
            term = _join(left, right)
            if term is not None:
                found[term] = None
        if len(found) > TERMS_MAX:
            raise SpecError(
                f"the conditions on {name} take more than {TERMS_MAX} comparisons without order:"
                " use fewer, and == rather than < and >"
            )
    return list(found)


def _join(one: Term, other: Term) -> Term | None:
    """Both terms at once; None if no register is in both."""
    cubes = dict(one)
    for argument, (mask, value) in other:
        held = cubes.get(argument)
        if held is not None:
            if (held[1] ^ value) & held[0] & mask:
                return None
            mask, value = held[0] | mask, held[1] | value
        cubes[argument] = (mask, value)
    return tuple(sorted(cubes.items()))
