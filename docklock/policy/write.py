"""A canonical model -> the policy document that means it, in YAML.

Not here: reading one (parse.py). Pure: no YAML library, as one wants other line breaks each year.
Invariant: parsing what is written gives the same model (tests/policy/test_write.py).
"""

from __future__ import annotations

import textwrap

from docklock.policy.model import Condition, Model, RuleModel
from docklock.policy.names import ERRNOS
from docklock.policy.parse_rules import ERRNO_DEFAULTS

COLUMNS = 100


def format_policy(model: Model, *, head: tuple[str, ...] = (), notes: tuple[str, ...] = ()) -> str:
    """The document; `head` are comment lines before it, `notes` one comment for each rule."""
    lines = [f"# {line}".rstrip() for line in head]
    lines.append(f"name: {_quote(model.name)}")
    if model.description:
        lines.append(f"description: {_quote(model.description)}")
    if model.architectures:
        lines.append(f"architectures: [native, {', '.join(model.architectures)}]")
    if model.on_worker_death != "restart":
        lines.append(f"on-worker-death: {model.on_worker_death}")
    default = _format_action(model.default_action, model.default_errno)
    lines.append(f"default: {{{default}}}")
    if model.rules:
        lines += ["", "rules:"]
    last = ""
    for position, rule in enumerate(model.rules):
        note = notes[position] if notes else ""
        if note and note != last:
            lines.append(f"  # {note}")
        last = note
        lines += format_rule(rule)
    return "".join(f"{line}\n" for line in lines)


def get_errno_name(number: int) -> str:
    """The first name of an errno, in the order of names.py."""
    return next(name for name, value in ERRNOS.items() if value == number)


def format_rule(rule: RuleModel) -> list[str]:
    """Its lines, as an item of a sequence that is indented by two."""
    names = textwrap.wrap(
        f"- syscalls: [{', '.join(rule.syscalls)}]",
        COLUMNS,
        initial_indent="  ",
        subsequent_indent="      ",
        break_on_hyphens=False,
        break_long_words=False,
    )
    fields = [_format_action(rule.action, rule.errno).replace(", ", "\n    ")]
    if rule.masks:
        fields.append(f"masks: [{', '.join(rule.masks)}]")
    if rule.when is not None:
        fields.append(f"when: {format_condition(rule.when)}")
    if rule.unless is not None:
        fields.append(f"unless: {format_condition(rule.unless)}")
    return names + [f"    {field}" for field in fields]


def _format_action(action: str, errno: int) -> str:
    default = ERRNO_DEFAULTS.get(action)
    if default is None or ERRNOS[default] == errno:
        return f"action: {action}"
    return f"action: {action}, errno: {get_errno_name(errno)}"


def format_condition(condition: Condition) -> str:
    """As a policy writes it after `when:`."""
    fields = []
    if condition.capability:
        fields.append(f"capability: {condition.capability}")
    tests = []
    for index, op, value, mask in condition.args:
        tail = f", mask: {mask:#x}" if op == "masked" else ""
        tests.append(f'{{index: {index}, op: "{op}", value: {value:#x}{tail}}}')
    if tests:
        fields.append(f"args: [{', '.join(tests)}]")
    return f"{{{', '.join(fields)}}}"


def _quote(text: str) -> str:
    """As a double-quoted scalar, which no reader takes for a number or a date."""
    import json

    return json.dumps(text, ensure_ascii=False)  # YAML has no escape in two halves
