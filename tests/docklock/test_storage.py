"""The walk of an upper directory, on trees that are made to mislead it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from docklock.supervisor import storage
from docklock.supervisor.loop import Loop
from docklock.supervisor.storage import BLOCK_BYTES, Storage, iterate_sizes

FILE_BYTES = 1 << 20


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/large").write_bytes(os.urandom(8 * FILE_BYTES))
    top = tmp_path / "top"
    (top / "a/b").mkdir(parents=True)
    (top / "a/b/file").write_bytes(os.urandom(FILE_BYTES))
    os.link(top / "a/b/file", top / "a/again")
    (top / "out").symlink_to(tmp_path / "outside")
    (top / "loop").symlink_to(".")
    os.mkfifo(top / "fifo")
    return top


def count_blocks(path: Path) -> int:
    return path.lstat().st_blocks * BLOCK_BYTES


def test_each_inode_counts_once_and_no_link_is_followed(top: Path) -> None:
    names = ("a", "a/b", "a/b/file", "out", "loop", "fifo")
    assert sum(iterate_sizes(str(top))) == sum(count_blocks(top / name) for name in names)
    assert list(iterate_sizes(str(top / "none"))) == []


def test_a_directory_that_becomes_a_link_meanwhile_leads_nowhere(top: Path) -> None:
    found = 0
    for size in iterate_sizes(str(top)):
        found += size
        if (top / "a/b").is_dir() and not (top / "a").is_symlink():
            (top / "a").rename(top / "moved")
            (top / "a").symlink_to(top.parent / "outside")
    assert found < 4 * FILE_BYTES


def test_a_walk_ends_at_its_limit(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "ENTRIES_MAX", 3)
    before = len(os.listdir("/proc/self/fd"))
    assert len(list(iterate_sizes(str(top)))) == 3
    assert len(os.listdir("/proc/self/fd")) == before


def test_deep_and_broken_trees_end_the_walk_of_their_part_alone(top: Path) -> None:
    here = os.open(top, os.O_DIRECTORY)
    for _ in range(60):
        os.mkdir("d" * 200, dir_fd=here)
        below = os.open("d" * 200, os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert sum(iterate_sizes(str(top))) >= FILE_BYTES


def test_a_walk_is_taken_in_turns_and_only_after_the_container_ran(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "ENTRIES_PER_TURN", 2)
    monkeypatch.setattr(storage, "TURN_S", 0.01)
    monkeypatch.setattr(storage, "BYTE_NS_PER_UNIT", 10**6)  # a byte for a millisecond
    loop = Loop()
    one = Storage(loop, str(top))
    one.look(5)
    assert one.read() == 0
    for _ in range(3):
        loop.run_once(0.1)
    time.sleep(0.02)
    first = one.read()
    assert first >= 20 * FILE_BYTES
    (top / "a/b/file").unlink()
    (top / "a/again").unlink()
    one.look(5)  # it has not run since: what is counted is what was found
    time.sleep(0.02)
    second = one.read()
    assert second - first >= 20 * FILE_BYTES
    one.look(6)
    for _ in range(3):
        loop.run_once(0.1)
    third = one.read()
    time.sleep(0.02)
    assert one.read() - third < FILE_BYTES
    one.look(7)
    one.close()
    loop.run_once(0.05)
    loop.close()
