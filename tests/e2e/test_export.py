"""export writes the root file system and nothing mounted in it; diff says what was changed."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.e2e.conftest import Docklock

CHANGE = """
mkdir /new /new/deep; echo x > /new/deep/f; ln -s f /new/deep/l; mkfifo /new/p
rm /bin/tty; rm -r /old/gone; rm -r /old/again; mkdir /old/again; echo y > /old/again/kept
echo z >> /old/file; rm /old/turned; mkdir /old/turned; touch /old/turned/in; chmod 700 /tmp
"""


@pytest.fixture(scope="module")
def full(dock: Docklock, tmp_path_factory: pytest.TempPathFactory, busybox_tree: Path) -> str:
    """An image with a tree /old."""
    folder = tmp_path_factory.mktemp("full") / "tree"
    subprocess.run(["cp", "-a", str(busybox_tree), str(folder)], check=True)
    for name in ("gone/a", "again/kept", "again/lost", "file", "turned", "same/quiet"):
        (folder / "old" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "old" / name).write_text(name)
    (folder / "bin/mkfifo").symlink_to("busybox")
    (folder / "bin/chmod").symlink_to("busybox")
    dock("import", str(folder), "full")
    return "full"


def read_members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        return {f"/{one.name.removeprefix('./')}": one for one in file if one.name != "."}


def export(dock: Docklock, name: str) -> bytes:
    done = subprocess.run(
        dock.argv("export", name), env=dock.environment, capture_output=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize("is_running", [False, True])
def test_diff_says_what_changed_and_export_shows_it(
    dock: Docklock, full: str, tmp_path: Path, is_running: bool
) -> None:
    (tmp_path / "secret").write_text("of the host")
    binds = ["-v", f"{tmp_path}:/data", "-v", f"{tmp_path}/secret:/old/secret"]
    dock("create", "--name", "before", *binds, full, "true")
    words = ["sh", "-c", f"{CHANGE} echo done; exec sleep {60 if is_running else 0}"]
    dock("run", "-d", "--name", "after", *binds, full, *words)
    dock.wait_for(lambda: "done" in dock("logs", "after").stdout)
    if not is_running:
        dock("wait", "after")
    found = dock("diff", "after").stdout.splitlines()
    assert found == [
        "C /bin", "D /bin/tty", "A /new", "A /new/deep", "A /new/deep/f", "A /new/deep/l",
        "A /new/p", "C /old", "C /old/again", "C /old/again/kept", "D /old/again/lost",
        "C /old/file", "D /old/gone", "C /old/turned", "A /old/turned/in", "C /tmp",
    ]  # fmt: skip
    rows = map(json.loads, dock("diff", "--format", "json", "after").stdout.splitlines())
    assert [f"{row['Type']} {row['Path']}" for row in rows] == found
    assert dock("diff", "before").stdout == ""
    dock("start", "-a", "before")
    assert dock("diff", "before").stdout == "", "what is mounted in is no change"
    old, new = read_members(export(dock, "before")), read_members(export(dock, "after"))
    assert new.keys() - old.keys() == {line[2:] for line in found if line[0] == "A"}
    gone = {line[2:] for line in found if line[0] == "D"}
    assert old.keys() - new.keys() == {*gone, "/old/gone/a"}
    assert not [name for name in new if name.startswith("/data/")]
    assert new["/old/secret"].size == new["/etc/hosts"].size == 0
    dock("rm", "-f", "before", "after")


def test_an_export_is_an_image_again(dock: Docklock, full: str, tmp_path: Path) -> None:
    dock("run", "--name", "maker", full, "sh", "-c", "echo made > /made; chown 12:34 /made")
    output = tmp_path / "root.tar"
    dock("export", "-o", str(output), "maker")
    dock("import", str(output), "made")
    assert dock("run", "--rm", "made", "sh", "-c", "cat /made; stat -c %u:%g /made").stdout == (
        "made\n12:34\n"
    )
    assert sorted(one.name for one in tmp_path.iterdir()) == ["root.tar"]
    dock("rm", "maker")
    dock("rmi", "made")


def test_what_cannot_be_exported_leaves_no_file(dock: Docklock, tmp_path: Path) -> None:
    assert "No such container" in dock("export", "nobody", code=1).stderr
    dock("create", "--name", "one", "busybox", "true")
    assert "does not exist" in dock("export", "-o", str(tmp_path / "no/x"), "one", code=2).stderr
    assert "No such container" in dock("diff", "nobody", code=1).stderr
    assert list(tmp_path.iterdir()) == []
    dock("rm", "one")
