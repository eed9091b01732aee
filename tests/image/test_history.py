"""History has a line for each step, newest first, with the size of its own layer."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from chainlite.errors import SpecError
from docklock.cli.history import run_history
from docklock.image.archive import load_archive
from docklock.paths import Paths

LONG = "RUN /bin/sh -c " + "x" * 60


def load(paths: Paths, archives: Any, history: list[dict[str, object]]) -> str:
    """An image of two layers with 3 and 4 bytes, and this history."""
    layers = [archives.tar((archives.member(name), data)) for name, data in
              (("a", b"low"), ("b", b"high"))]  # fmt: skip
    files = archives.docker(layers, ["x"])
    name = next(name for name in files if len(name) == 69)
    config = json.dumps(json.loads(files.pop(name)) | {"history": history}).encode()
    stem = archives.digest(config)[7:]
    manifest = json.loads(files["manifest.json"])
    manifest[0]["Config"] = f"{stem}.json"
    files |= {f"{stem}.json": config, "manifest.json": json.dumps(manifest).encode()}
    load_archive(paths, io.BytesIO(archives.files(files)), "a.tar")
    return f"sha256:{stem}"


def test_steps_are_shown_newest_first_with_their_layers_sizes(
    paths: Paths, archives: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    image_id = load(paths, archives, [
        {"created": "2026-01-02T03:04:05Z", "created_by": "ADD\ta /"},
        {"created": "2026-01-02T03:04:06Z", "created_by": "ENV a=b", "empty_layer": True},
        {"created": "2026-01-02T03:04:07Z", "created_by": LONG, "comment": "buildkit"},
    ])  # fmt: skip
    run_history(["x"], paths)
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert [line.split()[0] for line in lines] == [image_id[7:19], "<missing>", "<missing>"]
    assert f"{LONG[:44]}…" in lines[0]
    assert lines[0].endswith("buildkit")
    assert "ADD a /" in lines[2]
    run_history(["--no-trunc", "--human=false", "--format", "json", "x"], paths)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["Size"] for row in rows] == ["4", "0", "3"]
    assert rows[0]["ID"] == image_id
    assert rows[0]["CreatedBy"] == LONG
    assert rows[0]["CreatedSince"] == "2026-01-02T03:04:07Z"
    run_history(["-q", "x"], paths)
    assert capsys.readouterr().out.splitlines() == [image_id[7:19], "<missing>", "<missing>"]


def test_more_steps_than_layers_are_refused_with_the_place(paths: Paths, archives: Any) -> None:
    load(paths, archives, [{}, {}, {}])
    with pytest.raises(SpecError, match=r"history\[2\]: more steps"):
        run_history(["x"], paths)
