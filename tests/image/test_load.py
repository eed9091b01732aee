"""Saved images load with their digests checked; a spoilt or hostile one leaves nothing behind."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import random
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chainlite.errors import SpecError
from docklock.cli.images import run_load
from docklock.image.archive import load_archive, load_directory
from docklock.image.imports import get_architecture
from docklock.image.store import ImageStore
from docklock.paths import Paths

IS_FILE = False
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture
def layers(archives: Any) -> list[bytes]:
    member = archives.member
    return [
        archives.tar((member("a"), b"low"), (member("b"), b"b")),
        archives.tar((member("a"), b"high"), member(".wh.b")),
        bytes(1024),
    ]


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.fixture(autouse=True, params=["stream", "file"])
def from_file(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test twice: an archive that comes by itself, and one that is read where it lies."""
    monkeypatch.setattr("tests.image.test_load.IS_FILE", request.param == "file")


def load(paths: Paths, data: bytes) -> list[str]:
    if not IS_FILE:
        return [entry.reference for entry in load_archive(paths, io.BytesIO(data), "a.tar")]
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(data)
        file.seek(0)
        return [entry.reference for entry in load_archive(paths, file, "a.tar")]


def check_image(paths: Paths, name: str, layers: list[bytes], archives: Any) -> None:
    image = ImageStore(paths).resolve(name)
    assert image.diff_ids == tuple(archives.digest(layer) for layer in layers)
    top, middle, low = image.layers
    assert os.listdir(top) == []
    assert Path(middle, "a").read_bytes() == b"high"
    assert Path(low, "a").read_bytes() == b"low"


def check_nothing_left(paths: Paths) -> None:
    root = Path(paths.images)
    assert [list((root / name).iterdir()) for name in ("staging", "layers", "blobs/sha256")] == [
        [], [], [],
    ]  # fmt: skip
    assert ImageStore(paths).list_entries() == ()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_a_docker_archive_loads_under_all_its_tags(
    paths: Paths, archives: Any, layers: list[bytes], pack: Callable[[bytes], bytes]
) -> None:
    files = archives.docker(layers, ["a/b:1", "c:latest"])
    assert load(paths, pack(archives.files(files))) == [
        "docker.io/a/b:1",
        "docker.io/library/c:latest",
    ]
    check_image(paths, "a/b:1", layers, archives)
    image = ImageStore(paths).resolve("c")
    assert image.references == ("docker.io/a/b:1", "docker.io/library/c:latest")
    config = next(data for name, data in files.items() if len(name) == 69)
    assert image.id == archives.digest(config)
    assert (image.config.cmd, image.config.env) == (("sh",), ("PATH=/bin",))
    assert image.size_bytes == len(b"lowbhigh")


def test_docker_s_links_between_layers_are_followed_inside(
    paths: Paths, archives: Any, layers: list[bytes]
) -> None:
    """Old `docker save` writes a repeated layer once and links to it."""
    twice = [layers[0], layers[1], layers[0]]
    files = archives.docker(twice, ["x:1"])
    del files["2/layer.tar"]
    members = [(archives.member(name), data) for name, data in files.items()]
    link = archives.member("2/layer.tar", tarfile.SYMTYPE, linkname="../0/layer.tar")
    load(paths, archives.tar(*members, link))
    image = ImageStore(paths).resolve("x:1")
    assert len(image.diff_ids) == 3
    # overlayfs takes a directory once; the upper one hides the lower one whole.
    assert [path.split("/")[-2] for path in image.layers] == [
        archives.digest(layers[0])[7:],
        archives.digest(layers[1])[7:],
    ]


@pytest.mark.parametrize("kind", ["gzip", "zstd", "none"])
@pytest.mark.parametrize("is_tar", [True, False])
def test_an_oci_layout_loads_with_its_digest(
    paths: Paths, archives: Any, layers: list[bytes], tmp_path: Path, kind: str, is_tar: bool
) -> None:
    from backports import zstd

    pack = {"gzip": gzip.compress, "zstd": zstd.compress, "none": bytes}[kind]
    files = archives.layout(layers, pack)
    if is_tar:
        assert load(paths, archives.files(files)) == ["localhost/made:1"]
    else:
        load_directory(paths, str(write(tmp_path / "layout", files)))
    check_image(paths, "localhost/made:1", layers, archives)
    image = ImageStore(paths).resolve("localhost/made:1")
    assert image.digest == json.loads(files["index.json"])["manifests"][0]["digest"]
    assert image.config.entrypoint == ("/bin/sh",)
    for name, data in files.items():
        if name.startswith("blobs/"):
            assert Path(paths.images, name).read_bytes() == data


def test_a_tag_alone_names_nothing(
    paths: Paths,
    archives: Any,
    layers: list[bytes],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    folder = write(tmp_path / "layout", archives.layout(layers, gzip.compress, name="latest"))
    assert run_load(["-i", str(folder)], paths) == 0
    (entry,) = ImageStore(paths).list_entries()
    assert capsys.readouterr().out == f"Loaded image ID: {entry.image_id}\n"
    (tmp_path / "a.tar").write_bytes(archives.files(archives.docker(layers, ["x"])))
    run_load(["-i", str(tmp_path / "a.tar")], paths)
    assert capsys.readouterr().out == "Loaded image: x:latest\n"


def nest(files: dict[str, bytes], archives: Any, platforms: list[dict[str, str]]) -> None:
    """Puts an index for several platforms between index.json and the manifest."""
    index = json.loads(files["index.json"])
    found = index["manifests"][0]
    missing = {**found, "digest": "sha256:" + "0" * 64}
    items = [{**(found if item.pop("here", "") else missing), "platform": item}
             for item in platforms]  # fmt: skip
    data = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": items}).encode()
    digest = archives.digest(data)
    files[f"blobs/sha256/{digest[7:]}"] = data
    index["manifests"] = [{**found, "mediaType": INDEX, "digest": digest, "size": len(data)}]
    files["index.json"] = json.dumps(index).encode()


def test_of_several_platforms_the_host_s_is_taken(
    paths: Paths, archives: Any, layers: list[bytes]
) -> None:
    files = archives.layout(layers, gzip.compress)
    nest(files, archives, [
        {"os": "linux", "architecture": "mips"},
        {"os": "unknown", "architecture": "unknown"},
        {"os": "linux", "architecture": get_architecture(), "here": "y"},
    ])  # fmt: skip
    load(paths, archives.files(files))
    check_image(paths, "localhost/made:1", layers, archives)


def test_no_image_for_this_host_is_refused_and_the_others_named(
    paths: Paths, archives: Any, layers: list[bytes]
) -> None:
    files = archives.layout(layers, gzip.compress)
    nest(files, archives, [{"os": "linux", "architecture": "mips"},
                           {"os": "windows", "architecture": "amd64"}])  # fmt: skip
    with pytest.raises(SpecError, match="linux/mips, windows/amd64"):
        load(paths, archives.files(files))
    check_nothing_left(paths)


def spoil_config(files: dict[str, bytes]) -> None:
    name = next(name for name in files if len(name) == 69)
    files[name] = files[name].replace(b"amd64", b"amd65").replace(b"arm64", b"arm65")


def set_manifest(key: str, value: object) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        manifest = json.loads(files["manifest.json"])
        manifest[0][key] = value
        files["manifest.json"] = json.dumps(manifest).encode()

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (spoil_config, "it is spoilt"),
        (lambda files: files.pop("1/layer.tar"), r"1/layer\.tar.*No such file|does not exist"),
        (lambda files: files.update({"1/layer.tar": files["2/layer.tar"]}), "diff_id is"),
        (lambda files: files.update({"manifest.json": b"{}"}), "expected a list"),
        (lambda files: files.update({"manifest.json": b"[]"}), "lists no image"),
        (lambda files: files.pop("manifest.json"), "docklock import"),
        (set_manifest("Layers", ["0/layer.tar"]), "1 layers, but .* has 3 diff_ids"),
        (set_manifest("Layers", ["../../etc/passwd"] * 3), r"'\.\.' in the name"),
        (set_manifest("Layers", ["/etc/passwd"] * 3), "does not exist|No such file"),
        (set_manifest("Layers", ["0"] * 3), "is not a file"),
        (set_manifest("Layers", "x"), r"manifest\.json: \[0\]\.Layers: expected a list"),
        (set_manifest("Config", "manifest.json"), "expected an object"),
        (set_manifest("RepoTags", ["Bad Name"]), "invalid reference"),
    ],
)
def test_a_spoilt_docker_archive_is_refused_and_leaves_nothing(
    paths: Paths, archives: Any, layers: list[bytes], change: Any, reason: str
) -> None:
    files = archives.docker(layers, ["x"])
    change(files)
    with pytest.raises(SpecError, match=reason):
        load(paths, archives.files(files))
    check_nothing_left(paths)


def test_a_link_out_of_an_archive_or_a_folder_is_not_followed(
    paths: Paths, archives: Any, layers: list[bytes], tmp_path: Path
) -> None:
    secret = tmp_path / "secret.tar"
    secret.write_bytes(layers[0])
    for target in (str(secret), "../" * 20 + str(secret)):
        files = archives.docker(layers, ["x"])
        del files["0/layer.tar"]
        members = [(archives.member(name), data) for name, data in files.items()]
        link = archives.member("0/layer.tar", tarfile.SYMTYPE, linkname=target)
        with pytest.raises(SpecError, match="does not exist|No such file"):
            load(paths, archives.tar(*members, link))
        folder = write(tmp_path / "folder", files)
        (folder / "0").mkdir(exist_ok=True)
        os.symlink(target, folder / "0/layer.tar")
        with pytest.raises(SpecError, match="does not exist|No such file"):
            load_directory(paths, str(folder))
        shutil.rmtree(folder)
    check_nothing_left(paths)


def test_every_document_and_blob_of_a_layout_is_checked(
    paths: Paths, archives: Any, layers: list[bytes]
) -> None:
    """One bit flipped in any file of the layout, dropped, or cut: refused, and nothing is left."""
    dice = random.Random(5)
    whole = archives.layout(layers, gzip.compress)
    for name, data in whole.items():
        at = dice.randrange(len(data))
        flipped = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        kinds = [None, data[:-1], b""] + [flipped] * name.startswith("blobs/")
        for kind in kinds:
            files = {**whole, name: kind}
            if kind is None:
                del files[name]
            with pytest.raises(SpecError):
                load(paths, archives.files(files))
    check_nothing_left(paths)


def test_mangled_documents_are_spec_errors(
    paths: Paths, archives: Any, layers: list[bytes]
) -> None:
    """300 layouts and archives with JSON values swapped for others."""
    dice = random.Random(7)
    values: list[object] = [None, 0, -1, 1e9, "", "x", [], {}, [[]], {"a": 1}, "sha256:", True]

    def mangle(value: Any) -> Any:
        if isinstance(value, dict) and value and dice.random() < 0.9:
            key = dice.choice(sorted(value))
            return {**value, key: mangle(value[key])}
        if isinstance(value, list) and value and dice.random() < 0.9:
            return [mangle(value[0]), *value[1:]]
        return dice.choice(values)

    refused = 0
    for _ in range(300):
        files = dict(
            dice.choice([archives.layout(layers, gzip.compress), archives.docker(layers, ["x"])])
        )
        name = dice.choice([name for name, data in files.items() if data[:1] in (b"{", b"[")])
        new = json.dumps(mangle(json.loads(files.pop(name)))).encode()
        if name.startswith("blobs/"):
            old, digest = "sha256:" + name[-64:], archives.digest(new)
            name = f"blobs/sha256/{digest[7:]}"
            files = {key: data.replace(old.encode(), digest.encode())
                     for key, data in files.items()}  # fmt: skip
        files[name] = new
        try:
            load(paths, archives.files(files))
        except SpecError:
            refused += 1
    assert refused > 200


@pytest.mark.skipif(shutil.which("podman") is None, reason="podman is missing")
def test_what_podman_saves_loads(
    paths: Paths, archives: Any, layers: list[bytes], podman: Any, tmp_path: Path
) -> None:
    folder = write(tmp_path / "layout", archives.layout(layers, gzip.compress))
    image_id = podman("pull", "-q", f"oci:{folder}:localhost/made:1").strip()
    podman("tag", image_id, "localhost/made:1")
    for form in ("docker-archive", "oci-archive", "oci-dir"):
        saved = str(tmp_path / form)
        podman("save", "-q", "--format", form, "-o", saved, "localhost/made:1")
        run_load(["-i", saved], paths)
        check_image(paths, "localhost/made:1", layers, archives)
    assert ImageStore(paths).resolve("localhost/made:1").id == f"sha256:{image_id}"


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize("what", ["layer", "config", "manifest", "size"])
def test_a_change_that_only_a_digest_shows_is_refused(
    paths: Paths, archives: Any, layers: list[bytes], what: str
) -> None:
    """The time in a gzip header, a digit of a date, a space, a size that nothing depends on."""
    files = archives.layout(layers, gzip.compress)
    index = json.loads(files["index.json"])
    name = f"blobs/sha256/{index['manifests'][0]['digest'][7:]}"
    manifest = json.loads(files[name])
    if what == "layer":
        layer = f"blobs/sha256/{manifest['layers'][0]['digest'][7:]}"
        files[layer] = flip(files[layer], 4)
    elif what == "config":
        config = f"blobs/sha256/{manifest['config']['digest'][7:]}"
        files[config] = files[config].replace(b"2026-01-02", b"2026-01-03")
    elif what == "manifest":
        files[name] = files[name].replace(b": ", b":\t", 1)
    else:
        index["manifests"][0]["size"] += 1
        files["index.json"] = json.dumps(index).encode()
    with pytest.raises(SpecError, match=r"digest is|bytes, not"):
        load(paths, archives.files(files))
    check_nothing_left(paths)
