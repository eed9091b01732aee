"""As much of JSON Schema (draft 2020-12) as our schema uses; any other keyword is an assertion."""

from __future__ import annotations

import re
from typing import Any

TYPES = {"array": list, "integer": int, "object": dict, "string": str}
NOTES = {"$defs", "$schema", "title", "then", "else"}


def is_valid(value: Any, schema: Any, root: Any) -> bool:
    if isinstance(schema, bool):
        return schema
    return all(
        check_keyword(key, wanted, value, schema, root)
        for key, wanted in schema.items()
        if key not in NOTES
    )


def check_keyword(key: str, wanted: Any, value: Any, schema: Any, root: Any) -> bool:
    if key == "type":
        return isinstance(value, TYPES[wanted]) and not isinstance(value, bool)
    if key in ("enum", "const"):
        return value in (wanted if key == "enum" else [wanted])
    if key == "$ref":
        return is_valid(value, root["$defs"][wanted.removeprefix("#/$defs/")], root)
    if key in ("anyOf", "allOf"):
        return (any if key == "anyOf" else all)(is_valid(value, one, root) for one in wanted)
    if key == "if":
        branch = "then" if is_valid(value, wanted, root) else "else"
        return is_valid(value, schema.get(branch, True), root)
    if isinstance(value, str):
        return check_string(key, wanted, value)
    if isinstance(value, list):
        return check_array(key, wanted, value, root)
    if isinstance(value, dict):
        return check_object(key, wanted, value, schema, root)
    return check_number(key, wanted, value)


def check_string(key: str, wanted: Any, value: str) -> bool:
    if key == "pattern":
        return re.search(wanted, value) is not None
    if key == "minLength":
        return len(value) >= int(wanted)
    return key != "maxLength" or len(value) <= int(wanted)


def check_array(key: str, wanted: Any, value: list[Any], root: Any) -> bool:
    if key == "items":
        return all(is_valid(one, wanted, root) for one in value)
    if key == "uniqueItems":
        return all(one not in value[:i] for i, one in enumerate(value))
    if key == "minItems":
        return len(value) >= int(wanted)
    return key != "maxItems" or len(value) <= int(wanted)


def check_object(key: str, wanted: Any, value: dict[str, Any], schema: Any, root: Any) -> bool:
    if key == "properties":
        return all(is_valid(value[name], wanted[name], root) for name in wanted if name in value)
    if key == "required":
        return all(name in value for name in wanted)
    if key == "additionalProperties":
        return bool(wanted) or value.keys() <= schema["properties"].keys()
    assert key == "minProperties", key
    return len(value) >= int(wanted)


def check_number(key: str, wanted: Any, value: Any) -> bool:
    if key == "minimum":
        return bool(value >= wanted)
    return key != "maximum" or bool(value <= wanted)
