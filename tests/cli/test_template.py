"""Templates give what Go's give, and what they do not know is said with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from docklock.cli.template import align, render, show_rows
from docklock.cli.template_parse import DEPTH_MAX, TemplateError, parse_template

VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors/go_templates.json").read_text(encoding="utf-8")
)
VALUE = VECTORS["value"]


def sort_json(text: str) -> object:
    return json.loads(text) if text.startswith("{") else text


@pytest.mark.parametrize(("template", "expected"), VECTORS["cases"])
def test_a_template_gives_what_go_gives(template: str, expected: str) -> None:
    assert sort_json(render(parse_template(template), VALUE)) == sort_json(expected)


@pytest.mark.parametrize(
    ("template", "at", "why"),
    [
        ("{{.X}}", 3, "no 'X' here; there is Name, N,"),
        ("ab {{.State.Statu}}", 6, "no 'Statu' here, did you mean Status?"),
        ("{{.N.X}}", 3, "nothing below it"),
        ("{{", 1, "{{ without }}"),
        ('{{"abc}}', 3, "means nothing here"),
        ("{{if .N}}x", 1, "{{if}} without {{end}}"),
        ("x{{end}}", 2, "{{end}} without its beginning"),
        ("{{else}}", 1, "{{else}} without its beginning"),
        ("{{if}}x{{end}}", 1, "a value is missing"),
        ("{{if .N}}x{{end .N}}", 17, "'.N' after end"),
        ("{{foo .N}}", 3, "unknown function 'foo'; there are and, eq"),
        ("{{jsn .N}}", 3, "unknown function 'jsn', did you mean json?"),
        ("{{len .N}}", 3, "a number has no length"),
        ("{{index .Cmd 7}}", 3, "index 7 is out of range: there are 3"),
        ("{{index .Labels 3}}", 3, "expected a text"),
        ("{{.N 3}}", 3, "takes no arguments"),
        ("{{(.N}}", 3, "( without )"),
        ("{{.N )}}", 6, "')' is not expected here"),
        ("{{$q}}", 3, "no variable $q"),
        ("{{.N | 3}}", 8, "what follows | is a function"),
        ("{{range .N}}{{end}}", 9, "range takes a list or a map"),
        ('{{printf "%d" "x"}}', 3, "%d does not take a text"),
        ('{{printf "%99999s" "x"}}', 3, "a width of at most"),
        ("{{upper}}", 3, "cannot be called with 0 values"),
        ("{{" + "(" * 99 + "1" + ")" * 99 + "}}", 1, f"more than {DEPTH_MAX} parentheses"),
        ("{{if .N}}" * 99, 1 + 9 * DEPTH_MAX, f"more than {DEPTH_MAX} blocks"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(template: str, at: int, why: str) -> None:
    with pytest.raises(TemplateError) as error:
        render(parse_template(template), VALUE)
    assert str(error.value).startswith(f"--format: character {at}: ")
    assert why in str(error.value)


def test_a_label_that_is_not_there_is_empty() -> None:
    assert render(parse_template('[{{index .Labels "none"}}]'), VALUE) == "[]"


def test_rows_are_shown_in_all_of_dockers_forms() -> None:
    rows = [{"ID": "1", "Name": "a"}, {"ID": "22", "Name": "b<&>é"}]
    heads = {"ID": "CONTAINER ID", "Name": "NAMES"}
    methods = [{"Label": {"x.role-name": "web"}.get}, {"Label": lambda _: ""}]
    assert show_rows(rows, "{{.ID}}\\t{{upper .Name}}", heads) == "1\tA\n22\tB<&>É\n"
    assert show_rows(rows, 'table {{.ID}}\\t{{lower .Name}}\t{{.Label "x.role-name"}}', heads,
                     methods) == (
        "CONTAINER ID   NAMES     role name\n"
        "1              a         web\n"
        "22             b<&>é     \n"
    )  # fmt: skip
    assert show_rows(rows, "json", heads) == '{"ID":"1","Name":"a"}\n{"ID":"22","Name":"b<&>é"}\n'
    assert show_rows(rows[:1], "{{json .Name}}", heads) == '"a"\n'
    assert show_rows([], "table {{.ID}}", heads) == "CONTAINER ID\n"
    with pytest.raises(TemplateError, match="no 'Foo' here"):
        show_rows([], "table {{.Foo}}", heads)


def test_columns_are_as_wide_as_their_widest_cell_and_ten_at_least() -> None:
    assert align(["a\tb\tc", "x" * 12 + "\ty", "z"]) == (
        "a              b         c\n" + "x" * 12 + "   y\nz\n"
    )
