"""remove_tree, on what a hostile container may leave."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from docklock.files import remove_tree

DEPTH = 3000  # 3,000 directories of 20 characters: 60,000 bytes of path, PATH_MAX is 4,096


def test_a_tree_deeper_than_any_path_is_removed(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(DEPTH):
        os.mkdir("d" * 20, dir_fd=fd)
        below = os.open("d" * 20, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    remove_tree(str(top))
    assert not top.exists()


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    top = tmp_path / "top"
    (top / "a/b").mkdir(parents=True)
    (top / "a/b/link").symlink_to(outside)
    (top / "link").symlink_to(outside)
    (top / "a/b/.docklock-1").mkdir()
    remove_tree(str(top))
    assert not top.exists()
    assert (outside / "kept").read_text() == "x"


def test_names_that_we_would_use_are_no_obstacle(tmp_path: Path) -> None:
    top = tmp_path / "top"
    for name in (".docklock-1", ".docklock-2/x/y", "a/.docklock-3/z", "a/b/c"):
        (top / name).mkdir(parents=True)
    (top / ".docklock-4").write_text("a file of that name")
    (top / ".docklock-2/x/file").write_text("x")
    remove_tree(str(top))
    assert not top.exists()


def test_a_tree_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    remove_tree(str(tmp_path / "none"))


def test_a_link_is_not_a_tree(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    with pytest.raises(OSError, match="Not a directory|symbolic"):
        remove_tree(str(tmp_path / "link"))
    assert (tmp_path / "kept").exists()
