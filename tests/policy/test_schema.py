"""The JSON Schema takes what the parser takes; what it cannot say is on a list here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given

from chainlite.errors import SpecError
from docklock.cli.policy import run_policy
from docklock.paths import Paths
from docklock.policy.inherit import parse_policy
from docklock.policy.load import read_source
from docklock.policy.parse import parse_document
from docklock.policy.schema import build_schema, format_schema
from docklock.policy.shipped import find_policy, get_profiles_dir, list_profiles
from docklock.policy.write import format_policy
from tests.policy.json_schema import is_valid
from tests.policy.policies import readable_models
from tests.policy.test_parse import ARGS, HEAD, MASKS, RULES, TAIL

SCHEMA = build_schema()


def is_taken_by_schema(text: str) -> bool:
    try:
        return is_valid(yaml.safe_load(text), SCHEMA, SCHEMA)
    except yaml.YAMLError:
        return False


def is_taken_by_parser(text: str) -> bool:
    try:
        parse_document(text.encode(), "a.yaml")
    except SpecError:
        return False
    return True


def test_the_file_is_what_the_command_prints(capfdbinary) -> None:
    assert run_policy(["schema"], Paths("/nonexistent", "/nonexistent")) == 0
    printed = capfdbinary.readouterr().out
    assert Path(get_profiles_dir(), "policy.schema.json").read_bytes() == printed
    assert json.loads(printed) == SCHEMA
    assert format_schema().encode() == printed


@pytest.mark.parametrize("name", list_profiles())
def test_it_takes_the_shipped_policies(name) -> None:
    assert is_taken_by_schema(read_source(find_policy(name)).decode())


@given(readable_models())
def test_it_takes_what_the_parser_takes(model) -> None:
    text = format_policy(model)
    assert parse_policy(text.encode(), "a") == model
    assert is_taken_by_schema(text)


# What a schema cannot say, by a part of the parser's message.
BEYOND = (
    "YAML 1.1", "a leading 0", "drops the underscores", "base 60", "closed in every policy",
    "must be allowed", "anchors", "tags", "already", "arguments, from index 0", "bits: it fits",
    "within mask", "always the same", "never gets here", "a key must be a word", "choose one of",
    "is of i386", "none of these calls", "needs the key mask", "is never true", "it is a number",
    "is 45045", "true or false", "it is null", "no value to mask",
)  # fmt: skip


def get_corpus() -> list[str]:
    rules = [*RULES, *MASKS]
    rules += [f"{{syscalls: [socket], action: deny, when: {{args: [{test}]}}}}" for test in ARGS]
    whole = [f"{HEAD}  - {rule}\n{TAIL}" for rule in rules]
    head = "name: a\ndefault: {action: allow}\n"
    return [
        *whole, head, "name: a\n", "default: {action: allow}\n", "name: a\nextends: b\n",
        "name: a\nextends: [b, ./c.yaml]\n", "name: a\nextends: []\n", "name: A\nextends: b\n",
        "name: a\nextends: [b, b]\n", "name: a\nextends: {b: c}\n", "[]\n", "x\n",
        head + "rules: {}\n", head + "rules: [x]\n", head + "nmae: b\n",
        head + "architectures: [i386]\n", head + "architectures: []\n",
        head + "architectures: [x32]\n", head + "architectures: i386\n",
        head + "architectures: [i386, i386]\n", head + "on-worker-death: kill\n",
        head + "on-worker-death: freeze\n", "name: a\ndefault: allow\n",
        "name: a\ndefault: {errno: EPERM}\n", "name: a\ndefault: {action: allow, errno: EPERM}\n",
        "name: a\ndefault: {action: deny, errno: EIO}\n" + f"rules:\n{TAIL}",
        head + "description: " + "x" * 1001 + "\n", head + "description: [x]\n",
        head + "rules: [{syscalls: [read], action: deny, unless: {args: []}}]\n",
    ]  # fmt: skip


@pytest.mark.parametrize("text", get_corpus())
def test_schema_and_parser_agree(text) -> None:
    """Where they do not, the parser refuses for a reason that a schema cannot express."""
    try:
        parse_document(text.encode(), "a.yaml")
        reason = ""
    except SpecError as error:
        reason = str(error)
    taken = is_taken_by_schema(text)
    if not reason:
        assert taken
    elif taken:
        assert any(words in reason for words in BEYOND), reason


def test_most_of_the_corpus_is_told_apart_by_the_schema_alone() -> None:
    corpus = get_corpus()
    same = [text for text in corpus if is_taken_by_schema(text) == is_taken_by_parser(text)]
    assert len(same) >= len(corpus) * 3 // 5


def test_editors_are_told_about_each_key() -> None:
    properties: Any = SCHEMA["properties"]
    assert set(properties) == {
        "name", "description", "extends", "architectures", "on-worker-death", "default", "rules"
    }  # fmt: skip
