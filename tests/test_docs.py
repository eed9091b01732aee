"""The documents' promises, run: the README's commands and session, and every test they name.

The README's session is a fenced block that begins with ```console. Its lines that begin with `$ `
are commands (in order, one shell, in a copy of nothing: an empty directory and a root of their
own); `# exit N` at the end of one is its exit code, 0 if there is none. Other lines are output,
for the eye only.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent
FIRST_SCREEN_LINES = 60
SESSION_COMMANDS_MAX = 12
SESSION_SECONDS = 120


def get_documents() -> list[Path]:
    """Every document of ours: not what tools keep in hidden directories, not others' vectors."""
    found = ((path, path.relative_to(TOP).parts) for path in TOP.rglob("*.md"))
    return sorted(path for path, parts in found if parts[0][0] != "." and "vectors" not in parts)


def get_readme() -> str:
    return (TOP / "README.md").read_text()


def get_test_names() -> set[str]:
    """Every test's function name, and with its file: test_x, tests/a/test_b.py::test_x."""
    names = set()
    for path in (TOP / "tests").rglob("test_*.py"):
        relative = path.relative_to(TOP).as_posix()
        names |= {path.name, path.stem, relative}
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                names |= {node.name, f"{relative}::{node.name}", f"{path.name}::{node.name}"}
    return names


def get_fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def get_session() -> list[tuple[str, int]]:
    """The README's session: every command with the exit code it promises."""
    [session, *_] = get_fenced(get_readme(), "console")
    commands = []
    for line in session.splitlines():
        if line.startswith("$ "):
            command, _, note = line[2:].partition("# exit ")
            commands.append((command.strip(), int(note or "0")))
    return commands


def test_the_first_screen_says_what_how_and_shows_it() -> None:
    first = "\n".join(get_readme().splitlines()[:FIRST_SCREEN_LINES])
    shell = get_fenced(first, "sh")
    set_up = [line.split("#")[0].strip() for block in shell for line in block.splitlines()]
    assert [line for line in set_up if line.startswith("./")] == ["./demo", "./test"]
    assert "```console" in first, "the session belongs on the first screen"
    assert "--gate" in first or "-->" in first, "the picture belongs on the first screen"


def test_both_set_up_commands_exist_and_run() -> None:
    for name in ("demo", "test", ".ci/run"):
        path = TOP / name
        assert os.access(path, os.X_OK), f"{name} is not executable"
        assert subprocess.run(["sh", "-n", str(path)]).returncode == 0
    assert "./test" in (TOP / ".ci/run").read_text()


def test_the_session_shows_the_whole_promise() -> None:
    commands = get_session()
    words = " ".join(command for command, _ in commands)
    assert 3 <= len(commands) <= SESSION_COMMANDS_MAX
    for word in ("docklock run", "docklock receipts", "docklock verify"):
        assert word in words
    assert 3 in {code for _, code in commands}, "the session shows spoilt evidence refused"


@pytest.mark.skipif(os.geteuid() != 0, reason="containers need root")
def test_the_session_runs_as_written(tmp_path: Path) -> None:
    """All in one bash, so that variables and files of one line serve the next."""
    lines = []
    for command, code in get_session():
        lines += [
            f"{command}\ncode=$?",
            f'[ $code = {code} ] || {{ echo "exit $code, not {code}:" '
            f"{shlex.quote(command)} >&2; exit 99; }}",
        ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DOCKLOCK_")}
    path = f"{Path(sys.executable).parent}:{TOP / '.venv/bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        cwd=tmp_path,
        env=environment | {"DOCKLOCK_ROOT": str(tmp_path / "root"), "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SESSION_SECONDS,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]


def test_every_test_that_a_document_names_exists() -> None:
    known = get_test_names()
    missing = [
        f"{document.relative_to(TOP)}: {name}"
        for document in get_documents()
        for name in re.findall(
            r"`((?:tests/[\w/.]+::)?test_\w+(?:\.py)?(?:::test_\w+)?)`", document.read_text()
        )
        if name not in known
    ]
    assert not missing


def test_every_path_that_a_document_links_exists() -> None:
    missing = [
        f"{document.relative_to(TOP)}: {target}"
        for document in get_documents()
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", document.read_text())
        if not (document.parent / target).exists()
    ]
    assert not missing


def test_every_command_that_a_document_shows_is_one() -> None:
    """`docklock NOUN` in a document's code is a command that the program knows."""
    done = subprocess.run(
        [sys.executable, "-m", "docklock.cli.main", "--help"],
        cwd=TOP,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    known = set(re.findall(r"[a-z-]+", done.stdout))
    shown = {
        noun: document.relative_to(TOP)
        for document in get_documents()
        for block in get_fenced(document.read_text(), "(?:console|sh)")
        for noun in re.findall(r"^(?:\$ )?docklock ([a-z]+)", block, flags=re.MULTILINE)
    }
    assert not {noun: place for noun, place in shown.items() if noun not in known}
