"""The JSON Schema of a policy document, for editors.

Not here: what it cannot say (parse.py): rules that never apply, calls that must be allowed, numbers
that are wider than their argument, masks that no call of the rule has. Pure.
policies/policy.schema.json is what `docklock policy schema` prints.
Source: JSON Schema, draft 2020-12.
"""

from __future__ import annotations

from docklock.capability import CAPABILITIES
from docklock.policy.arguments import KINDS, SIGNATURES, get_strings
from docklock.policy.machines import ARCHITECTURES, MACHINES
from docklock.policy.model import ACTIONS, GATED, OPERATORS, WORKER_DEATHS
from docklock.policy.names import ERRNOS, FLAGS
from docklock.policy.parse import DESCRIPTION_CHARS_MAX, EXTENDS_MAX, NATIVE
from docklock.policy.parse_rules import ERRNO_DEFAULTS, RULES_MAX, TESTS_MAX

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, object]


def build_schema() -> Schema:
    """The schema as JSON values, in the order in which it is printed."""
    calls = {name for machine in MACHINES for name in machine.numbers}
    calls |= {name for _, machine in ARCHITECTURES.values() for name in machine.numbers}
    masks = set(KINDS.values()) | {mask for name in SIGNATURES for mask in get_strings(name)}
    base = {"type": "string", "minLength": 1}
    properties: Schema = {
        "name": {"type": "string", "pattern": "^[a-z0-9._-]{1,64}$"},
        "description": {"type": "string", "maxLength": DESCRIPTION_CHARS_MAX},
        "extends": {"anyOf": [base, _make_list(base, EXTENDS_MAX)]},
        "architectures": _make_list({"enum": [NATIVE, *ARCHITECTURES]}),
        "on-worker-death": {"enum": list(WORKER_DEATHS)},
        "default": {"$ref": "#/$defs/treatment", "required": ["action"]},
        "rules": {"type": "array", "maxItems": RULES_MAX, "items": {"$ref": "#/$defs/rule"}},
    }
    return {
        "$schema": DIALECT,
        "title": "docklock policy",
        **_make_object(properties, ["name"]),
        "anyOf": [{"required": ["default"]}, {"required": ["extends"]}],
        "$defs": {
            "syscall": {"enum": sorted(calls)},
            "errno": {"enum": sorted(ERRNOS)},
            "number": {
                "anyOf": [
                    {"type": "integer", "minimum": 0, "maximum": 0xFFFFFFFFFFFFFFFF},
                    {"enum": sorted(FLAGS)},
                ]
            },
            "treatment": _make_treatment(),
            "rule": _make_rule(sorted(masks)),
            "condition": _make_condition(),
            "comparison": _make_comparison(),
        },
    }


def format_schema() -> str:
    """The schema's text, as policies/policy.schema.json has it."""
    import json

    return json.dumps(build_schema(), indent=1) + "\n"


def _make_object(properties: Schema, required: list[str]) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _make_list(items: Schema, count_max: int = 0) -> Schema:
    limit: Schema = {"maxItems": count_max} if count_max else {}
    return {"type": "array", "items": items, "minItems": 1, "uniqueItems": True} | limit


def _allow_only_with(key: str, actions: tuple[str, ...]) -> Schema:
    """`key` goes with these actions only."""
    return {
        "if": {"required": [key]},
        "then": {"properties": {"action": {"enum": sorted(actions)}}},
    }


def _make_treatment() -> Schema:
    properties: Schema = {"action": {"enum": list(ACTIONS)}, "errno": {"$ref": "#/$defs/errno"}}
    return _make_object(properties, ["action"]) | _allow_only_with("errno", (*ERRNO_DEFAULTS,))


def _make_rule(masks: list[str]) -> Schema:
    condition = {"$ref": "#/$defs/condition"}
    properties: Schema = {
        "syscalls": _make_list({"$ref": "#/$defs/syscall"}),
        "action": {"enum": list(ACTIONS)},
        "errno": {"$ref": "#/$defs/errno"},
        "masks": _make_list({"enum": masks}),
        "when": condition,
        "unless": condition,
    }
    needs = [_allow_only_with("errno", (*ERRNO_DEFAULTS,)), _allow_only_with("masks", GATED)]
    return _make_object(properties, ["syscalls", "action"]) | {"allOf": needs}


def _make_condition() -> Schema:
    comparisons = {"type": "array", "items": {"$ref": "#/$defs/comparison"}}
    properties: Schema = {
        "capability": {"enum": list(CAPABILITIES)},
        "args": comparisons | {"minItems": 1, "maxItems": TESTS_MAX},
    }
    return _make_object(properties, []) | {"minProperties": 1}


def _make_comparison() -> Schema:
    number = {"$ref": "#/$defs/number"}
    properties: Schema = {
        "index": {"type": "integer", "minimum": 0, "maximum": 5},
        "op": {"enum": list(OPERATORS)},
        "value": number,
        "mask": number,
    }
    return _make_object(properties, ["index", "op", "value"]) | {
        "if": {"properties": {"op": {"const": "masked"}}},
        "then": {"required": ["mask"]},
        "else": {"properties": {"mask": False}},
    }
