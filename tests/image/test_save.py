"""What save writes loads again, here and by its format; a spoilt blob writes nothing."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from chainlite.errors import SpecError, StateError
from docklock.cli.images import run_load
from docklock.cli.save import run_save
from docklock.image.archive import load_archive
from docklock.image.naming import tag_image
from docklock.image.store import ImageStore
from docklock.paths import Paths


@pytest.fixture
def layers(archives: Any) -> list[bytes]:
    member = archives.member
    return [archives.tar((member("a"), b"low")), archives.tar((member("b"), b"high"))]


def load(paths: Paths, archives: Any, layers: list[bytes], *tags: str) -> str:
    files = archives.docker(layers, list(tags))
    return load_archive(paths, io.BytesIO(archives.files(files)), "a.tar")[0].image_id


def read_tar(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as file:
        members = [member for member in file if member.isfile()]
        return {one.name: file.extractfile(one).read() for one in members}  # type: ignore[union-attr]


def list_images(paths: Paths) -> list[tuple[str, str]]:
    return sorted((item.reference, item.image_id) for item in ImageStore(paths).list_entries())


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive", "oci-dir"])
def test_saved_images_load_with_their_names_and_ids(
    paths: Paths, archives: Any, layers: list[bytes], tmp_path: Path, kind: str
) -> None:
    load(paths, archives, layers, "x:1", "x:2")
    load(paths, archives, layers[:1], "localhost/y")
    before, output = list_images(paths), str(tmp_path / "saved")
    digests = {item.reference: item.digest for item in ImageStore(paths).list_entries()}
    assert run_save(["-o", output, "--format", kind, "x", "localhost/y:latest"], paths) == 0
    shutil.rmtree(paths.images)
    assert run_load(["-i", output], paths) == 0
    assert list_images(paths) == before
    if kind != "docker-archive":
        found = {item.reference: item.digest for item in ImageStore(paths).list_entries()}
        assert found == digests


def test_a_docker_archive_has_the_plain_layers_that_docker_load_reads(
    paths: Paths, archives: Any, layers: list[bytes], tmp_path: Path
) -> None:
    image_id = load(paths, archives, [layers[0], layers[1], layers[0]], "x:1")
    run_save(["-o", str(tmp_path / "a.tar"), "x:1"], paths)
    files = read_tar(tmp_path / "a.tar")
    [item] = json.loads(files["manifest.json"])
    assert item["RepoTags"] == ["x:1"]
    assert archives.digest(files[item["Config"]]) == image_id
    assert [files[name] for name in item["Layers"]] == [layers[0], layers[1], layers[0]]
    assert len(files) == 4  # the layer that stands twice is there once


def test_a_layout_has_a_descriptor_for_each_name_and_its_blobs(
    paths: Paths, archives: Any, layers: list[bytes], tmp_path: Path
) -> None:
    load(paths, archives, layers, "x:1", "x:2")
    folder = tmp_path / "layout"
    run_save(["-o", str(folder), "--format", "oci-dir", "x:2", "x:1"], paths)
    index = json.loads((folder / "index.json").read_text())
    names = [one["annotations"]["org.opencontainers.image.ref.name"] for one in index["manifests"]]
    assert names == ["docker.io/library/x:2", "docker.io/library/x:1"]
    for blob in (folder / "blobs/sha256").iterdir():
        assert archives.digest(blob.read_bytes()) == f"sha256:{blob.name}"
    [manifest] = {one["digest"] for one in index["manifests"]}
    document = json.loads((folder / "blobs/sha256" / manifest[7:]).read_bytes())
    for item in (document["config"], *document["layers"]):
        assert (folder / "blobs/sha256" / item["digest"][7:]).stat().st_size == item["size"]
    with pytest.raises(StateError, match="not empty"):
        run_save(["-o", str(folder), "--format", "oci-dir", "x:1"], paths)


def test_an_id_is_saved_without_a_name_and_a_bare_name_with_all_its_tags(
    paths: Paths, archives: Any, layers: list[bytes], tmp_path: Path
) -> None:
    image_id = load(paths, archives, layers, "x:1", "x:2")

    def get_tags(*words: str) -> list[list[str] | None]:
        run_save(["-o", str(tmp_path / "a.tar"), *words], paths)
        return [
            one["RepoTags"] for one in json.loads(read_tar(tmp_path / "a.tar")["manifest.json"])
        ]

    assert get_tags(image_id) == [None]
    assert get_tags(image_id[7:19]) == [None]
    assert get_tags("x") == [["x:1", "x:2"]]
    assert get_tags("x:2", image_id, "x:2") == [["x:2"]]


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_a_spoilt_blob_is_refused_before_anything_is_written(
    paths: Paths, archives: Any, layers: list[bytes], tmp_path: Path, kind: str
) -> None:
    load(paths, archives, layers, "x")
    blobs = Path(paths.images, "blobs/sha256").iterdir()
    layer = next(blob for blob in blobs if blob.read_bytes()[:1] != b"{")
    data = bytearray(layer.read_bytes())
    data[-1] ^= 1  # the frame's checksum
    layer.write_bytes(data)
    old = tmp_path / "a.tar"
    old.write_bytes(b"old")
    with pytest.raises(SpecError, match=layer.name):
        run_save(["-o", str(old), "--format", kind, "x"], paths)
    assert old.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "root"]


def test_what_is_not_there_and_where_nothing_can_be_written_is_said(
    paths: Paths, archives: Any, layers: list[bytes], tmp_path: Path
) -> None:
    with pytest.raises(StateError, match="No such image: none"):
        run_save(["-o", str(tmp_path / "a.tar"), "none"], paths)
    load(paths, archives, layers, "x")
    with pytest.raises(StateError, match="No such image: none"):
        run_save(["-o", str(tmp_path / "a.tar"), "x", "none"], paths)
    with pytest.raises(SpecError, match="does not exist"):
        run_save(["-o", str(tmp_path / "no/a.tar"), "x"], paths)
    with pytest.raises(SpecError, match="is a directory"):
        run_save(["-o", str(tmp_path), "x"], paths)
    with pytest.raises(SpecError, match="docker-archive, oci-archive"):
        run_save(["-o", str(tmp_path / "a.tar"), "--format", "zip", "x"], paths)
    assert not (tmp_path / "a.tar").exists()


def test_a_tag_is_one_more_name_and_takes_it_from_the_image_that_had_it(
    paths: Paths, archives: Any, layers: list[bytes]
) -> None:
    with pytest.raises(StateError, match="No such image"):
        tag_image(paths, "x", "y")
    first = load(paths, archives, layers, "x")
    second = load(paths, archives, layers[:1], "y")
    tag_image(paths, first[7:19], "localhost:5000/z:3")
    tag_image(paths, "x", "y")
    tag_image(paths, "x", "y")
    assert list_images(paths) == [
        ("", second),
        ("docker.io/library/x:latest", first),
        ("docker.io/library/y:latest", first),
        ("localhost:5000/z:3", first),
    ]
    with pytest.raises(SpecError, match="digest reference"):
        tag_image(paths, "x", f"y@{first}")
    with pytest.raises(SpecError, match="invalid reference"):
        tag_image(paths, "x", "Y")
    assert len(list_images(paths)) == 4
