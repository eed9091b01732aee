"""YAML text -> a small tree with places, refusing everything a policy has no use for.

Not here: what a policy is (parse.py). Pure; imports yaml when called, for nobody else needs it.
Reads libyaml's events, not compose(): compose() recurses in C and 100,000 open brackets end the
process (measured, PyYAML 6.0.3). Refused: anchors, aliases, tags, duplicate keys, several
documents, depth over 16, and plain scalars that YAML 1.1 reads otherwise than they look
(`no` is false, `010` is 8, `12:30:45` is 45045, `1_000` is 1000).
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple, NoReturn

from chainlite.errors import SpecError

SOURCE_BYTES_MAX = 262_144
DEPTH_MAX = 16
NODES_MAX = 20_000

INTEGER = re.compile(r"0|[1-9][0-9]*|0x[0-9A-Fa-f]+")
_TRAPS = (
    (re.compile(r"(?i)y|n|yes|no|on|off"), "YAML 1.1 reads it as true or false"),
    (re.compile(r"(?i)true|false"), "it is a boolean"),
    (re.compile(r"(?i)~|null|"), "it is null"),
    (re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"), "YAML 1.1 reads it in base 60"),
    (re.compile(r"[-+]?0[0-7_]+"), "YAML 1.1 reads it in base 8"),
    (re.compile(r"[-+]?(0x|0b)?[0-9A-Fa-f]*_[0-9A-Fa-f_]*"), "YAML 1.1 drops the underscores"),
    (re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*"), "YAML 1.1 reads it as a date"),
    (re.compile(r"[-+]?(0x[0-9A-Fa-f]+|0b[01]+|0o[0-7]+|[0-9]+)"), "it is a number"),
    (re.compile(r"(?i)[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(e[-+]?[0-9]+)?"), "it is a number"),
    (re.compile(r"(?i)[-+]?\.(inf|nan)"), "it is a number"),
    (re.compile(r"=|<<"), "it has a meaning of its own in YAML 1.1"),
)


class Node(NamedTuple):
    """A scalar (str), a sequence (tuple of nodes) or a mapping (tuple of pairs), and its place."""

    kind: str  # scalar sequence mapping
    value: Any  # str; tuple[Node, ...]; tuple[tuple[Node, Node], ...]
    line: int  # from 1
    column: int  # from 1
    plain: bool = False  # a scalar without quotes


class Source(NamedTuple):
    """Where the text comes from, for messages."""

    where: str

    def fail(self, node: Node, message: str) -> NoReturn:
        """Raise SpecError at the node."""
        raise SpecError(f"{self.where}:{node.line}:{node.column}: {message}")


def parse_nodes(data: bytes, source: Source) -> Node:
    """The one document in `data`. SpecError with line and column for anything else."""
    import yaml

    if len(data) > SOURCE_BYTES_MAX:
        raise SpecError(f"{source.where}: {len(data)} bytes; at most {SOURCE_BYTES_MAX} are read")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SpecError(f"{source.where}: byte {error.start} is not UTF-8") from None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Tree(source).read(yaml.parse(text, Loader=loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        problem = error.problem or error.context or "not YAML"
        raise SpecError(f"{source.where}{place}: {problem}") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{source.where}: {str(error).splitlines()[0]}") from None


def get_text(node: Node, source: Source, what: str) -> str:
    """The node as a string; a plain scalar that YAML 1.1 reads otherwise is refused."""
    if node.kind != "scalar":
        source.fail(node, f"{what} must be a word, not a {node.kind}")
    if node.plain:
        for pattern, why in _TRAPS:
            if pattern.fullmatch(node.value):
                source.fail(node, f'{what} must be a word: {why}; quote it: "{node.value}"')
    text: str = node.value
    return text


def get_integer(node: Node, source: Source, what: str) -> int:
    """The node as an integer from 0 to 2**64 - 1, written in base 10 or as 0x..."""
    if node.kind != "scalar" or not node.plain:
        source.fail(node, f"{what} must be a number")
    text: str = node.value
    value = int(text, 0) if INTEGER.fullmatch(text) and len(text) <= 20 else -1
    if not 0 <= value < 1 << 64:
        why = _explain_number(text)
        source.fail(node, f"{what} must be a number, and {text[:40]} is not: {why}")
    return value


def _explain_number(text: str) -> str:
    """What is wrong with a number, and how to write it."""
    if re.fullmatch(r"-[0-9]+", text) and len(text) <= 20:
        return f"registers are unsigned, write {int(text) & 0xFFFFFFFF:#x} or the 64-bit form"
    elif text.replace("_", "").isdigit() and "_" in text:
        return f"YAML 1.1 drops the underscores, write {text.replace('_', '')}"
    elif re.fullmatch(r"0[0-9]+", text):
        return "YAML 1.1 reads a leading 0 as base 8, write it in base 10 or as 0x..."
    elif ":" in text:
        return "YAML 1.1 reads colons as base 60, write it in base 10"
    else:
        return "base 10 or 0x..., below 2**64"


class _Tree:
    """Builds the tree from events with a stack of its own. One document, used once."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.stack: list[tuple[str, list[Node], int, int]] = []
        self.root: Node | None = None
        self.nodes = 0

    def read(self, events: Any) -> Node:
        documents = 0
        for event in events:
            name = type(event).__name__
            if name == "DocumentStartEvent":
                documents += 1
                if documents > 1:
                    self._fail(event, "a second document begins; a policy is one")
            elif name in ("SequenceStartEvent", "MappingStartEvent"):
                self._open(name[:-10].lower(), event)
            elif name in ("SequenceEndEvent", "MappingEndEvent"):
                self._close()
            elif name == "ScalarEvent":
                self._refuse_marks(event)
                place = event.start_mark
                plain = event.style is None or event.style == ""
                node = Node("scalar", event.value, place.line + 1, place.column + 1, plain)
                self._add(node)
            elif name == "AliasEvent":
                self._fail(event, "aliases (*name) are not used in policies: write it out")
        if self.root is None:
            raise SpecError(f"{self.source.where}: empty; a policy has name, default and rules")
        return self.root

    def _open(self, kind: str, event: Any) -> None:
        self._refuse_marks(event)
        if len(self.stack) >= DEPTH_MAX:
            self._fail(event, f"nested deeper than {DEPTH_MAX} levels")
        self.stack.append((kind, [], event.start_mark.line + 1, event.start_mark.column + 1))

    def _close(self) -> None:
        kind, children, line, column = self.stack.pop()
        value: Any = tuple(children)
        if kind == "mapping":
            value = tuple(zip(children[::2], children[1::2], strict=True))
            self._check_keys(value)
        self._add(Node(kind, value, line, column))

    def _check_keys(self, pairs: tuple[tuple[Node, Node], ...]) -> None:
        seen: dict[str, Node] = {}
        for key, _ in pairs:
            if key.kind != "scalar":
                self.source.fail(key, f"a key must be a word, not a {key.kind}")
            if key.value in seen:
                first = seen[key.value].line
                self.source.fail(key, f"key {key.value!r} again; it is on line {first} already")
            seen[key.value] = key

    def _add(self, node: Node) -> None:
        self.nodes += 1
        if self.nodes > NODES_MAX:
            self.source.fail(node, f"more than {NODES_MAX} values")
        if self.stack:
            self.stack[-1][1].append(node)
        else:
            self.root = node

    def _refuse_marks(self, event: Any) -> None:
        if event.anchor is not None:
            self._fail(event, "anchors (&name) are not used in policies: write it out")
        if event.tag is not None:
            self._fail(event, f"tags ({event.tag}) are not used in policies")

    def _fail(self, event: Any, message: str) -> NoReturn:
        mark = event.start_mark
        raise SpecError(f"{self.source.where}:{mark.line + 1}:{mark.column + 1}: {message}")
