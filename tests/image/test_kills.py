"""kill -9 in pull, load, rmi and image prune: the store is whole at once, and the next goes on.

Random points, seeded: a slice of them, 200 of each command in a full run.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from docklock.image.staging import read_diff_ids, read_layer_digests
from docklock.image.store import ImageStore
from docklock.paths import Paths
from tests.conftest import FULL, get_seed
from tests.image.killing import Ended, run_to
from tests.image.scripted import Scripted, serve_layout

POINTS = 200 if FULL else 4
FILES = 12


class Host:
    """One root, asked by commands only; an image of two layers to pull or load, and another."""

    def __init__(self, root: Path, archives: Any) -> None:
        self.root = root
        dice = random.Random(1)
        layers = [
            archives.tar(
                *(
                    (archives.member(f"{name}{index}"), dice.randbytes(9000))
                    for index in range(FILES)
                )
            )
            for name in "abc"
        ]
        self.files = archives.layout(layers[:2], gzip.compress, name="localhost/two:1")
        self.archive = root.parent / "two.tar"
        self.archive.write_bytes(archives.files(self.files))
        # It shares its lower layer with the first.
        other = archives.layout(layers[::2], gzip.compress, name="localhost/other:1")
        self.other = root.parent / "other.tar"
        self.other.write_bytes(archives.files(other))

    def __call__(self, *argv: str) -> Ended:
        """A command that nobody kills, and that does what it is to do."""
        ended = run_to(self.root, argv)
        assert ended.status == 0, (argv, ended.text)
        return ended

    def list_names(self) -> list[str]:
        return self("images", "--format", "{{.Repository}}:{{.Tag}}").text.splitlines()

    def check_whole(self) -> None:
        """By docklock's own word: every blob read, none missing."""
        found = json.loads(self("system", "check", "--format", "json").text)
        assert found["problems"] == []

    def check_exact(self) -> None:
        """By looking: all of every image, and nothing else in the whole store."""
        store = ImageStore(Paths(str(self.root), str(self.root)))
        blobs, layers = set(), set()
        entries = store.list_entries()
        for entry in entries:
            blobs |= {entry.digest, entry.image_id, *read_layer_digests(store, entry.digest)}
            layers |= set(read_diff_ids(store, entry.image_id))
            for directory in store.read_image(entry, entries).layers:
                assert len(os.listdir(directory)) == FILES
        assert {f"sha256:{name}" for name in os.listdir(f"{store.root}/blobs/sha256")} == blobs
        assert {f"sha256:{name}" for name in os.listdir(f"{store.root}/layers")} == layers
        assert os.listdir(f"{store.root}/staging") == []
        downloads = Path(store.root, "downloads")
        assert not downloads.exists() or os.listdir(downloads) == []


@pytest.fixture
def host(paths: Paths, tmp_path: Path, archives: Any) -> Host:
    return Host(Path(paths.state), archives)


def kill_everywhere(
    host: Host, argv: Sequence[str], prepare: Callable[[], None], check: Callable[[], None]
) -> None:
    """The command, killed at random points of it; after each, the store has to be whole."""
    for _ in range(2):  # the first makes the store and the host's log as well
        prepare()
        calls = host(*argv).calls
    dice = random.Random(get_seed())
    killed = 0
    # A commit, where most can go wrong, is the end of most commands: half of the points are there.
    starts = [turn % 2 * calls * 4 // 5 for turn in range(POINTS)]
    for point in [dice.randrange(start, calls) for start in starts]:
        prepare()
        ended = run_to(host.root, argv, point)
        # Threads do not take the same turns each time: a late point may not be reached.
        assert ended.status in (-signal.SIGKILL, 0), (point, ended.text)
        killed += ended.status != 0
        try:
            host.check_whole()
            check()
        except AssertionError as error:
            raise AssertionError(f"killed before call {point} of {calls}") from error
    assert killed >= POINTS // 4


def test_a_pull_that_is_killed_anywhere_is_done_by_the_next(host: Host) -> None:
    with Scripted(serve_layout(host.files)) as server:
        name = f"{server.domain}/a/two:1"

        def check() -> None:
            host("pull", name)
            assert host.list_names() == [name]
            host.check_exact()
            host("rmi", name)

        def prepare() -> None:
            if name in host.list_names():
                host("rmi", name)

        kill_everywhere(host, ("pull", name), prepare, check)


def test_a_load_that_is_killed_anywhere_is_done_by_the_next(host: Host) -> None:
    name = "localhost/two:1"

    def prepare() -> None:
        if name in host.list_names():
            host("rmi", name)

    def check() -> None:
        host("load", "-i", str(host.archive))
        assert host.list_names() == [name]
        host.check_exact()

    kill_everywhere(host, ("load", "-i", str(host.archive)), prepare, check)


@pytest.mark.parametrize("argv", [("rmi", "localhost/two:1"), ("image", "prune", "-af")])
def test_a_removal_that_is_killed_anywhere_has_happened_or_not(
    host: Host, argv: tuple[str, ...]
) -> None:
    """Whoever sees the image sees all of it; what is left of it goes with the next writer."""
    names = ["localhost/other:1", "localhost/two:1"]

    def prepare() -> None:
        for archive in (host.archive, host.other):
            host("load", "-i", str(archive))
        assert sorted(host.list_names()) == names

    def check() -> None:
        left = set(host.list_names())
        assert left <= set(names) and (argv[0] != "rmi" or names[0] in left)
        host("load", "-i", str(host.other))
        host.check_exact()

    kill_everywhere(host, argv, prepare, check)
