"""Docker's nouns stand for commands that are there, and their help says so."""

from __future__ import annotations

import pytest

from chainlite.errors import SpecError
from docklock.cli.main import COMMANDS, NOUNS, run
from docklock.cli.nouns import VERBS, find_command, get_verbs


def test_every_verb_shown_is_a_command_and_every_noun_has_its_table() -> None:
    assert set(NOUNS) == set(VERBS)
    for noun in NOUNS:
        for verb, words in get_verbs(noun, COMMANDS).items():
            assert words[0] in COMMANDS, verb
    for name in COMMANDS:
        noun, space, verb = name.partition(" ")
        assert not space or VERBS[noun][verb] == (name,)


@pytest.mark.parametrize(
    ("noun", "verb", "words"),
    [
        ("image", "ls", ("images",)),
        ("image", "rm", ("rmi",)),
        ("image", "inspect", ("inspect", "--type=image")),
        ("container", "ls", ("ps",)),
        ("container", "inspect", ("inspect", "--type=container")),
        ("container", "run", ("run",)),
        ("container", "prune", ("container prune",)),
    ],
)
def test_a_verb_stands_for_dockers_command(noun: str, verb: str, words: tuple[str, ...]) -> None:
    assert find_command(noun, verb, COMMANDS) == words


def test_what_is_no_verb_is_said_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SpecError, match="unknown command 'hstory', did you mean history?"):
        find_command("image", "hstory", COMMANDS)
    with pytest.raises(SpecError, match="unknown command 'run'"):
        find_command("image", "run", COMMANDS)
    with pytest.raises(SpecError, match="unknown command 'commit'"):
        find_command("container", "commit", {"ps": ("", "", "")})
    assert run(["image", "hstory"]) == 2
    assert "did you mean history?" in capsys.readouterr().err


def test_help_is_under_the_name_that_was_called(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["container", "ls", "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Usage: docklock container ls [OPTIONS]")
    assert (
        "Aliases: docklock container ls, docklock container list, docklock container ps, " in shown
    )
    assert shown.rstrip().endswith("docklock ps")
    assert run(["image"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Usage: docklock image COMMAND ..."
    assert "  rm         Remove images" in lines
    assert not [line for line in lines if line.startswith("  remove")]
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert "  image      Manage images" in shown
    assert "image prune" not in shown
