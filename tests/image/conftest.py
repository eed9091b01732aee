"""Archives made by the standard library's tarfile, which shares no code with docklock's reader."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from docklock.image.layer import take_layer
from docklock.image.staging import Staging
from docklock.image.unpack import Limits
from docklock.paths import Paths


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Layers have owners and devices: unpacking them needs root. CI may not skip."""
    if os.geteuid() == 0 or os.environ.get("CI") == "true":
        return
    for item in items:
        if "paths" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.skip(reason="unpacking a layer needs root"))


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    root = str(tmp_path / "root")
    return Paths(root, f"{root}/run")


def build_tar(*members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            info, data = member if isinstance(member, tuple) else (member, b"")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def build_member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def get_digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def build_config(layers: list[bytes], **config: object) -> bytes:
    return json.dumps(
        {
            "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
            "os": "linux",
            "created": "2026-01-02T03:04:05.678901234Z",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [get_digest(layer) for layer in layers]},
        }
    ).encode()


def build_docker_archive(layers: list[bytes], tags: list[str] | None) -> dict[str, bytes]:
    """The files of a `docker save`, by name."""
    config = build_config(layers, Cmd=["sh"], Env=["PATH=/bin"])
    names = [f"{index}/layer.tar" for index in range(len(layers))]
    stem = hashlib.sha256(config).hexdigest()
    manifest = [{"Config": f"{stem}.json", "RepoTags": tags, "Layers": names}]
    return {
        **dict(zip(names, layers, strict=True)),
        f"{stem}.json": config,
        "manifest.json": json.dumps(manifest).encode(),
    }


def build_layout(
    layers: list[bytes],
    pack: Callable[[bytes], bytes],
    media_type: str = "application/vnd.oci.image.layer.v1.tar+gzip",
    name: str = "localhost/made:1",
) -> dict[str, bytes]:
    """The files of an OCI layout with one image, by name."""
    blobs: dict[str, bytes] = {}

    def add(data: bytes, kind: str) -> dict[str, object]:
        blobs[f"blobs/sha256/{get_digest(data)[7:]}"] = data
        return {"mediaType": kind, "digest": get_digest(data), "size": len(data)}

    config = build_config(layers, Entrypoint=["/bin/sh"], Labels={"a": "b"})
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": add(config, "application/vnd.oci.image.config.v1+json"),
        "layers": [add(pack(layer), media_type) for layer in layers],
    }
    kind = "application/vnd.oci.image.manifest.v1+json"
    descriptor = add(json.dumps(manifest).encode(), kind)
    descriptor["annotations"] = {"org.opencontainers.image.ref.name": name}
    index = {"schemaVersion": 2, "manifests": [descriptor]}
    return {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps(index).encode(),
        **blobs,
    }


def build_files(files: dict[str, bytes]) -> bytes:
    """A tar of plain files."""
    return build_tar(*((build_member(name), data) for name, data in files.items()))


def list_tree(root: str) -> list[str]:
    """Everything below a directory, sorted."""
    return sorted(
        os.path.relpath(os.path.join(at, name), root)
        for at, folders, files in os.walk(root)
        for name in (*folders, *files)
    )


class Archives:
    """The builders above for tests, which cannot import a conftest."""

    tar = staticmethod(build_tar)
    member = staticmethod(build_member)
    digest = staticmethod(get_digest)
    config = staticmethod(build_config)
    docker = staticmethod(build_docker_archive)
    layout = staticmethod(build_layout)
    files = staticmethod(build_files)
    tree = staticmethod(list_tree)


@pytest.fixture
def podman() -> Iterator[Callable[..., str]]:
    """Runs podman on a store of its own; its paths have to be short (50 characters)."""
    with tempfile.TemporaryDirectory(dir="/tmp") as root:

        def run(*argv: str) -> str:
            command = ["podman", "--root", f"{root}/p", "--runroot", f"{root}/q"]
            command += ["--storage-driver", "vfs", *argv]
            return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

        yield run


@pytest.fixture
def archives() -> type[Archives]:
    return Archives


class Unpacked:
    """Unpacks layers into one staging directory."""

    def __init__(self, staging: Staging) -> None:
        self.staging = staging

    def __call__(self, data: bytes, limits: Limits | None = None) -> Path:
        layer = take_layer(self.staging, io.BytesIO(data), "a.tar", limits=limits)
        return Path(self.staging.layer(layer.diff_id)) / "fs"


@pytest.fixture
def unpack(paths: Paths) -> Any:
    with Staging(paths) as staging:
        yield Unpacked(staging)
    assert os.listdir(f"{paths.images}/staging") == []
    assert os.listdir(f"{paths.images}/layers") == []


@pytest.fixture
def outside(tmp_path: Path) -> Any:
    """A directory beside the layer that has to stay as it is."""
    made = tmp_path / "outside"
    made.mkdir()
    (made / "file").write_text("mine")
    os.chmod(made / "file", 0o600)
    before = os.stat(made / "file")
    yield made
    assert [path.name for path in made.iterdir()] == ["file"]
    assert (made / "file").read_text() == "mine"
    after = os.stat(made / "file")
    assert (after.st_mode, after.st_uid, after.st_nlink, after.st_mtime_ns) == (
        before.st_mode, before.st_uid, before.st_nlink, before.st_mtime_ns,
    )  # fmt: skip
