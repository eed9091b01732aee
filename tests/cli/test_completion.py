"""What a shell offers, asked of the real shells with the real scripts; fish, zsh where they are."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docklock.cli.completion import get_kinds, list_names, read_entries
from docklock.cli.main import run
from docklock.cli.tree import read_tree
from docklock.lifecycle import names_dir
from docklock.paths import Paths, get_paths

NAMES = ("web-1", "web-2", "db")
# What is typed after the program -> all that is offered.
OFFERED = {
    "ru": "run",
    "run --pol": "--policy",
    "run --policy def": "default",
    "stop web": "web-1 web-2",
    "stop db web": "web-1 web-2",
    "container stop d": "db",
    "rm -f web-2": "web-2",
    "policy sh": "show",
    "policy show stri": "strict",
    "keys sh": "show",
    "run --restart un": "unless-stopped",
    "run --cap-drop NET_B": "NET_BIND_SERVICE NET_BROADCAST",
    "exec web-1 --us": "",
    "inspect db": "db",
    "evidence er": "erase",
    "load -i /etc/hostn": "/etc/hostname",
    "man rec": "receipts",
}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A root with containers' names."""
    paths = get_paths(str(tmp_path / "root"), str(tmp_path / "run"))
    os.makedirs(names_dir(paths))
    for number, name in enumerate(NAMES):
        os.symlink(f"{number:064x}", f"{names_dir(paths)}/{name}")
    return paths


@pytest.fixture
def program(tmp_path: Path) -> str:
    """A docklock of this checkout, whatever is installed."""
    path = tmp_path / "docklock"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -m docklock.cli.main "$@"\n')
    path.chmod(0o755)
    return str(path)


def write_script(shell: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert run(["completion", shell]) == 0
    path = folder / f"script.{shell}"
    path.write_text(capsys.readouterr().out)
    return str(path)


def ask(shell: str, code: str, paths: Paths, folder: Path) -> list[str]:
    done = subprocess.run(
        [*shlex.split(shell), "-c", code],
        cwd=folder,
        env=os.environ | {
            "DOCKLOCK_ROOT": paths.state, "DOCKLOCK_RUNROOT": paths.run, "HOME": str(folder),
            "PYTHONPATH": str(Path(__file__).parents[2]), "PATH": f"{folder}:{os.environ['PATH']}",
        },
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.splitlines()


def ask_bash(lines: list[str], script: str, paths: Paths, folder: Path) -> list[str]:
    code = [f"source {shlex.quote(script)}"]
    for line in lines:
        code += [f"COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)}", "_docklock"]
        code += ['echo "${COMPREPLY[*]}"']
    return ask("bash --norc", "\n".join(code), paths, folder)


@pytest.mark.usefixtures("program")
def test_bash_offers_commands_options_and_names(
    paths: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = write_script("bash", tmp_path, capsys)
    lines = [f"docklock {typed}" for typed in OFFERED]
    assert ask_bash(lines, script, paths, tmp_path) == list(OFFERED.values())


@pytest.mark.usefixtures("program")
def test_bash_is_told_the_rest_of_what_it_parts_and_asks_the_root_that_is_named(
    paths: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = write_script("bash", tmp_path, capsys)
    elsewhere = f"docklock --root {tmp_path}/elsewhere stop w"
    named = f"docklock --root={paths.state} stop d"
    asked = ["docklock run --policy=def", elsewhere, named]
    assert ask_bash(asked, script, paths, tmp_path) == ["default", "", "db"]


@pytest.mark.usefixtures("program")
def test_bash_expands_nothing_that_a_name_holds(
    paths: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "x$(touch run-by-completion)"
    os.symlink("0" * 64, f"{names_dir(paths)}/{name}")
    script = write_script("bash", tmp_path, capsys)
    assert ask_bash(["docklock stop x"], script, paths, tmp_path) == [name]
    assert not (tmp_path / "run-by-completion").exists()


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
@pytest.mark.usefixtures("program")
def test_fish_offers_the_same(
    paths: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = write_script("fish", tmp_path, capsys)
    code = [f"source {script}"]
    for typed in OFFERED:
        line = shlex.quote(f"docklock {typed}")
        code.append(f"echo (complete -C {line} | string split -f1 \\t | sort)")
    said = ask("fish --no-config", "\n".join(code), paths, tmp_path)
    # It offers what only contains what was typed where nothing begins so.
    differing = {typed: line for typed, line in zip(OFFERED, said, strict=True)
                 if line != OFFERED[typed]}  # fmt: skip
    assert set(differing) <= {"exec web-1 --us"}


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_reads_the_script(
    paths: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = write_script("zsh", tmp_path, capsys)
    ask("zsh -f", f"autoload -Uz compinit; compinit -u -D; source {script}", paths, tmp_path)


def test_names_are_read_and_nothing_is_made(paths: Paths, tmp_path: Path) -> None:
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    assert list_names(["container", "image"], paths) == sorted(NAMES)
    assert list_names(["container", "image"], get_paths(str(tmp_path / "no"))) == []
    assert before == sorted(str(path) for path in tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("shown", "kinds"),
    [
        ("CONTAINER...", ("container",)),
        ("[CONTAINER|FILE]", ("container", "file")),
        ("FILE|DIR", ("file",)),
        ("NAME|FILE", ("policy", "file")),
        ("text|json", ("@text", "@json")),
        ("SECONDS", ()),
    ],
)
def test_what_a_usage_shows_is_what_is_offered(shown: str, kinds: tuple[str, ...]) -> None:
    assert get_kinds(shown, "policy") == kinds


@pytest.mark.parametrize("path", ["pull", "image push", "images", "tag", "run"])
def test_images_are_offered_where_one_is_named(paths: Paths, path: str) -> None:
    entries = {name: entry for entry in read_entries(read_tree(paths)) for name in entry.paths}
    assert "image" in entries[path].places[0]
