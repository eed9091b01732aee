"""A root file system goes in and comes out the same, whatever it was packed in."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chainlite.errors import SpecError
from docklock.cli.image_list import run_images
from docklock.cli.images import run_import
from docklock.image.imports import import_directory, import_tar
from docklock.image.reference import parse_reference
from docklock.image.store import ImageStore
from docklock.paths import Paths

BUSYBOX = "/bin/busybox"
needs_busybox = pytest.mark.skipif(
    not os.path.exists(BUSYBOX) and os.environ.get("CI") != "true",
    reason="Debian's busybox-static is missing",
)

# In a chroot / is no mount point, and its propagation cannot be changed.
UNSHARED = ("unshare", "-m", "--propagation", "unchanged")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small root file system with one of everything."""
    root = tmp_path / "tree"
    (root / "bin").mkdir(parents=True)
    (root / "bin/tool").write_bytes(b"tool" * 1000)
    os.chmod(root / "bin/tool", 0o4755)
    os.link(root / "bin/tool", root / "bin/same")
    os.symlink("tool", root / "bin/link")
    os.mkfifo(root / "fifo")
    (root / os.fsdecode(b"odd\xff\n name")).write_bytes(b"")
    (root / ("long" * 60)).write_bytes(b"x")
    os.utime(root / "bin", ns=(5, 1_000_000_001))
    with socket.socket(socket.AF_UNIX) as sock:
        at = os.open(root, os.O_RDONLY)
        sock.bind(f"/proc/self/fd/{at}/socket")
        os.close(at)
    return root


def describe(root: str | Path) -> dict[str, tuple[object, ...]]:
    """What a file system shows of a tree; sockets do not travel."""
    found = {}
    for at, folders, files in os.walk(os.fsencode(root)):
        for name in (b".", *folders, *files):
            path = os.path.join(at, name)
            info = os.lstat(path)
            data = Path(os.fsdecode(path)).read_bytes() if os.path.isfile(path) else b""
            if name != b"socket":
                found[os.fsdecode(os.path.relpath(path, os.fsencode(root)))] = (
                    info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns, info.st_rdev, data,
                    info.st_nlink if not folders and name != b"." else 0,
                )  # fmt: skip
    return found


def test_a_directory_arrives_as_it_is(paths: Paths, tree: Path) -> None:
    import_directory(paths, str(tree), parse_reference("x"))
    image = ImageStore(paths).resolve("x")
    assert describe(image.layers[0]) == describe(tree)


def test_every_packing_gives_the_same_layer(paths: Paths, tree: Path, tmp_path: Path) -> None:
    from backports import zstd

    (tree / "socket").unlink()
    packed = tmp_path / "tree.tar"
    subprocess.run(["tar", "-C", str(tree), "-cf", str(packed), "."], check=True)
    data = packed.read_bytes()
    for index, pack in enumerate(
        (bytes, gzip.compress, bz2.compress, lzma.compress, zstd.compress)
    ):
        import_tar(paths, io.BytesIO(pack(data)), "tree.tar", parse_reference(f"x:{index}"))
    images = [ImageStore(paths).resolve(f"x:{index}") for index in range(5)]
    assert len({image.diff_ids for image in images}) == 1
    assert images[0].size_bytes == 4000 + 1
    found = describe(images[0].layers[0])
    assert {key: value[:3] for key, value in found.items()} == {
        key: value[:3] for key, value in describe(tree).items()
    }


def test_the_same_directory_gives_the_same_layer(paths: Paths, tree: Path) -> None:
    import_directory(paths, str(tree), parse_reference("a"))
    import_directory(paths, str(tree), parse_reference("b"))
    store = ImageStore(paths)
    assert store.resolve("a").diff_ids == store.resolve("b").diff_ids


def test_the_store_is_an_oci_layout_whose_digests_hold(
    paths: Paths, tree: Path, archives: Any
) -> None:
    import_directory(paths, str(tree), parse_reference("x"), ['CMD ["sh"]'])
    root = Path(paths.images)
    assert json.loads((root / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    (descriptor,) = json.loads((root / "index.json").read_text())["manifests"]
    assert (
        descriptor["annotations"]["org.opencontainers.image.ref.name"]
        == "docker.io/library/x:latest"
    )
    blobs = {f"sha256:{blob.name}": blob.read_bytes() for blob in (root / "blobs/sha256").iterdir()}
    assert all(archives.digest(data) == digest for digest, data in blobs.items())
    manifest = json.loads(blobs[descriptor["digest"]])
    items = (descriptor, manifest["config"], *manifest["layers"])
    assert all(len(blobs[item["digest"]]) == item["size"] for item in items)
    assert len(blobs) == len(items)


@pytest.mark.skipif(shutil.which("podman") is None, reason="podman is missing")
def test_podman_reads_the_store(paths: Paths, tree: Path, podman: Any) -> None:
    import_directory(paths, str(tree), parse_reference("localhost/x"), ["ENV A=b"])
    image = ImageStore(paths).resolve("localhost/x")
    shown = podman("pull", f"oci:{paths.images}:localhost/x:latest")
    assert shown.strip() == image.id.removeprefix("sha256:")


def test_a_name_moves_to_the_new_image_and_the_old_one_stays(
    paths: Paths, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = import_directory(paths, str(tree), parse_reference("x"))
    new = import_directory(paths, str(tree), parse_reference("x"), ["USER 5"])
    store = ImageStore(paths)
    assert store.resolve("x").id == new
    assert store.resolve(old).references == ()
    run_images(["--no-trunc"], paths)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["x", "latest", new],
        ["<none>", "<none>", old],
    ]


def test_changes_are_dockerfile_instructions(paths: Paths, tree: Path) -> None:
    changes = [
        'CMD ["sh", "-c", "echo hi"]',
        "entrypoint exec /bin/tool",
        'ENV A=1 B="two words"',
        "ENV A 3 and more",
        "WORKDIR /a",
        "WORKDIR b/../c",
        "USER 5:6",
        "EXPOSE 80 53/udp",
        "LABEL x=y",
        'VOLUME ["/data"]',
        "STOPSIGNAL SIGINT",
        "HEALTHCHECK --retries=2 CMD ok",
    ]
    import_directory(paths, str(tree), parse_reference("x"), changes)
    assert ImageStore(paths).resolve("x").config._asdict() == {
        "entrypoint": ("/bin/sh", "-c", "exec /bin/tool"),
        "cmd": ("sh", "-c", "echo hi"),
        "env": ("A=3 and more", "B=two words"),
        "cwd": "/a/c",
        "user": "5:6",
        "labels": (("x", "y"),),
        "exposed": ("53/udp", "80/tcp"),
        "stop_signal": "SIGINT",
        "volumes": ("/data",),
        "health": (("CMD-SHELL", "ok"), 0, 0, 0, 2),
    }


@pytest.mark.parametrize(
    "change",
    ["RUN x", "CMD", 'CMD ["a"', 'CMD ["a", 1]', "ENV A", 'ENV A="b', "ENV =x", "LABEL A=1 B",
     "EXPOSE http", "EXPOSE 0", "EXPOSE 70000", "EXPOSE 1/x", "VOLUME [1]", ""],
)  # fmt: skip
def test_a_bad_change_is_refused_before_anything_is_made(
    paths: Paths, tree: Path, change: str
) -> None:
    with pytest.raises(SpecError, match="--change"):
        import_directory(paths, str(tree), parse_reference("x"), [change])
    assert not os.path.exists(paths.state)


@needs_busybox
def test_busybox_runs_from_its_unpacked_layer(
    paths: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = tmp_path / "busybox"
    (tree / "bin").mkdir(parents=True)
    shutil.copy(BUSYBOX, tree / "bin/busybox")
    assert run_import(["-c", 'CMD ["sh"]', str(tree), "busybox:1.36"], paths) == 0
    image_id = capsys.readouterr().out.strip()
    image = ImageStore(paths).resolve("busybox:1.36")
    assert image.id == image_id
    assert image.config.cmd == ("sh",)
    shown = subprocess.run(
        ["chroot", image.layers[0], "/bin/busybox", "echo", "hi"], check=True, capture_output=True
    )
    assert shown.stdout == b"hi\n"


def test_images_prints_docker_s_table_and_json(
    paths: Paths, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_images([], paths) == 0
    head = "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n"
    assert capsys.readouterr().out == head
    image_id = import_directory(paths, str(tree), parse_reference("quay.io/a/b:1"))[7:19]
    run_images([], paths)
    lines = capsys.readouterr().out.splitlines()
    shown_lines = [
        [
            f"REPOSITORY    TAG       IMAGE ID       {'CREATED'.ljust(len(age))}   SIZE",
            f"quay.io/a/b   1         {image_id}   {age}   4kB",
        ]
        for age in ("Less than a second ago", "1 second ago", "2 seconds ago", "3 seconds ago")
    ]
    assert lines in shown_lines
    run_images(["-q", "quay.io/a/b"], paths)
    assert capsys.readouterr().out == f"{image_id}\n"
    run_images(["-q", "other"], paths)
    assert capsys.readouterr().out == ""
    run_images(["--format", "json", "--no-trunc"], paths)
    shown = json.loads(capsys.readouterr().out)
    assert (shown["Repository"], shown["Tag"], shown["ID"][7:19]) == ("quay.io/a/b", "1", image_id)


def test_other_file_systems_and_the_store_itself_are_left_out(
    tmp_path: Path, tree: Path, paths: Paths
) -> None:
    """`docklock import /` has to end."""
    inner = Paths(str(tree / "state"), str(tree / "state/run"))
    script = 'mount -t tmpfs none "$1/bin" && : > "$1/bin/no" && exec "$2" -c "$3" "$1"'
    code = (
        "import sys; from docklock.paths import Paths;"
        "from docklock.image.imports import import_directory;"
        "from docklock.image.reference import parse_reference as p; t = sys.argv[1];"
        "import_directory(Paths(t + '/state', t), t, p('x'))"
    )
    subprocess.run([*UNSHARED, "sh", "-c", script, "sh", str(tree), sys.executable, code],
                   check=True)  # fmt: skip
    layer = ImageStore(inner).resolve("x").layers[0]
    assert os.listdir(f"{layer}/bin") == []
    assert os.listdir(f"{layer}/state") == []


def test_a_source_that_is_not_there_is_a_spec_error(paths: Paths, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="No such file"):
        run_import([str(tmp_path / "none"), "x"], paths)
    with pytest.raises(SpecError, match="invalid reference"):
        run_import([str(tmp_path), "X"], paths)
    assert not os.path.exists(paths.state)
