"""The tree of all commands is what they say of themselves; a mistake is told with the nearest."""

from __future__ import annotations

from pathlib import Path

import pytest

from docklock.cli.main import COMMANDS, NOUNS, run
from docklock.cli.nouns import ALIASES, VERBS
from docklock.cli.tree import read_tree, walk
from docklock.paths import get_paths


def test_the_tree_has_every_command_and_reading_it_makes_nothing(tmp_path: Path) -> None:
    nodes = dict(walk(read_tree(get_paths(str(tmp_path / "root"), str(tmp_path / "run")))))
    assert set(COMMANDS) | set(NOUNS) <= set(nodes)
    shown = {f"{noun} {verb}" for noun in NOUNS for verb in VERBS[noun] if verb not in ALIASES}
    assert shown >= {name for name in nodes if name.partition(" ")[0] in NOUNS and " " in name}
    assert {"policy explain", "chain tx", "evidence erase", "log fsck"} <= set(nodes)
    assert list(tmp_path.iterdir()) == []
    for name, node in nodes.items():
        assert node.command.summary, f"docklock {name} does not say what it does"
        assert node.same or node.command.name == name


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["pss"], "did you mean ps?"),
        (["run", "--polcy", "x"], "did you mean --policy?"),
        (["image", "hstory"], "did you mean history?"),
        (["chain", "statsu"], "did you mean status?"),
        (["policy", "shwo"], "did you mean show?"),
        (["policy", "ls", "--fromat=json"], "did you mean --format?"),
        (["verify", "--jsno"], "did you mean --json?"),
        (["keys", "shwo"], "did you mean show?"),
        (["system", "pruen"], "did you mean prune?"),
        (["completion", "bsh"], "did you mean bash?"),
    ],
)
def test_a_mistake_is_told_with_the_nearest(
    words: list[str], hint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--root", str(tmp_path), "--runroot", str(tmp_path), *words]) in (2, 125)
    assert hint in capsys.readouterr().err
