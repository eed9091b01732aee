"""Go's text/template as people write it after --format: from text to a tree of nodes.

Not here: what a tree gives for a value (template), the functions (template_functions). `define`,
`block`, `template`, `break`, `continue` and comparisons of complex numbers are not known. Pure.
Invariant: every node knows its place, and every error says it: the character counted from 1.
Source: pkg.go.dev/text/template, "Actions", "Pipelines", "Variables", "Text and spaces".
"""

from __future__ import annotations

import ast
import re
from typing import NamedTuple

from chainlite.errors import SpecError

DEPTH_MAX = 32  # of blocks and parentheses, so that no recursion runs away
TEXT_CHARS_MAX = 1 << 16
KEYWORDS = frozenset(("if", "else", "end", "range", "with"))
_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<comment>/\*.*?\*/)
    |(?P<text>"(?:\\.|[^"\\\n])*"|`[^`]*`|'(?:\\.|[^'\\\n])')
    |(?P<number>[-+]?\d[\w.]*)
    |(?P<variable>\$\w*)
    |(?P<field>\.\w+)
    |(?P<dot>\.(?!\w))
    |(?P<word>[A-Za-z_]\w*)
    |(?P<mark>:=|=|\||\(|\)|,)""",
    re.VERBOSE | re.DOTALL,
)


class TemplateError(SpecError):
    """A template that cannot be read, or that does not fit its value; says where."""

    def __init__(self, at: int, why: str) -> None:
        super().__init__(f"--format: character {at + 1}: {why}")


class Text(NamedTuple):
    """What is written as it stands."""

    text: str


class Literal(NamedTuple):
    """A constant."""

    at: int
    value: object


class Path(NamedTuple):
    """`.A.B`, `$x.A` or `(...).A`: names below a variable, a pipeline, or else the dot."""

    at: int
    variable: str
    inner: Pipeline | None
    names: tuple[str, ...]


class Function(NamedTuple):
    """A function's name."""

    at: int
    name: str


Operand = Literal | Path | Function


class Pipeline(NamedTuple):
    """Commands, each with its operands; `variables` are those that it sets, `is_new` or not."""

    at: int
    variables: tuple[str, ...]
    is_new: bool
    commands: tuple[tuple[Operand, ...], ...]


class Block(NamedTuple):
    """`if`, `with` or `range`."""

    kind: str
    pipeline: Pipeline
    body: tuple[Node, ...]
    other: tuple[Node, ...]


Node = Text | Pipeline | Block


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


class _Action(NamedTuple):
    at: int
    tokens: tuple[_Token, ...]

    @property
    def keyword(self) -> str:
        first = self.tokens[0] if self.tokens else None
        is_word = first is not None and first.kind == "word" and first.text in KEYWORDS
        return first.text if is_word and first is not None else ""


def parse_template(text: str) -> tuple[Node, ...]:
    """The nodes of a template. TemplateError if it is none."""
    if len(text) > TEXT_CHARS_MAX:
        raise TemplateError(TEXT_CHARS_MAX, f"longer than {TEXT_CHARS_MAX} characters")
    parser = _Parser(_split(text))
    nodes, ended_by = parser.read_nodes(0)
    if ended_by is not None:
        raise TemplateError(ended_by.at, f"{{{{{ended_by.keyword}}}}} without its beginning")
    return nodes


def _split(text: str) -> list[Text | _Action]:
    """Texts and actions; `{{-` and `-}}` take the spaces next to them away."""
    found: list[Text | _Action] = []
    at, is_trimmed = 0, False
    while True:
        start = text.find("{{", at)
        plain = text[at:] if start < 0 else text[at:start]
        plain = plain.lstrip() if is_trimmed else plain
        if start < 0:
            found.append(Text(plain))
            return found
        inner = start + 2
        if re.match(r"-\s", text[inner:]):
            plain, inner = plain.rstrip(), inner + 1
        found.append(Text(plain))
        tokens, at, is_trimmed = _read_tokens(text, start, inner)
        found.append(_Action(start, tokens))


def _read_tokens(text: str, start: int, at: int) -> tuple[tuple[_Token, ...], int, bool]:
    """(the tokens of one action, where the text goes on, whether its spaces are taken away)."""
    tokens: list[_Token] = []
    while True:
        if text.startswith("}}", at):
            return tuple(tokens), at + 2, False
        trimmed = re.match(r"\s-\}\}", text[at:])
        if trimmed:
            return tuple(tokens), at + trimmed.end(), True
        found = _TOKEN.match(text, at)
        if found is None:
            if at >= len(text):
                raise TemplateError(start, "{{ without }}")
            raise TemplateError(at, f"{text[at]!r} means nothing here")
        kind = str(found.lastgroup)
        if kind not in ("space", "comment"):
            tokens.append(_Token(kind, found.group(), at))
        elif kind == "space":
            tokens.append(_Token(kind, " ", at))
        at = found.end()
        if kind == "space" and text.startswith("-}}", at):
            return tuple(tokens), at + 3, True


class _Parser:
    """Reads the nodes in order; each action's own tokens are read by an _Expression."""

    def __init__(self, parts: list[Text | _Action]) -> None:
        self._parts = parts
        self._at = 0

    def read_nodes(self, depth: int) -> tuple[tuple[Node, ...], _Action | None]:
        """Up to the end, or to an `else` or `end`, which is given too."""
        nodes: list[Node] = []
        while self._at < len(self._parts):
            part = self._parts[self._at]
            self._at += 1
            if isinstance(part, Text):
                if part.text:
                    nodes.append(part)
            elif part.keyword in ("else", "end"):
                return tuple(nodes), part
            elif part.keyword:
                nodes.append(self._read_block(part, part.tokens, depth + 1))
            elif any(token.kind != "space" for token in part.tokens):
                nodes.append(_Expression(part.at, part.tokens).read_all())
        return tuple(nodes), None

    def _read_block(self, action: _Action, tokens: tuple[_Token, ...], depth: int) -> Block:
        if depth > DEPTH_MAX:
            raise TemplateError(action.at, f"more than {DEPTH_MAX} blocks deep")
        kind = tokens[0].text
        pipeline = _Expression(action.at, tokens[1:]).read_all()
        if len(pipeline.variables) > (2 if kind == "range" else 1):
            raise TemplateError(action.at, f"{kind} sets too many variables")
        body, ended_by = self.read_nodes(depth)
        other: tuple[Node, ...] = ()
        if ended_by is not None and ended_by.keyword == "else":
            rest = _strip(ended_by.tokens[1:])
            if rest and rest[0].text in ("if", "with"):
                return Block(kind, pipeline, body, (self._read_block(ended_by, rest, depth + 1),))
            _require_alone(ended_by, rest)
            other, ended_by = self.read_nodes(depth)
        if ended_by is None or ended_by.keyword != "end":
            raise TemplateError(action.at, f"{{{{{kind}}}}} without {{{{end}}}}")
        _require_alone(ended_by, _strip(ended_by.tokens[1:]))
        return Block(kind, pipeline, body, other)


def _strip(tokens: tuple[_Token, ...]) -> tuple[_Token, ...]:
    return tuple(token for token in tokens if token.kind != "space")


def _require_alone(action: _Action, rest: tuple[_Token, ...]) -> None:
    if rest:
        raise TemplateError(rest[0].at, f"{rest[0].text!r} after {action.keyword}")


class _Expression:
    """The pipeline of one action."""

    def __init__(self, at: int, tokens: tuple[_Token, ...]) -> None:
        self._tokens = tokens
        self._place = at
        self._at = 0

    def read_all(self) -> Pipeline:
        """All of it is one pipeline."""
        pipeline = self._read_pipeline(0)
        token = self._peek()
        if token is not None:
            raise TemplateError(token.at, f"{token.text!r} is not expected here")
        return pipeline

    def _peek(self) -> _Token | None:
        while self._at < len(self._tokens) and self._tokens[self._at].kind == "space":
            self._at += 1
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take_mark(self, *marks: str) -> str:
        token = self._peek()
        if token is None or token.kind != "mark" or token.text not in marks:
            return ""
        self._at += 1
        return token.text

    def _read_pipeline(self, depth: int) -> Pipeline:
        if depth > DEPTH_MAX:
            raise TemplateError(self._place, f"more than {DEPTH_MAX} parentheses deep")
        start = self._peek()
        at = self._place if start is None else start.at
        variables, is_new = self._read_variables()
        commands = [self._read_command(depth)]
        while self._take_mark("|"):
            commands.append(self._read_command(depth))
        for command in commands[1:]:
            if not isinstance(command[0], Function | Path):
                raise TemplateError(command[0].at, "what follows | is a function")
        return Pipeline(at, variables, is_new, tuple(commands))

    def _read_variables(self) -> tuple[tuple[str, ...], bool]:
        """`$x :=`, `$k, $v :=` or `$x =`; nothing is read if there is none of them."""
        began, names = self._at, []
        while (token := self._peek()) is not None and token.kind == "variable":
            self._at += 1
            names.append(token.text)
            if not self._take_mark(","):
                break
        mark = self._take_mark(":=", "=") if names else ""
        if not mark:
            self._at = began
            return (), False
        return tuple(names), mark == ":="

    def _read_command(self, depth: int) -> tuple[Operand, ...]:
        operands = []
        while (token := self._peek()) is not None:
            if token.kind == "mark" and token.text != "(":
                break
            operands.append(self._read_operand(token, depth))
        if not operands:
            raise TemplateError(self._place, "a value is missing")
        return tuple(operands)

    def _read_operand(self, token: _Token, depth: int) -> Operand:
        self._at += 1
        if token.kind in ("text", "number"):
            return Literal(token.at, _read_literal(token))
        if token.kind == "word":
            words = {"true": True, "false": False, "nil": None}
            if token.text in words:
                return Literal(token.at, words[token.text])
            return Function(token.at, token.text)
        variable, inner = "", None
        names: tuple[str, ...] = ()
        if token.kind == "mark":
            inner = self._read_pipeline(depth + 1)
            if not self._take_mark(")"):
                raise TemplateError(token.at, "( without )")
        elif token.kind == "variable":
            variable = token.text
        elif token.kind == "field":
            names = (token.text[1:],)
        return Path(token.at, variable, inner, (*names, *self._read_names()))

    def _read_names(self) -> list[str]:
        """The `.A` that follow at once, without a space."""
        names = []
        while self._at < len(self._tokens) and self._tokens[self._at].kind == "field":
            names.append(self._tokens[self._at].text[1:])
            self._at += 1
        return names


def _read_literal(token: _Token) -> object:
    if token.text.startswith("`"):
        return token.text[1:-1]
    try:
        value = ast.literal_eval(token.text)
    except (ValueError, SyntaxError):
        raise TemplateError(token.at, f"{token.text} is no constant") from None
    if token.text.startswith("'"):
        return ord(value)
    return value
