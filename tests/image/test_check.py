"""system check finds every way in which the store is not whole, and changes nothing."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from docklock.cli.system import run_system
from docklock.image.archive import load_archive
from docklock.image.check import check_store
from docklock.image.store import ImageStore
from docklock.paths import Paths


@pytest.fixture
def whole(paths: Paths, archives: Any) -> Paths:
    """A store with the image x of two layers."""
    layers = [archives.tar((archives.member(name), b"data")) for name in "ab"]
    files = archives.files(archives.docker(layers, ["x"]))
    load_archive(paths, io.BytesIO(files), "a.tar")
    return paths


def find_blob(paths: Paths, *, is_layer: bool) -> Path:
    blobs = Path(paths.images, "blobs/sha256").iterdir()
    return next(blob for blob in blobs if (blob.read_bytes()[:1] != b"{") == is_layer)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def list_files(paths: Paths) -> dict[str, int]:
    found = {}
    for at, _, names in os.walk(paths.images):
        found |= {f"{at}/{name}": os.lstat(f"{at}/{name}").st_mtime_ns for name in names}
    return found


def test_a_whole_store_is_said_to_be_whole(
    whole: Paths, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = list_files(whole)
    assert run_system(["check"], whole) == 0
    assert capsys.readouterr().out.endswith("read: whole\n")
    assert run_system(["check", "--format", "json"], whole) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["blobs"], found["problems"]) == (1, 4, [])
    sizes = [blob.stat().st_size for blob in Path(whole.images, "blobs/sha256").iterdir()]
    assert found["blob_bytes"] == sum(sizes)
    before[f"{whole.images}/lock"] = list_files(whole)[f"{whole.images}/lock"]
    assert list_files(whole) == before
    empty = Paths(str(tmp_path / "empty"), str(tmp_path / "run"))
    assert run_system(["check"], empty) == 0
    assert not (tmp_path / "empty").exists()


def get_layer_file(paths: Paths, number: int) -> Path:
    store = ImageStore(paths)
    return Path(store.layer(store.resolve("x").diff_ids[number]), "layer.json")


def get_document(paths: Paths, key: str) -> Path:
    """The manifest (`digest`) or the configuration (`image_id`) of x."""
    [entry] = ImageStore(paths).list_entries()
    return Path(ImageStore(paths).blob(getattr(entry, key)))


SPOILERS: dict[str, tuple[Callable[[Paths], object], str]] = {
    "a flipped bit": (lambda paths: flip(find_blob(paths, is_layer=True)), "digest is sha256:"),
    "no layer": (lambda paths: find_blob(paths, is_layer=True).unlink(), "No such file"),
    "a longer layer": (
        lambda paths: os.truncate(find_blob(paths, is_layer=True), 1 << 20), "bytes, not",
    ),
    "another time in the configuration": (
        lambda paths: get_document(paths, "image_id").write_bytes(
            get_document(paths, "image_id").read_bytes().replace(b"2026", b"2027")
        ),
        "its digest is",
    ),
    "a configuration that is no JSON": (
        lambda paths: flip(get_document(paths, "image_id")), "not JSON",
    ),
    "no manifest": (lambda paths: get_document(paths, "digest").unlink(), "No such file"),
    "no unpacked layer": (
        lambda paths: shutil.rmtree(get_layer_file(paths, 0).parent), "layer.json: No such file",
    ),
    "no files in a layer": (
        lambda paths: shutil.rmtree(get_layer_file(paths, 1).parent / "fs"), "files are missing",
    ),
    "a swapped layer": (
        lambda paths: shutil.copy(get_layer_file(paths, 0), get_layer_file(paths, 1)),
        "is of another layer",
    ),
    "no index": (lambda paths: Path(paths.images, "index.json").write_text("{"), "not JSON"),
}  # fmt: skip


@pytest.mark.parametrize("how", SPOILERS)
def test_each_way_of_not_being_whole_is_found(
    whole: Paths, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    spoil, why = SPOILERS[how]
    spoil(whole)
    problems = check_store(whole).problems
    assert any(why in said for _, said in problems), problems
    assert {name for name, _ in problems} <= {"x:latest", "index.json"}
    assert run_system(["check"], whole) == 1
    assert "NOT WHOLE" in capsys.readouterr().out


def test_what_killed_writers_left_is_counted_and_is_no_problem(whole: Paths) -> None:
    Path(whole.images, "blobs/sha256", "0" * 64).write_bytes(b"half")
    os.mkdir(f"{whole.images}/layers/{'1' * 64}")
    found = check_store(whole)
    assert (found.problems, found.leftovers) == ((), 2)
