"""--format: JSON and templates where a command lists or shows something; a bad one is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from docklock import __version__
from docklock.cli.main import run
from docklock.cli.stats import HEADS, format_rows
from docklock.cli.tree import read_tree, walk
from docklock.paths import get_paths

# What shows or lists nothing but data of a format of its own, or one line.
WITHOUT = {
    "attach", "bpci audit", "bpci backup", "bpci export", "bpci grant", "bpci init", "bpci keys",
    "bpci openapi", "bpci restore", "bpci serve", "chain devnet", "chain genesis", "chain proof",
    "chain start", "completion", "cp", "create", "evidence", "evidence erase", "exec", "export",
    "audit enrol", "audit key", "import", "kill", "load", "log checkpoint", "log keys",
    "log proof", "log serve", "logs", "man", "mend", "agent", "notary aside", "notary export",
    "notary run", "pause", "policy export", "policy import", "policy schema", "prove", "pull",
    "quarantine", "rename", "restart", "rm", "rmi", "run", "start", "stop", "sync enrol",
    "sync proof", "tag", "unpause", "update", "wait", "witness key", "witness serve",
    "system prune", "container prune", "image prune",
    # with a registry
    "push", "login", "logout",
    # of one name, or refused
    "context show", "context use", "context rm", "context create", "context update",
    "context export", "context import",
}  # fmt: skip


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    return ["--root", str(tmp_path / "root"), "--runroot", str(tmp_path / "run")]


def test_what_lists_or_shows_has_format_json(tmp_path: Path) -> None:
    """A new command has --format, or is one of those above."""
    nodes = walk(read_tree(get_paths(str(tmp_path / "root"), str(tmp_path / "run"))))
    found = {
        name: {word for option in node.command.options for word in option.names}
        for name, node in nodes
        if not node.same and (not node.verbs or node.command.options)
    }
    lacking = {name for name, words in found.items() if "--format" not in words}
    assert lacking <= WITHOUT, f"give it --format json: {lacking - WITHOUT}"


def test_version_has_dockers_document(
    places: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*places, "version", "--format", "{{.Client.Version}} {{.Server.Os}}"]) == 0
    assert capsys.readouterr().out == f"{__version__} linux\n"
    assert run([*places, "version", "--format", "json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"Client", "Server"}
    assert run([*places, "--version"]) == 0
    assert capsys.readouterr().out == f"docklock {__version__}\n"


def test_info_takes_json_and_templates(
    places: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*places, "info", "--format", "json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert run([*places, "info", "-f", "{{.containers}} at {{.root}}"]) == 0
    assert capsys.readouterr().out == f"0 at {facts['root']}\n"
    assert run([*places, "info", "-f", "{{.contaniers}}"]) == 2
    assert "did you mean containers?" in capsys.readouterr().err


def test_stats_are_rows_of_a_table_of_json_or_of_a_template() -> None:
    row = dict.fromkeys(HEADS, "--") | {"Container": "0123456789ab", "Name": "web"}
    assert format_rows([row], "table", is_whole=False).splitlines()[0].startswith("CONTAINER ID")
    assert json.loads(format_rows([row], "json", is_whole=False)) == row
    shown = format_rows([row], r"table {{.Name}}\t{{.Container}}", is_whole=False)
    assert shown == "NAME      CONTAINER\nweb       0123456789ab\n"
    assert format_rows([row], "{{.Name}}: {{.PIDs}}", is_whole=False) == "web: --\n"


@pytest.mark.parametrize(
    "line",
    ["verify --all", "log fsck", "notary status", "receipts --host", "notary logblocks web"],
)
def test_the_older_json_and_format_json_are_one(
    line: str, places: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for more in (["--json"], ["--format", "json"], ["--format=json"]):
        code = run([*places, *line.split(), *more])
        shown = capsys.readouterr()
        said.append((code, shown.out, shown.err))
    assert said[0] == said[1] == said[2] and "did you mean" not in said[0][2]
    assert run([*places, *line.split(), "--format", "jsno"]) == 2
    assert "invalid choice: 'jsno'" in capsys.readouterr().err


def test_a_format_that_is_none_is_refused_before_anything_is_asked(
    places: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*places, "witness", "ask", "--format", "xml"]) == 2
    assert "--format takes json or text" in capsys.readouterr().err
    assert run([*places, "top", "web", "--format", "xml"]) == 2
    assert "--format takes json or table" in capsys.readouterr().err
