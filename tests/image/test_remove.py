"""rmi takes a name, and with the last name everything that nothing else needs."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest

from chainlite.errors import SpecError, StateError
from docklock.cli.images import run_rmi
from docklock.image.archive import load_archive
from docklock.image.remove import get_chain_ids, remove_image
from docklock.image.store import ImageStore
from docklock.paths import Paths


@pytest.fixture
def layers(archives: Any) -> list[bytes]:
    return [archives.tar((archives.member(name), b"x")) for name in "abc"]


def load(paths: Paths, archives: Any, layers: list[bytes], *tags: str) -> str:
    files = archives.docker(layers, list(tags))
    return load_archive(paths, io.BytesIO(archives.files(files)), "a.tar")[0].image_id


def count(paths: Paths) -> tuple[int, int]:
    return len(os.listdir(f"{paths.images}/layers")), len(
        os.listdir(f"{paths.images}/blobs/sha256")
    )


def use(paths: Paths, image_id: str) -> str:
    folder = Path(paths.container("c" * 64))
    folder.mkdir(parents=True)
    (folder / "container.json").write_text(f'{{"image_id": "{image_id}"}}')
    return folder.name


def test_a_name_goes_and_the_image_with_its_last(
    paths: Paths, archives: Any, layers: list[bytes]
) -> None:
    image_id = load(paths, archives, layers[:2], "x:1", "x:2")
    other = load(paths, archives, [layers[0], layers[2]], "y")
    assert count(paths) == (3, 7)
    assert remove_image(paths, "x:1", is_forced=False) == ("Untagged: x:1",)
    assert count(paths) == (3, 7)
    digests = tuple(archives.digest(layer) for layer in layers[:2])
    chain = archives.digest(f"{digests[0]} {digests[1]}".encode())
    assert remove_image(paths, "x:2", is_forced=False) == (
        "Untagged: x:2",
        f"Deleted: {image_id}",
        f"Deleted: {chain}",
    )
    assert count(paths) == (2, 4)
    assert ImageStore(paths).resolve("y").id == other
    remove_image(paths, other[7:19], is_forced=False)
    assert count(paths) == (0, 0)
    assert ImageStore(paths).list_entries() == ()


def test_an_id_with_several_names_needs_force(
    paths: Paths, archives: Any, layers: list[bytes]
) -> None:
    image_id = load(paths, archives, layers, "x:1", "x:2")
    with pytest.raises(StateError, match="must be forced.*multiple repositories"):
        remove_image(paths, image_id, is_forced=False)
    lines = remove_image(paths, image_id, is_forced=True)
    assert lines[:3] == ("Untagged: x:1", "Untagged: x:2", f"Deleted: {image_id}")
    assert count(paths) == (0, 0)


def test_an_image_in_use_is_kept(paths: Paths, archives: Any, layers: list[bytes]) -> None:
    image_id = load(paths, archives, layers, "x:1", "x:2")
    user = use(paths, image_id)
    assert remove_image(paths, "x:2", is_forced=False) == ("Untagged: x:2",)
    with pytest.raises(StateError, match=f"container {user[:12]} is using"):
        remove_image(paths, "x:1", is_forced=False)
    before = count(paths)
    assert remove_image(paths, "x:1", is_forced=True) == ("Untagged: x:1",)
    assert count(paths) == before
    assert ImageStore(paths).resolve(image_id).references == ()
    os.unlink(f"{paths.container(user)}/container.json")
    assert remove_image(paths, image_id, is_forced=False)[0] == f"Deleted: {image_id}"
    assert count(paths) == (0, 0)


def test_a_container_file_that_cannot_be_read_counts_as_use(
    paths: Paths, archives: Any, layers: list[bytes]
) -> None:
    image_id = load(paths, archives, layers, "x")
    user = use(paths, image_id)
    Path(paths.container(user), "container.json").write_text("{")
    with pytest.raises(SpecError, match=r"container\.json"):
        remove_image(paths, "x", is_forced=False)
    assert ImageStore(paths).resolve("x").id == image_id


def test_every_name_is_tried_and_a_missing_one_is_an_error(
    paths: Paths, archives: Any, layers: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_rmi(["none"], paths) == 1
    load(paths, archives, layers, "x")
    assert run_rmi(["none", "x"], paths) == 1
    shown = capsys.readouterr()
    assert shown.out.startswith("Untagged: x:latest\nDeleted: sha256:")
    assert shown.err.count("docklock: No such image: none") == 2


def test_an_image_with_a_spoilt_document_can_still_be_removed(
    paths: Paths, archives: Any, layers: list[bytes]
) -> None:
    image_id = load(paths, archives, layers, "x")
    os.unlink(ImageStore(paths).blob(image_id))
    with pytest.raises(SpecError, match="rmi -f"):
        ImageStore(paths).resolve("x")
    remove_image(paths, "x", is_forced=True)
    assert count(paths) == (0, 0)


def test_chain_ids_are_those_of_the_specification() -> None:
    """image-spec, config.md: ChainID(L0|L1) = SHA256(ChainID(L0) + " " + DiffID(L1))."""
    first, second = "sha256:" + "a" * 64, "sha256:" + "b" * 64
    both = get_chain_ids((first, second), (first, second))
    assert both == (
        "sha256:ccd722928bd92476ba1745586fed6e45a102504185ad88cd89e01ff116fd146c",
        first,
    )
