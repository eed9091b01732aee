"""--format: Go's templates over the values that `ps`, `images`, `inspect` and others show.

Not here: how a template is read (template_parse), its functions (template_functions), which fields
a command shows (the commands). Pure. A name that is not there is an error that says the names that
are: a template that silently gives nothing hides a slip.
Source: pkg.go.dev/text/template; docker/cli, cli/command/formatter/formatter.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

from docklock.cli.template_functions import FUNCTIONS, HEAD_FUNCTIONS, Functions, is_true, show
from docklock.cli.template_parse import (
    Block,
    Function,
    Literal,
    Node,
    Operand,
    Path,
    Pipeline,
    TemplateError,
    Text,
    parse_template,
)

TABLE, JSON = "table", "json"
COLUMN_CHARS_MIN = 10
COLUMN_GAP = 3
LOGICAL = ("and", "or")
NAMES_SHOWN_MAX = 40

Methods = Mapping[str, Callable[..., object]]


def render(nodes: tuple[Node, ...], value: object, methods: Methods | None = None) -> str:
    """What a template gives for a value. `methods` are fields of it that take arguments."""
    return _Run(value, methods or {}, FUNCTIONS).render(nodes)


def show_rows(
    rows: Sequence[Mapping[str, object]],
    template: str,
    heads: Mapping[str, str],
    methods: Sequence[Methods] | None = None,
) -> str:
    """Docker's listing of rows: a template for each, `table TEMPLATE` with its heads, or json.

    `methods` go with the rows; a table's head for a label is the end of the label's name.
    """
    if template.strip() == JSON:
        template = "{{json .}}"
    is_table = template.startswith(TABLE)
    text = template[len(TABLE) :] if is_table else template
    nodes = parse_template(text.strip(" ").replace("\\t", "\t").replace("\\n", "\n"))
    own = methods or [{}] * len(rows)
    lines = [
        _Run(dict(row), more, FUNCTIONS).render(nodes) for row, more in zip(rows, own, strict=True)
    ]
    if not is_table:
        return "".join(f"{line}\n" for line in lines)
    head = _Run(dict(heads), {"Label": show_label_head}, HEAD_FUNCTIONS).render(nodes)
    return align([head, *lines])


def show_label_head(name: object) -> str:
    """The head of a label's column."""
    return str(name).rpartition(".")[2].replace("-", " ").replace("_", " ")


def align(lines: Sequence[str]) -> str:
    """Columns between tabs, as wide as the widest cell and three more, ten at least."""
    table = [line.split("\t") for text in lines for line in text.split("\n")]
    widths: list[int] = []
    for row in table:
        widths += [COLUMN_CHARS_MIN] * (len(row) - 1 - len(widths))
        for column, cell in enumerate(row[:-1]):
            widths[column] = max(widths[column], len(cell) + COLUMN_GAP)
    return "".join(
        "".join(cell.ljust(widths[column]) for column, cell in enumerate(row[:-1])) + row[-1] + "\n"
        for row in table
    )


class _Run:
    """One rendering: the dot, and the variables that stand where it is."""

    def __init__(self, value: object, methods: Methods, functions: Functions) -> None:
        self._root, self._methods, self._functions = value, methods, functions
        self._variables: list[tuple[str, object]] = [("$", value)]

    def render(self, nodes: tuple[Node, ...]) -> str:
        """The whole text."""
        return self._render(nodes, self._root)

    def _render(self, nodes: tuple[Node, ...], dot: object) -> str:
        mark = len(self._variables)
        parts = []
        for node in nodes:
            if isinstance(node, Text):
                parts.append(node.text)
            elif isinstance(node, Block):
                parts.append(self._render_block(node, dot))
            else:
                value = self._compute(node, dot)
                if not node.variables:
                    parts.append(show(value))
        del self._variables[mark:]
        return "".join(parts)

    def _render_block(self, block: Block, dot: object) -> str:
        mark = len(self._variables)
        if block.kind == "range":
            text = self._render_range(block, dot)
        else:
            value = self._compute(block.pipeline, dot)
            inner = value if block.kind == "with" else dot
            chosen = (block.body, inner) if is_true(value) else (block.other, dot)
            text = self._render(*chosen)
        del self._variables[mark:]
        return text

    def _render_range(self, block: Block, dot: object) -> str:
        pipeline = block.pipeline
        value = self._compute(pipeline._replace(variables=()), dot)
        pairs: list[tuple[object, object]]
        if isinstance(value, dict):
            pairs = [(key, value[key]) for key in sorted(value)]
        elif isinstance(value, list | tuple):
            pairs = list(enumerate(value))
        elif value is None:
            pairs = []
        else:
            raise TemplateError(pipeline.at, f"range takes a list or a map, not {show(value)!r}")
        parts = []
        for key, item in pairs:
            mark = len(self._variables)
            found = (key, item) if len(pipeline.variables) == 2 else (item,)
            self._variables += zip(pipeline.variables, found, strict=False)
            parts.append(self._render(block.body, item))
            del self._variables[mark:]
        return "".join(parts) if pairs else self._render(block.other, dot)

    def _compute(self, pipeline: Pipeline, dot: object) -> object:
        value: object = None
        for number, command in enumerate(pipeline.commands):
            value = self._call(command, dot, (value,) if number else ())
        for name in pipeline.variables:
            if pipeline.is_new:
                self._variables.append((name, value))
            else:
                self._variables[self._find(name, pipeline.at)] = (name, value)
        return value

    def _find(self, name: str, at: int) -> int:
        for position in range(len(self._variables) - 1, -1, -1):
            if self._variables[position][0] == name:
                return position
        raise TemplateError(at, f"no variable {name}")

    def _call(self, command: tuple[Operand, ...], dot: object, last: tuple[object, ...]) -> object:
        first, rest = command[0], command[1:]
        if isinstance(first, Function):
            if first.name in LOGICAL:
                return self._choose(first, rest, dot, last)
            return self._call_function(first, [*(self._get(one, dot) for one in rest), *last])
        if not rest and not last:
            return self._get(first, dot)
        method = self._find_method(first, dot)
        if method is None:
            raise TemplateError(first.at, "takes no arguments: it is a value, no function")
        return _apply(method, first.at, [*(self._get(one, dot) for one in rest), *last])

    def _choose(
        self, first: Function, rest: tuple[Operand, ...], dot: object, last: tuple[object, ...]
    ) -> object:
        """`and` gives the first that is false, `or` the first that is true, else the last."""
        value: object = None
        for operand in rest:
            value = self._get(operand, dot)
            if is_true(value) == (first.name == "or"):
                return value
        return last[0] if last else value

    def _call_function(self, function: Function, arguments: list[object]) -> object:
        found = self._functions.get(function.name)
        if found is None:
            known = (*self._functions, *LOGICAL)
            near = get_close_matches(function.name, known, 1)
            hint = (
                f", did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(known))}"
            )
            raise TemplateError(function.at, f"unknown function {function.name!r}{hint}")
        return _apply(found, function.at, arguments)

    def _find_method(self, operand: Operand, dot: object) -> Callable[..., object] | None:
        if not isinstance(operand, Path) or len(operand.names) != 1 or operand.inner is not None:
            return None
        is_root = operand.variable == "$" or (not operand.variable and dot is self._root)
        return self._methods.get(operand.names[0]) if is_root else None

    def _get(self, operand: Operand, dot: object) -> object:
        if isinstance(operand, Literal):
            return operand.value
        if isinstance(operand, Function):
            return self._call((operand,), dot, ())
        if operand.inner is not None:
            value = self._compute(operand.inner, dot)
        elif operand.variable:
            value = self._variables[self._find(operand.variable, operand.at)][1]
        else:
            value = dot
        for name in operand.names:
            value = _get_field(value, name, operand.at)
        return value


def _get_field(value: object, name: str, at: int) -> object:
    if isinstance(value, dict) and name in value:
        found: object = value[name]
        return found
    if not isinstance(value, dict):
        raise TemplateError(at, f"no {name!r} here; there is nothing below it")
    names = [str(one) for one in value]
    near = get_close_matches(name, names, 1)
    hint = f", did you mean {near[0]}?" if near else ""
    shown = ", ".join(names[:NAMES_SHOWN_MAX]) or "nothing"
    raise TemplateError(at, f"no {name!r} here{hint}; there is {shown}")


def _apply(function: Callable[..., object], at: int, arguments: list[object]) -> object:
    try:
        return function(*arguments)
    except TypeError:
        raise TemplateError(at, f"cannot be called with {len(arguments)} values") from None
    except ValueError as error:
        raise TemplateError(at, str(error)) from None
