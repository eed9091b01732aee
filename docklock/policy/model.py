"""The canonical model of a policy: what a document means, with everything incidental gone.

Not here: reading YAML (parse.py), BPF (compile.py). Pure.
Invariants: rules keep the document's order, because the first that matches wins; nothing else of
the document's shape survives (comments, quoting, spelling of numbers, order of keys, which rules
were inherited), so two documents that mean the same have the same bytes and the same digest.
"""

from __future__ import annotations

import json
from typing import NamedTuple

ACTIONS = ("allow", "closed", "deny", "hold", "kill", "record")
GATED = ("deny", "hold", "kill", "record")  # the supervisor answers these, and each has a receipt
WORKER_DEATHS = ("kill", "restart")
OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "masked", "any_bits")


class ArgumentTest(NamedTuple):
    """A comparison of one register: unsigned, `value` against the argument (& `mask`: masked)."""

    argument: int  # 0..5
    op: str
    value: int
    mask: int


class Condition(NamedTuple):
    """All of it must hold: the container may have `capability` ("" is any), every test is true."""

    capability: str
    args: tuple[ArgumentTest, ...]


class RuleModel(NamedTuple):
    """`action` for `syscalls` where `when` holds (None: always) and `unless` does not."""

    syscalls: tuple[str, ...]
    action: str
    errno: int
    when: Condition | None
    unless: Condition | None
    masks: tuple[str, ...] = ()  # values that are neither read nor kept, as read_values names them


class Model(NamedTuple):
    """A whole policy, with what it inherits. `default_*`: known calls that no rule decides.

    `architectures` are those beside the machine's own; `on_worker_death` is one of WORKER_DEATHS.
    """

    name: str
    description: str
    default_action: str
    default_errno: int
    rules: tuple[RuleModel, ...]
    architectures: tuple[str, ...] = ()
    on_worker_death: str = "restart"


def encode_model(model: Model) -> bytes:
    """The canonical bytes: ASCII JSON, fixed order, integers only, no spaces, one line feed."""
    rules = [
        [
            list(rule.syscalls),
            rule.action,
            rule.errno,
            _list(rule.when),
            _list(rule.unless),
            list(rule.masks),
        ]
        for rule in model.rules
    ]
    head = [model.name, model.description, model.default_action, model.default_errno]
    whole = [*head, rules, list(model.architectures), model.on_worker_death]
    text = json.dumps(whole, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.encode("ascii") + b"\n"


def _list(condition: Condition | None) -> list[object] | None:
    if condition is None:
        return None
    return [condition.capability, [list(test) for test in condition.args]]
