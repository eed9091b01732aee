"""Names find their image, and finding it is cheap enough for the path of `docklock run`."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from chainlite.errors import SpecError, StateError
from docklock.image.imports import import_tar
from docklock.image.reference import parse_reference
from docklock.image.store import ImageStore
from docklock.paths import Paths


def add(paths: Paths, archives: Any, name: str, data: bytes = b"") -> str:
    import io

    stream = io.BytesIO(archives.tar((archives.member("f"), data)))
    return import_tar(paths, stream, "a.tar", parse_reference(name))


def test_an_image_is_found_by_name_id_and_start_of_id(paths: Paths, archives: Any) -> None:
    image_id = add(paths, archives, "a/b:1")
    store = ImageStore(paths)
    digest = store.resolve("a/b:1").digest
    for text in ("a/b:1", "docker.io/a/b:1", image_id, image_id[7:], image_id[7:19], image_id[:20],
                 f"a/b@{digest}"):  # fmt: skip
        assert store.resolve(text).id == image_id
    image = store.resolve("a/b:1")
    assert image.references == ("docker.io/a/b:1",)
    assert Path(image.layers[0], "f").exists()


@pytest.mark.parametrize("text", ["g", "a/b", "a/b:2", "f" * 64, "sha256:" + "f" * 64, "0" * 20])
def test_a_missing_image_is_a_state_error(paths: Paths, archives: Any, text: str) -> None:
    with pytest.raises(StateError, match=f"No such image: {text}"):
        ImageStore(paths).resolve(text)
    add(paths, archives, "a/b:1")
    with pytest.raises(StateError, match=f"No such image: {text}"):
        ImageStore(paths).resolve(text)


def test_a_name_wins_over_the_start_of_an_id(paths: Paths, archives: Any) -> None:
    first = add(paths, archives, "a")
    second = add(paths, archives, first[7:19])
    assert ImageStore(paths).resolve(first[7:19]).id == second


def test_an_ambiguous_start_of_an_id_is_refused(paths: Paths, archives: Any) -> None:
    seen: dict[str, int] = {}
    for index in range(40):
        digit = add(paths, archives, f"x:{index}", b"%d" % index)[7]
        seen[digit] = seen.get(digit, 0) + 1
        if seen[digit] == 2:
            break
    with pytest.raises(StateError, match="give more digits"):
        ImageStore(paths).resolve(next(digit for digit, count in seen.items() if count == 2))


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"manifests": 1}', b'{"manifests": [{"digest": "x"}]}', b"\xff"]
)
def test_a_spoilt_index_is_a_spec_error_with_its_place(
    paths: Paths, archives: Any, data: bytes
) -> None:
    add(paths, archives, "x")
    index = Path(paths.images, "index.json")
    index.write_bytes(data)
    with pytest.raises(SpecError, match=r"index\.json"):
        ImageStore(paths).resolve("x")


def test_resolving_takes_under_two_milliseconds_with_a_hundred_images(
    paths: Paths, archives: Any
) -> None:
    import json

    add(paths, archives, "busybox")
    index = Path(paths.images, "index.json")
    document = json.loads(index.read_bytes())
    for number in range(99):
        item = json.loads(json.dumps(document["manifests"][0]))
        item["annotations"]["org.opencontainers.image.ref.name"] = f"docker.io/a/b:{number}"
        document["manifests"].append(item)
    index.write_text(json.dumps(document))
    store = ImageStore(paths)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        store.resolve("busybox")
        times.append(time.perf_counter() - start)
    assert min(times) < 0.002


def test_the_run_path_imports_nothing_heavy() -> None:
    code = (
        "import sys, docklock.image.store, json; heavy = {'dataclasses', 'msgspec', 'hashlib',"
        " 'shutil', 'tarfile', 'datetime', 'subprocess', 'pathlib', 'tempfile', 'yaml', 'logging',"
        " 'inspect', 'argparse', 'backports'}; print(sorted(heavy & set(sys.modules)))"
    )
    shown = subprocess.run(
        [sys.executable, "-S", "-c", code], check=True, capture_output=True, text=True
    )
    assert shown.stdout == "[]\n"
