"""inotify: names that come and go are told, and an overflow is told as such."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from docklock.errors import KernelError
from docklock.kernel.inotify import read_names, watch_directory


def test_names_that_come_and_go_are_told_in_order(tmp_path: Path) -> None:
    fd = watch_directory(str(tmp_path))
    try:
        assert read_names(fd) == ([], False)
        (tmp_path / "a").touch()
        (tmp_path / "ü").touch()
        (tmp_path / "a").unlink()
        assert read_names(fd) == (["a", "ü", "a"], False)
        assert read_names(fd) == ([], False)
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_a_directory_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="gone"):
        watch_directory(str(tmp_path / "gone"))


def test_an_overflow_is_told(tmp_path: Path) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    fd = watch_directory(str(tmp_path))
    try:
        name = tmp_path / "x"
        for _ in range(limit // 2 + 1):
            name.touch()
            name.unlink()
        lost = []
        while (found := read_names(fd)) != ([], False):
            lost.append(found[1])
        assert any(lost)
    finally:
        os.close(fd)
