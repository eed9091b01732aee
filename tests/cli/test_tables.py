"""Tables and help fit the terminal that they are shown on; what goes elsewhere is whole."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docklock.cli.ps import COLUMNS, HEADS
from docklock.image.imports import import_directory
from docklock.image.listing import CUT, fit, show_table
from docklock.image.reference import parse_reference
from docklock.paths import get_paths
from tests.cli.screens import TOP, run_on_terminal

HEAD = [HEADS[key] for key in COLUMNS]
ROW = ["0123456789ab", "registry.example.org/a/long/name:1", '"sh -c while true…"', "2 weeks ago",
       "Up 2 weeks (healthy)", "", "a-name-that-somebody-gave"]  # fmt: skip


@pytest.mark.parametrize("columns", [60, 80, 100, 120, 200])
def test_a_table_is_no_wider_than_the_terminal(columns: int) -> None:
    whole = show_table(HEAD, [ROW])
    table = fit([HEAD, ROW], columns)
    cut = show_table(table[0], table[1:])
    least = 77  # ids, heads and 8 characters of all else
    assert max(map(len, cut.splitlines())) <= max(columns, least)
    assert (cut == whole) == (columns == 200)
    assert table[1][0] == ROW[0], "an id is never cut"


def test_names_are_cut_last_and_heads_stay() -> None:
    table = fit([HEAD, ROW], 100)
    assert table[0] == HEAD
    assert table[1][6] == ROW[6] and table[1][1].endswith(CUT)
    assert fit([HEAD, ROW], 85)[1][6].endswith(CUT)


def test_a_cell_of_any_length_costs_no_time_to_cut() -> None:
    [_, row] = fit([["ID", "WHAT"], ["1", "x" * 10_000_000]], 40)
    assert row[1] == f"{'x' * 29}{CUT}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with an image of a long name."""
    paths = get_paths(str(tmp_path / "root"), str(tmp_path / "run"))
    (tmp_path / "tree").mkdir()
    name = parse_reference(f"registry.example.org/{'x' * 90}:tag")
    import_directory(paths, str(tmp_path / "tree"), name, [], "")
    return tmp_path


def test_images_fit_the_terminal_and_a_pipe_gets_all(root: Path) -> None:
    places = ["--root", str(root / "root"), "--runroot", str(root / "run")]
    code, shown = run_on_terminal([*places, "images"], columns=80)
    assert code == 0 and CUT in shown and max(map(len, shown.splitlines())) <= 80
    code, wide = run_on_terminal([*places, "images"], columns=80, COLUMNS="200")
    assert code == 0 and CUT not in wide and "x" * 90 in wide
    code, whole = run_on_terminal([*places, "images", "--no-trunc"], columns=80)
    assert code == 0 and "x" * 90 in whole
    words = [sys.executable, "-m", "docklock.cli.main", *places, "images"]
    piped = subprocess.run(words, cwd=TOP, env={"COLUMNS": "40"}, capture_output=True, text=True)
    assert "x" * 90 in piped.stdout and CUT not in piped.stdout


def test_an_odd_width_cuts_nothing(root: Path) -> None:
    for columns in ("0", "-1", "many", "5"):
        code, shown = run_on_terminal(["--root", str(root / "root"), "images"], 0, COLUMNS=columns)
        assert code == 0 and "x" * 90 in shown


def test_help_is_wrapped_on_a_terminal() -> None:
    code, shown = run_on_terminal(["chain", "--help"], columns=60)
    assert code == 0 and max(map(len, shown.splitlines())) <= 76  # an example is never cut
    assert [line for line in shown.splitlines() if re.match(r" {14}\S", line)]
    code, shown = run_on_terminal(["--help"], columns=40)
    assert code == 0 and max(map(len, shown.splitlines()[1:])) <= 40
    code, shown = run_on_terminal(["chain", "--help"], columns=200)
    assert "devnet      Try it: several validators on this host" in shown


def test_nothing_is_coloured(root: Path) -> None:
    for words in (["images"], ["--help"], ["ps", "--help"], ["check"], ["policy", "ls"]):
        for more in ({"NO_COLOR": "1"}, {"TERM": "xterm-256color"}):
            code, shown = run_on_terminal(["--root", str(root / "root"), *words], **more)
            assert code in (0, 1) and "\x1b" not in shown


def test_json_has_what_the_table_cuts(root: Path) -> None:
    places = ["--root", str(root / "root"), "--runroot", str(root / "run")]
    code, shown = run_on_terminal([*places, "images", "--format", "json"], columns=40)
    assert code == 0 and "x" * 90 in json.loads(shown)["Repository"]
