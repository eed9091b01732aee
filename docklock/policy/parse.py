"""A policy document -> Document, or SpecError naming file, line, column and the right word.

Not here: YAML itself (yaml_nodes.py), rules (parse_rules.py), inheritance (inherit.py), BPF
(compile.py). Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from docklock.policy.machines import ARCHITECTURES
from docklock.policy.model import ACTIONS, WORKER_DEATHS, RuleModel
from docklock.policy.parse_rules import RuleReader, parse_errno
from docklock.policy.parse_words import get_fields, parse_word
from docklock.policy.yaml_nodes import Node, Source, get_text, parse_nodes

KEYS = (
    "name", "description", "extends", "architectures", "on-worker-death", "default", "rules"
)  # fmt: skip
NATIVE = "native"
EXTENDS_MAX = 8
DESCRIPTION_CHARS_MAX = 1000
NAME_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789-_."


class Document(NamedTuple):
    """One file as it stands. What it does not say is None: a base may say it."""

    where: str
    name: str
    description: str
    extends: tuple[Node, ...]  # words for policies, with their places
    architectures: tuple[str, ...] | None
    on_worker_death: str | None
    default: tuple[str, int] | None  # action, errno
    default_node: Node  # the place to name where rules lack something
    rules: tuple[RuleModel, ...]
    lines: tuple[int, ...]  # of each rule, from 1


def parse_document(data: bytes, where: str) -> Document:
    """The document in `data`; `where` is the file's name in messages."""
    source = Source(where)
    root = parse_nodes(data, source)
    fields = get_fields(root, source, KEYS, "policy")
    for needed in ("name", "default"):
        if needed not in fields and not (needed == "default" and "extends" in fields):
            source.fail(root, f"a policy needs the key {needed}")
    architectures = _parse_architectures(fields.get("architectures"), source)
    reader = RuleReader(source, architectures or ())
    default = fields.get("default")
    parsed = None if default is None else _parse_default(default, source)
    rules = reader.read(fields["rules"]) if "rules" in fields else ()
    death = fields.get("on-worker-death")
    return Document(
        where,
        _parse_name(fields["name"], source),
        _parse_description(fields.get("description"), source),
        _parse_extends(fields.get("extends"), source),
        architectures,
        None if death is None else parse_word(death, source, "on-worker-death", WORKER_DEATHS),
        parsed,
        root if default is None else default,
        rules,
        tuple(reader.lines),
    )


def _parse_name(node: Node, source: Source) -> str:
    name = get_text(node, source, "name")
    if not 1 <= len(name) <= 64 or any(letter not in NAME_LETTERS for letter in name):
        source.fail(node, "name must be 1 to 64 of a-z, 0-9, '-', '_' and '.'")
    return name


def _parse_description(node: Node | None, source: Source) -> str:
    if node is None:
        return ""
    if node.kind != "scalar":
        source.fail(node, f"description must be text, not a {node.kind}")
    text: str = node.value.strip()
    if len(text) > DESCRIPTION_CHARS_MAX or not text.replace("\n", " ").isprintable():
        source.fail(node, f"description must be at most {DESCRIPTION_CHARS_MAX} printable letters")
    return text


def _parse_default(node: Node, source: Source) -> tuple[str, int]:
    fields = get_fields(node, source, ("action", "errno"), "default")
    if "action" not in fields:
        source.fail(node, "default needs the key action")
    action = parse_word(fields["action"], source, "action", ACTIONS)
    return action, parse_errno(fields.get("errno"), source, action)


def _parse_extends(node: Node | None, source: Source) -> tuple[Node, ...]:
    """One word or a sequence of words; what they name is read by inherit.py."""
    if node is None:
        return ()
    words: tuple[Node, ...] = node.value if node.kind == "sequence" else (node,)
    if not 1 <= len(words) <= EXTENDS_MAX:
        source.fail(node, f"extends names 1 to {EXTENDS_MAX} policies")
    seen: set[str] = set()
    for word in words:
        text = get_text(word, source, "policy")
        if not text or not text.isprintable() or text in seen:
            source.fail(word, f"extends {text[:64]!r}: name a policy or a file, each once")
        seen.add(text)
    return words


def _parse_architectures(node: Node | None, source: Source) -> tuple[str, ...] | None:
    """Sorted, without the machine's own, which is always there."""
    if node is None:
        return None
    if node.kind != "sequence" or not node.value:
        source.fail(node, "architectures must be a sequence of at least one, as [native, i386]")
    known = (NATIVE, *ARCHITECTURES)
    found: set[str] = set()
    for one in node.value:
        name = parse_word(one, source, "architecture", known)
        if name in found:
            source.fail(one, f"{name} twice")
        found.add(name)
    return tuple(sorted(found - {NATIVE}))
