"""docklock system df, image prune --filter: of a store with images that share a layer."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from docklock.cli.disk_usage import run_df
from docklock.cli.images import run_import, run_tag
from docklock.cli.prune import run_image_prune
from docklock.image.store import ImageStore
from docklock.paths import Paths, get_paths

FILE_BYTES = 2_000_000


@pytest.fixture
def paths(tmp_path: Path, need_root: None) -> Paths:
    found = get_paths(root=str(tmp_path / "root"))
    for name, labels in (("one", "tier=front"), ("two", "tier=back")):
        tree = tmp_path / "tree"
        tree.mkdir(exist_ok=True)
        (tree / "file").write_bytes(b"x" * FILE_BYTES)
        os.utime(tree / "file", (0, 0))
        os.utime(tree, (0, 0))
        assert run_import(["--change", f"LABEL {labels}", str(tree), name], found) == 0
    return found


def test_a_shared_layer_is_no_images_own(paths: Paths, capfd: pytest.CaptureFixture[str]) -> None:
    run_tag(["one", "also"], paths)
    capfd.readouterr()
    run_df(["-v", "--format", "json"], paths)
    found = json.loads(capfd.readouterr().out)
    assert sorted(row["Repository"] for row in found["Images"]) == ["also", "one", "two"]
    assert {row["SharedSize"] for row in found["Images"]} == {"2MB"}
    assert {row["UniqueSize"] for row in found["Images"]} == {"0B"}
    assert found["Containers"] == found["Volumes"] == found["BuildCache"] == []
    assert found["Evidence"][0]["Container"] == "host log"


def test_forms_are_dockers(paths: Paths, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()

    def show(*words: str) -> str:
        assert run_df([*words], paths) == 0
        return capfd.readouterr().out

    head, images, containers, evidence = show().splitlines()
    assert head.split() == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert images.split()[:3] == ["Images", "2", "0"]
    assert images.endswith("%)")
    assert containers.split() == ["Containers", "0", "0", "0B", "0B"]
    assert evidence.split()[0] == "Evidence"
    assert show("--format", "{{.Type}}={{.TotalCount}}").splitlines()[:2] == [
        "Images=2", "Containers=0",
    ]  # fmt: skip
    first = json.loads(show("--format", "json").splitlines()[0])
    assert set(first) >= {"Type", "TotalCount", "Active", "Size", "Reclaimable"}
    assert "TYPE" in show("--format", "table {{.Type}}\t{{.Size}}")
    table = show("-v")
    for text in ("Images space usage:", "SHARED SIZE", "Containers space usage:", "LOCAL VOLUMES"):
        assert text in table
    assert show("-v", "--format", "{{len .Images}}") == "2\n"


def test_image_prune_removes_what_fits(paths: Paths, capfd: pytest.CaptureFixture[str]) -> None:
    def names() -> set[str]:
        return {entry.reference.split("/")[-1] for entry in ImageStore(paths).list_entries()}

    run_image_prune(["-af", "--filter", "until=24h"], paths)
    run_image_prune(["-af", "--filter", "label=none"], paths)
    assert names() == {"one:latest", "two:latest"}
    run_image_prune(["-af", "--filter", "label!=tier=back", "--filter", "until=-1h"], paths)
    assert names() == {"two:latest"}
