"""A name that is none is told with the nearest of what is there, and costs a bounded time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from docklock.cli.main import run
from docklock.image.imports import import_directory
from docklock.image.reference import parse_reference
from docklock.lifecycle import names_dir
from docklock.nearest import KNOWN_MAX, suggest
from docklock.paths import get_paths
from tests.image.scripted import Reply, Scripted

NAMES = ("web", "database")


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    """The options of a root with two containers' names and an image."""
    paths = get_paths(str(tmp_path / "root"), str(tmp_path / "run"))
    os.makedirs(names_dir(paths))
    for number, name in enumerate(NAMES):
        os.symlink(f"{number:064x}", f"{names_dir(paths)}/{name}")
    (tmp_path / "tree").mkdir()
    import_directory(paths, str(tmp_path / "tree"), parse_reference("busybox:1.36"), [], "")
    return ["--root", paths.state, "--runroot", paths.run]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("stop wbe", "No such container: wbe, did you mean web?"),
        ("logs datbase", "No such container: datbase, did you mean database?"),
        ("exec datbase true", "No such container: datbase, did you mean database?"),
        ("container rm datbase", "No such container: datbase, did you mean database?"),
        ("stop zzz", "No such container: zzz\n"),
        ("rmi busybx", "No such image: busybx, did you mean busybox?"),
        ("tag busybox:1.35 x", "No such image: busybox:1.35, did you mean busybox:1.36?"),
        ("create --pull never bsybox", "No such image: bsybox, did you mean busybox?"),
        ("rmi zzz", "No such image: zzz: see `docklock images`"),
        ("inspect wbe", "No such object: wbe, did you mean web?"),
        ("inspect busybxo", "No such object: busybxo, did you mean busybox?"),
        ("inspect zzz", "No such object: zzz\n"),
        ("create --polcy x busybox", "unknown option --polcy, did you mean --policy?"),
        ("images --fromat json", "unknown option --fromat, did you mean --format?"),
        ("evnets", "unknown command 'evnets', did you mean events?"),
    ],
)
def test_a_name_that_is_none_is_told_with_the_nearest(
    line: str, said: str, places: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*places, *line.split()]) != 0
    assert said in capsys.readouterr().err


def test_what_cannot_be_pulled_is_told_with_the_nearest_that_is_here(
    places: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with Scripted(lambda _: Reply(404)) as registry:
        here, missing = f"{registry.domain}/team/web", f"{registry.domain}/team/wbe"
        assert run([*places, "tag", "busybox:1.36", here]) == 0
        assert run([*places, "create", missing]) == 125
    said = capsys.readouterr().err
    assert f"{missing} is no image that is here, did you mean {here}?" in said


def test_so_many_names_are_looked_at_and_no_more() -> None:
    known = (f"container-{number}" for number in range(10**9))
    assert suggest("container-17x", known) == ", did you mean container-17?"
    assert next(known) == f"container-{KNOWN_MAX}"
    assert suggest("x" * 10**6, ["x"]) == ""
