"""ps, images and inspect choose and show as Docker's do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Docklock


@pytest.fixture(scope="module")
def listed(dock: Docklock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docklock]:
    """Containers `old` (ended, 3), `up` (runs, labels, a bind) and `new` (created); two images."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "file").write_text("x")
    dock("import", "-c", "LABEL kind=made", "-m", "by hand", str(folder), "made/by:hand")
    dock("tag", "made/by:hand", "spare")
    dock("run", "--name", "old", "busybox", "sh", "-c", "exit 3", code=3)
    dock("run", "-d", "--name", "up", "--label", "com.ex.role=web", "--label", "plain",
         "-v", f"{folder}:/made:ro", "busybox", "sleep", "60")  # fmt: skip
    dock("create", "--name", "new", "busybox:latest", "true")
    yield dock
    dock("rm", "-f", "old", "up", "new")


def ps(dock: Docklock, *words: str) -> list[str]:
    return dock("ps", "--format", "{{.Names}}", *words).stdout.split()


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("", "up"),
        ("-a", "new up old"),
        ("-n 2", "new up"),
        ("-l", "new"),
        ("-f status=exited", "old"),
        ("-f status=exited -f status=created", "new old"),
        ("-a -f exited=3", "old"),
        ("-a -f exited=0", ""),
        ("-a -f name=^/?[no]", "new old"),
        ("-f label=plain -f label=com.ex.role=web", "up"),
        ("-f label=plain -f label=com.ex.role=db", ""),
        ("-a -f ancestor=busybox", "new up old"),
        ("-a -f ancestor=spare", ""),
        ("-a -f before=up", "old"),
        ("-a -f since=up", "new"),
        ("-f volume=/made", "up"),
        ("-a -f network=none -f health=none -f name=up", "up"),
        ("-a -f network=host", ""),
    ],
)
def test_ps_chooses_as_docker_does(listed: Docklock, words: str, names: str) -> None:
    assert ps(listed, *words.split()) == names.split()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("ps -f colour=red", "invalid filter 'colour'; there are ancestor, before"),
        ("ps -f nam=x", "invalid filter 'nam', did you mean name?"),
        ("ps -f name", "give KEY=VALUE"),
        ("ps -f status=gone", "invalid filter 'status=gone'; there are created"),
        ("ps -f exited=x", "give an exit code"),
        ("ps -n x", "takes a number"),
        ("images -f dangling=maybe", "invalid filter 'dangling=maybe'"),
        ("ps --format {{.Nme}}", "character 3: no 'Nme' here, did you mean Names?"),
    ],
)
def test_what_cannot_be_chosen_is_said(listed: Docklock, words: str, why: str) -> None:
    assert why in listed(*words.split(), code=2).stderr


def test_ps_shows_dockers_fields(listed: Docklock) -> None:
    row = json.loads(listed("ps", "--format", "json").stdout)
    assert row["ID"] == str(listed.inspect("up")["Id"])[:12]
    assert (row["State"], row["Labels"]) == ("running", "com.ex.role=web,plain=")
    assert row["CreatedAt"].endswith(" +0000 UTC")
    table = listed("ps", "--format", 'table {{.Names}}\\t{{.Label "com.ex.role"}}').stdout
    assert table == "NAMES     role\nup        web\n"
    assert "(virtual " in listed("ps", "-s").stdout
    assert (
        listed("container", "ls", "-aq", "--no-trunc").stdout.split()[1]
        == listed.inspect("up")["Id"]
    )


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("", "busybox made/by spare"),
        ("made/by", "made/by"),
        ("-f reference=*", "busybox spare"),
        ("-f reference=made/*:h*", "made/by"),
        ("-f label=kind=made", "made/by spare"),
        ("-f label=kind=found", ""),
        ("-f dangling=true", ""),
        ("-f dangling=false", "busybox made/by spare"),
        ("-f since=busybox", "made/by spare"),
        ("-f before=spare", "busybox"),
    ],
)
def test_images_are_chosen_as_docker_does(listed: Docklock, words: str, names: str) -> None:
    found = listed("images", "--format", "{{.Repository}}", *words.split()).stdout.split()
    assert sorted(found) == names.split()


def test_inspect_takes_templates_over_both_kinds(listed: Docklock) -> None:
    def show(template: str, *names: str, noun: str = "container") -> str:
        return listed(noun, "inspect", "-f", template, *names).stdout

    assert show("{{.Name}} {{.State.ExitCode}}", "old", "up") == "/old 3\n/up 0\n"
    assert show("{{range .Mounts}}{{.Destination}} {{.RW}}{{end}}", "up") == "/made false\n"
    assert show("{{if .State.Health}}sick{{else}}none{{end}}", "up") == "none\n"
    assert show('{{index .Config.Labels "com.ex.role"}}', "up") == "web\n"
    assert show("{{index .RepoTags 0}} {{len .RootFS.Layers}}", "spare", noun="image") == (
        "made/by:hand 1\n"
    )
    assert "no 'Nope' here" in listed("inspect", "-f", "{{.Nope}}", "up", code=2).stderr
    assert "No such image: up" in listed("image", "inspect", "up", code=1).stderr
    assert "No such object: nobody" in listed("inspect", "nobody", code=1).stderr
    assert listed("history", "--format", "{{.Comment}}", "spare").stdout == "by hand\n"


def test_a_saved_image_runs_after_it_was_loaded(listed: Docklock, tmp_path: Path) -> None:
    listed("save", "-o", str(tmp_path / "b.tar"), "busybox")
    listed("tag", "busybox", "kept")
    listed("rmi", "busybox")
    assert "Loaded image: busybox:latest" in listed("load", "-i", str(tmp_path / "b.tar")).stdout
    listed("rmi", "kept")
    assert listed("run", "--rm", "busybox", "echo", "back").stdout == "back\n"
