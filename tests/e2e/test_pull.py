"""Images come from a real registry, Debian's docker-registry on loopback, by Docker's words."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Docklock
from tests.image.conftest import build_layout
from tests.image.registries import BASIC, PASSWORD, USER, Registry, need_program


@pytest.fixture(scope="module")
def layout(busybox_tree: Path) -> dict[str, bytes]:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.add(busybox_tree, arcname=".")
    return build_layout([file.getvalue()], gzip.compress)


@pytest.fixture(scope="module")
def registry(
    tmp_path_factory: pytest.TempPathFactory, layout: dict[str, bytes]
) -> Iterator[Registry]:
    need_program()
    with Registry(tmp_path_factory.mktemp("registry") / "open") as found:
        found.put_layout(layout, "a/busybox", "1")
        yield found


@pytest.fixture
def fresh(tmp_path: Path, need_root: None) -> Docklock:
    dock = Docklock(tmp_path / "root")
    dock.environment["DOCKER_CONFIG"] = str(tmp_path / "docker")
    return dock


def write_config(dock: Docklock, document: dict[str, object]) -> None:
    folder = Path(dock.environment["DOCKER_CONFIG"])
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(document))


def list_left(dock: Docklock) -> list[str]:
    """What a pull has left beside the images."""
    root = dock.root / "images"
    return [*os.listdir(root / "staging"), *os.listdir(root / "downloads")]


def test_run_pulls_what_is_missing_and_only_that(
    tmp_path: Path, layout: dict[str, bytes], fresh: Docklock
) -> None:
    need_program()
    with Registry(tmp_path / "registry") as registry:
        registry.put_layout(layout, "a/busybox", "1")
        name = f"{registry.domain}/a/busybox:1"
        result = fresh("run", "--rm", name, "-c", "echo in it")
        assert result.stdout == "in it\n"
        lines = result.stderr.splitlines()
        assert lines[0] == f"Unable to find image '{name}' locally"
        assert lines[1] == "1: Pulling from a/busybox"
        assert lines[-1] == f"Status: Downloaded newer image for {name}"
        assert fresh("run", "--pull=never", "--rm", name, "-c", "echo again").stderr == ""
        again = fresh("run", "--pull", "always", "--rm", name, "-c", "true").stderr.splitlines()
        assert again[-1] == f"Status: Image is up to date for {name}"
    assert fresh("run", "--rm", name, "-c", "echo still").stdout == "still\n"
    assert "refused" in fresh("run", "--pull", "always", name, code=125).stderr
    leaves = fresh("receipts", "--host", "--json", "--op", "pull").stdout.splitlines()
    assert [json.loads(leaf)["labels"]["name"] for leaf in leaves] == [name]
    assert list_left(fresh) == []


def test_pull_says_docker_s_lines_and_the_name(registry: Registry, fresh: Docklock) -> None:
    name = f"{registry.domain}/a/busybox:1"
    lines = fresh("pull", name).stdout.splitlines()
    digest = registry.request("GET", "/v2/a/busybox/manifests/1")[1]
    short = lines[1].partition(":")[0]
    assert lines == [
        "1: Pulling from a/busybox",
        f"{short}: Pulling fs layer",
        f"{short}: Verifying Checksum",
        f"{short}: Download complete",
        f"{short}: Pull complete",
        lines[5],
        f"Status: Downloaded newer image for {name}",
        name,
    ]
    assert lines[5].startswith("Digest: sha256:") and digest
    assert fresh("pull", "-q", name).stdout == f"{name}\n"


def test_a_digest_names_what_it_names(
    registry: Registry, layout: dict[str, bytes], fresh: Docklock
) -> None:
    (item,) = json.loads(layout["index.json"])["manifests"]
    name = f"{registry.domain}/a/busybox@{item['digest']}"
    assert fresh("run", "--rm", name, "-c", "echo in it").stdout == "in it\n"
    assert fresh("run", "--pull=never", "--rm", name, "-c", "echo here").stdout == "here\n"
    row = fresh("images", "--digests").stdout.splitlines()[1].split()
    assert row[:3] == [f"{registry.domain}/a/busybox", "<none>", item["digest"]]
    assert fresh("inspect", name)
    wrong = f"{registry.domain}/a/busybox@sha256:{'0' * 64}"
    assert "not found" in fresh("pull", wrong, code=1).stderr
    fresh("rmi", name)
    assert fresh("images", "-q").stdout == ""


def test_what_is_not_there_is_refused_and_leaves_nothing(
    registry: Registry, fresh: Docklock
) -> None:
    result = fresh("pull", f"{registry.domain}/a/nothing", code=1)
    assert result.stdout == "Using default tag: latest\n"
    assert f"{registry.domain}/a/nothing:latest not found: manifest unknown" in result.stderr
    assert not (fresh.root / "images").exists()
    assert "invalid pull option" in fresh("run", "--pull", "often", "x", code=125).stderr


def test_a_password_opens_a_registry_and_is_nowhere_else(
    tmp_path: Path, layout: dict[str, bytes], fresh: Docklock
) -> None:
    need_program()
    with Registry(tmp_path / "registry", is_locked=True) as registry:
        registry.put_layout(layout, "busybox", "1")
        name = f"{registry.domain}/busybox:1"
        refused = fresh("pull", name, code=1)
        assert f"docklock login {registry.domain}" in refused.stderr
        wrong = b64encode(f"{USER}:wrong secret".encode()).decode()
        write_config(fresh, {"auths": {registry.domain: {"auth": wrong}}})
        refused = fresh("pull", name, code=1)
        assert "incorrect username or password" in refused.stderr
        write_config(fresh, {"auths": {registry.domain: {"auth": BASIC[6:]}}})
        done = fresh("run", "--rm", name, "-c", "echo in it")
        assert done.stdout == "in it\n"
    shown = refused.stdout + refused.stderr + done.stderr
    kept = b"".join(path.read_bytes() for path in fresh.root.rglob("*") if path.is_file())
    for secret in (PASSWORD, BASIC[6:], wrong, "wrong secret"):
        assert secret not in shown and secret.encode() not in kept
