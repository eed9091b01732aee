"""A policy's rules with how often a run met each, from counts by call and decision. Pure.

Receipts name the call and what was decided, not the rule: where two rules of a policy may have
decided the same call alike, nobody can tell them apart, and both say so (UNKNOWN). A call that the
kernel decides by itself (allow, closed) leaves no receipt: its rules have no count either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from docklock.console.facts import UNKNOWN, RuleHits
from docklock.policy.model import GATED, Condition
from docklock.policy.write import format_condition, get_errno_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docklock.policy.inherit import Resolved

DECISIONS = {"record": "allowed", "hold": "allowed", "deny": "denied", "kill": "killed"}
"""What a receipt says of a call under a rule with this action."""


def list_rules(
    resolved: Resolved, counts: Mapping[tuple[str, str], int] | None
) -> tuple[RuleHits, ...]:
    """The rules in their order, then the default. Without `counts` none is known."""
    model = resolved.model
    claims: dict[tuple[str, str], int] = {}
    keys = [
        [(f"syscall.{name}", DECISIONS[rule.action]) for name in rule.syscalls]
        if rule.action in GATED
        else []
        for rule in model.rules
    ]
    for key in [key for one in keys for key in one]:
        claims[key] = claims.get(key, 0) + 1
    rows = []
    for rule, origin, own in zip(model.rules, resolved.origins, keys, strict=True):
        text = ", ".join(rule.syscalls) + show_conditions(rule.when, rule.unless)
        hits = sum_hits(own, claims, counts)
        rows.append(RuleHits(text, show_action(rule.action, rule.errno), hits, origin.line))
    action = show_action(model.default_action, model.default_errno)
    rows.append(RuleHits("all others", action, UNKNOWN, resolved.default_origin.line))
    if counts is not None and model.default_action in GATED:
        decision = DECISIONS[model.default_action]
        rest = [
            times
            for (op, done), times in counts.items()
            if done == decision and op.startswith("syscall.") and (op, done) not in claims
        ]
        rows[-1] = rows[-1]._replace(hits=sum(rest))
    return tuple(rows)


def sum_hits(
    keys: list[tuple[str, str]],
    claims: Mapping[tuple[str, str], int],
    counts: Mapping[tuple[str, str], int] | None,
) -> int:
    """UNKNOWN where nobody counts, or where another rule may have decided one of the calls."""
    if counts is None or not keys:
        return UNKNOWN
    met = [key for key in keys if counts.get(key)]
    if any(claims[key] > 1 for key in met):
        return UNKNOWN
    return sum(counts[key] for key in met)


def show_action(action: str, errno: int) -> str:
    """`deny EACCES`."""
    return f"{action} {get_errno_name(errno)}" if errno else action


def show_conditions(when: Condition | None, unless: Condition | None) -> str:
    """What else must hold, as a policy writes it."""
    shown = ""
    if when is not None:
        shown += f" when {format_condition(when)}"
    if unless is not None:
        shown += f" unless {format_condition(unless)}"
    return shown
