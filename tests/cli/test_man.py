"""The manual pages are what the tables say, whole and clean; they are shown, printed or written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from docklock.cli import oci, options
from docklock.cli.main import COMMANDS, run
from docklock.cli.man_pages import escape, escape_literal, list_aliases, name_page, write_pages
from docklock.cli.tree import GLOBAL, HELP, Node, read_tree
from docklock.paths import get_paths
from tests.cli.screens import run_on_terminal

needs_mandoc = pytest.mark.skipif(not shutil.which("mandoc"), reason="mandoc is not installed")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Node]:
    folder = tmp_path_factory.mktemp("root")
    return read_tree(get_paths(str(folder / "root"), str(folder / "run")))


def list_shown(page: str) -> set[str]:
    """The options that a page describes."""
    heads = re.findall(r"^\.TP\n(.*)$", page, flags=re.MULTILINE)
    bold = [word for head in heads for word in re.findall(r"\\fB(.*?)\\fR", head)]
    return {word.replace(r"\-", "-") for word in bold if word.startswith(r"\-")}


def test_a_page_has_every_option_of_its_command_and_no_other(tree: dict[str, Node]) -> None:
    pages = write_pages(tree)
    assert set(pages) == {"docklock", "docklock-runtime", *map(name_page, tree)}
    assert list_shown(pages["docklock"]) == {name for one in GLOBAL for name in one.names}
    for name, node in tree.items():
        own = [verb for verb in node.verbs.values() if not verb.same]
        known = [*node.command.options, *(one for verb in own for one in verb.command.options)]
        if not node.verbs or node.command.options:
            known.append(HELP)
        assert list_shown(pages[name_page(name)]) == {word for one in known for word in one.names}


def test_every_other_name_leads_to_a_page(tree: dict[str, Node]) -> None:
    aliases = list_aliases(tree)
    assert aliases["container ls"] == "ps" and aliases["image prune"] == "image"
    assert set(map(name_page, aliases.values())) <= set(write_pages(tree))


@needs_mandoc
def test_mandoc_finds_nothing_in_them(tmp_path: Path) -> None:
    assert run(["man", "-o", str(tmp_path)]) == 0
    files = sorted(map(str, tmp_path.iterdir()))
    done = subprocess.run(["mandoc", "-Tlint", *files], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stdout + done.stderr
    names = {os.path.basename(path) for path in files}
    assert {f"{name_page(name)}.1" for name in COMMANDS} <= names
    assert os.readlink(tmp_path / "docklock-container-ls.1") == "docklock-ps.1"


@needs_mandoc
@pytest.mark.parametrize("said", [".so /etc/passwd", "'tis", r"\fBnot bold\n", "a - b", '"q" %'])
def test_no_text_is_read_as_a_request(said: str) -> None:
    for made in (escape(said), escape_literal(said)):
        page = f'.TH X 1 "2026-11-29"\n.SH NAME\nx \\- y\n.SH DESCRIPTION\n{made}\n'
        words = ["mandoc", "-Tutf8", "-Owidth=200"]
        shown = subprocess.run(words, input=page, capture_output=True, text=True).stdout
        assert said in re.sub(".\b", "", shown)


def test_written_again_the_pages_are_those_of_now(tmp_path: Path) -> None:
    (tmp_path / "docklock-ps.1").write_text("old")
    (tmp_path / "docklock-image-ls.1").write_text("old")
    for _ in range(2):
        assert run(["man", "-o", str(tmp_path)]) == 0
    assert "old" not in (tmp_path / "docklock-ps.1").read_text()
    assert (tmp_path / "docklock-image-ls.1").read_text().startswith(r".TH DOCKLOCK\-IMAGES")


@pytest.mark.parametrize(
    ("words", "title"),
    [
        ([], "DOCKLOCK"),
        (["ps"], r"DOCKLOCK\-PS"),
        (["container", "ls"], r"DOCKLOCK\-PS"),
        (["chain", "status"], r"DOCKLOCK\-CHAIN"),
        (["image", "prune"], r"DOCKLOCK\-IMAGE"),
        (["container"], r"DOCKLOCK\-CONTAINER"),
        (["runtime"], r"DOCKLOCK\-RUNTIME"),
    ],
)
def test_a_pipe_gets_the_source(
    words: list[str], title: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["man", *words]) == 0
    assert capsys.readouterr().out.startswith(f".TH {title} 1 ")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["rnu"], "no command 'rnu', did you mean run?"),
        (["chain", "statsu"], "no command 'chain statsu', did you mean status?"),
        (["ps", "-o"], "-o needs DIR"),
        (["a", "b", "c"], "expected [OPTIONS] [TOPIC [VERB]]"),
    ],
)
def test_what_has_no_page_is_said(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["man", *words]) == 2
    assert hint in capsys.readouterr().err


def test_a_directory_that_cannot_be_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert run(["man", "-o", str(tmp_path / "file/x")]) == 2
    assert "file/x: Not a directory" in capsys.readouterr().err


def test_on_a_terminal_man_shows_it(tmp_path: Path) -> None:
    """By a man of ours, so that no pager waits for a key."""
    (tmp_path / "man").write_text('#!/bin/sh\necho "$1 ${2##*/}"; head -1 "$2"; exit 7\n')
    (tmp_path / "man").chmod(0o755)
    code, shown = run_on_terminal(["man", "container", "ls"], PATH=f"{tmp_path}:/usr/bin:/bin")
    assert code == 7 and r"-l docklock-ps.1" in shown and r".TH DOCKLOCK\-PS" in shown
    code, shown = run_on_terminal(["man", "ps"], PATH=str(tmp_path / "none"))
    assert code == 1 and "man is not installed here" in shown


def test_help_takes_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help", "chain", "status"]) == 0
    assert capsys.readouterr().out.startswith("Usage: docklock chain status")
    assert run(["help"]) == 0
    assert "docklock man COMMAND is its page" in capsys.readouterr().out
    assert run(["help", "statsu"]) == 2
    assert "did you mean stats?" in capsys.readouterr().err


def test_the_runtimes_help_and_page_are_of_its_own_name(
    tree: dict[str, Node], capsys: pytest.CaptureFixture[str]
) -> None:
    page = write_pages(tree)["docklock-runtime"]
    known = [*GLOBAL, *(option for one in oci.COMMANDS.values() for option in one.options)]
    assert list_shown(page) == {name for option in known for name in option.names}
    assert set(oci.COMMANDS) == set(oci.VERBS)
    for verb, command in oci.COMMANDS.items():
        assert oci.run([verb, "--help"]) == 0
        shown = capsys.readouterr().out
        assert shown.startswith(f"Usage: docklock-runtime {verb} ")
        for line in command.examples:
            program, first, *words = line.split()
            assert (program, first) == ("docklock-runtime", verb) and line in shown
            options.parse(command, words)
    assert oci.run(["--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage: docklock-runtime VERB ...")
