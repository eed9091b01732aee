"""A full disk, whichever step it stops: it is said, nothing is left, and with room it works."""

from __future__ import annotations

import errno
import gzip
import io
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chainlite.errors import StateError
from docklock.cli.main import run
from docklock.image.archive import load_archive
from docklock.image.check import check_store
from docklock.image.progress import Progress
from docklock.image.pull import pull_image
from docklock.image.reference import parse_reference
from docklock.image.registry import Repository
from docklock.image.registry_http import Pace, Wire
from docklock.image.store import ImageStore
from docklock.paths import Paths
from tests.image.scripted import Scripted, serve_layout

SIZES_KIB = (24, 48, 96, 160, 224, 256, 320, 384, 448, 512, 640, 768, 896)
"""Of the whole file system: from one that takes no file to one in which the last step fails."""
ROOM_KIB = 8192
DATA_BYTES = 150_000


@pytest.fixture
def resize(paths: Paths) -> Iterator[Callable[[int], None]]:
    """Gives the store's file system so many KiB."""
    os.makedirs(paths.state)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", paths.state], check=True)

    def set_size(kib: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={kib}k", paths.state], check=True)

    yield set_size
    subprocess.run(["umount", paths.state], check=True)


@pytest.fixture
def layers(archives: Any) -> list[bytes]:
    member = archives.member
    return [
        archives.tar((member("a"), os.urandom(DATA_BYTES))),
        archives.tar(*((member(f"d/{number}"), b"x") for number in range(40))),
    ]


def check_all(paths: Paths, resize: Callable[[int], None], take: Callable[[], object]) -> None:
    """`take` at each size: refused with the reason until it has room, and never half."""
    refused = 0
    for size in SIZES_KIB:
        resize(size)
        try:
            take()
        except (OSError, StateError) as error:  # StateError: the host log has no room
            assert getattr(error, "errno", 0) == errno.ENOSPC or "disk is full" in str(error)
            refused += 1
        else:
            break
        assert ImageStore(paths).list_entries() == ()
    assert refused > 3
    resize(ROOM_KIB)
    take()
    assert check_store(paths).problems == ()
    (entry,) = ImageStore(paths).list_entries()
    image = ImageStore(paths).resolve(entry.reference)
    assert Path(image.layers[-1], "a").stat().st_size == DATA_BYTES
    assert os.listdir(f"{paths.images}/staging") == []


def test_a_load_is_refused_and_leaves_nothing(
    paths: Paths, archives: Any, layers: list[bytes], resize: Callable[[int], None]
) -> None:
    data = archives.files(archives.docker(layers, ["x"]))
    check_all(paths, resize, lambda: load_archive(paths, io.BytesIO(data), "a.tar"))


def test_a_pull_is_refused_and_goes_on_with_what_it_has(
    paths: Paths, archives: Any, layers: list[bytes], resize: Callable[[int], None]
) -> None:
    pace = Pace(connect_s=5, read_s=5, retries_max=1, retry_first_s=0, retry_max_s=1)
    with Scripted(serve_layout(archives.layout(layers, gzip.compress))) as server:
        reference = parse_reference(f"{server.domain}/a/b:1")

        def pull() -> None:
            repository = Repository(reference, None, Wire(pace))
            pull_image(paths, reference, repository, Progress(None), "")

        check_all(paths, resize, pull)


def test_the_command_says_what_to_do(
    paths: Paths, archives: Any, layers: list[bytes], resize: Callable[[int], None],
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "a.tar").write_bytes(archives.files(archives.docker(layers, ["x"])))
    resize(100)
    assert run(["--root", paths.state, "load", "-i", str(tmp_path / "a.tar")]) == 1
    assert "the disk is full: free space" in capsys.readouterr().err
