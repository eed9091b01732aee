"""Images come from a real registry, Debian's docker-registry on loopback, by Docker's words."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Docklock
from tests.e2e.test_terminal import at
from tests.image.authority import Authority
from tests.image.conftest import build_files, build_layout, build_member, build_tar
from tests.image.registries import BASIC, PASSWORD, USER, Registry, need_program
from tests.image.scripted import Reply, Request, Scripted, serve_layout


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


def read_kept(dock: Docklock) -> bytes:
    """Every file below the root, but for what a supervisor that ends removes just now."""
    found = []
    for directory, _, names in os.walk(dock.root):
        for path in (Path(directory, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file():
                    found.append(path.read_bytes())
    assert found
    return b"".join(found)


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
    kept = read_kept(fresh)
    for secret in (PASSWORD, BASIC[6:], wrong, "wrong secret"):
        assert secret not in shown and secret.encode() not in kept


def test_push_sends_what_the_registry_has_not_and_names_it_last(
    tmp_path: Path, layout: dict[str, bytes], fresh: Docklock, busybox_tree: Path
) -> None:
    need_program()
    with Registry(tmp_path / "registry") as registry:
        name = f"{registry.domain}/made/by/us:1"
        fresh("import", str(busybox_tree), name)
        lines = fresh("push", name).stdout.splitlines()
        assert lines[0] == f"The push refers to repository [{registry.domain}/made/by/us]"
        assert [line.partition(": ")[2] for line in lines[1:-1]] == ["Preparing", "Pushed"]
        assert lines[-1].startswith("1: digest: sha256:")
        again = fresh("push", name).stdout.splitlines()
        assert [line.partition(": ")[2] for line in again[1:-1]] == [
            "Preparing",
            "Layer already exists",
        ]
        fresh("tag", name, f"{registry.domain}/made/by/us:2")
        assert fresh("push", "-q", "-a", name[:-2]).stdout.splitlines() == [name, f"{name[:-1]}2"]
        other = Docklock(tmp_path / "other")
        assert other("run", "--rm", f"{name[:-1]}2", "sh", "-c", "echo came").stdout == "came\n"
        ids = [
            dock("inspect", "--format", "{{.Id}}", f"{name[:-1]}2").stdout
            for dock in (fresh, other)
        ]
        assert ids[0] == ids[1]
    leaves = fresh("receipts", "--host", "--json", "--op", "push").stdout.splitlines()
    assert [json.loads(leaf)["labels"]["name"] for leaf in leaves] == [
        name,
        name,
        name,
        f"{name[:-1]}2",
    ]
    assert "does not exist locally with the tag: x:latest" in fresh("push", "x", code=1).stderr


HELPER = """#!/bin/sh
# A credential helper that keeps all in one file.
case $1 in
store) cat >"$STORE" ;;
erase) rm -f "$STORE" ;;
get) cat "$STORE" 2>/dev/null || { echo credentials not found in native keychain; exit 1; } ;;
esac
"""


@pytest.mark.parametrize("has_helper", [False, True])
def test_login_is_checked_kept_used_and_forgotten(
    tmp_path: Path, layout: dict[str, bytes], fresh: Docklock, has_helper: bool
) -> None:
    need_program()
    config = tmp_path / "docker/config.json"
    write_config(fresh, {"credsStore": "file"} if has_helper else {"psFormat": "kept"})
    program = tmp_path / "bin/docker-credential-file"
    program.parent.mkdir()
    program.write_text(HELPER)
    program.chmod(0o755)
    fresh.environment |= {
        "PATH": f"{program.parent}:{fresh.environment['PATH']}",
        "STORE": str(tmp_path / "store"),
    }
    with Registry(tmp_path / "registry", is_locked=True) as registry:
        registry.put_layout(layout, "busybox", "1")
        name = f"{registry.domain}/busybox:1"
        words = ("login", "-u", USER, "--password-stdin", registry.domain)
        wrong = fresh(*words, stdin="not it\n", code=1)
        assert "incorrect username or password" in wrong.stderr and "not it" not in wrong.stderr
        assert "auths" not in config.read_text()
        done = fresh(*words, stdin=f"{PASSWORD}\n")
        assert done.stdout == "Login Succeeded\n"
        assert ("stored unencrypted" in done.stderr) == (not has_helper)
        assert (BASIC[6:] in config.read_text()) == (not has_helper)
        assert config.stat().st_mode & 0o777 == 0o600
        if not has_helper:
            assert json.loads(config.read_text())["psFormat"] == "kept"
        again = fresh("login", registry.domain).stdout.splitlines()
        assert again == ["Authenticating with existing credentials...", "Login Succeeded"]
        fresh("pull", "-q", name)
        fresh("push", "-q", name)
        out = fresh("logout", registry.domain).stdout
        assert out == f"Removing login credentials for {registry.domain}\n"
        assert registry.domain not in config.read_text()
        assert not (tmp_path / "store").exists()
        assert fresh("logout", registry.domain).stdout == f"Not logged in to {registry.domain}\n"
        assert "docklock login" in fresh("pull", name, code=1).stderr
        no_terminal = fresh("login", registry.domain, code=2)
        assert "non TTY" in no_terminal.stderr
    kept = read_kept(fresh)
    assert PASSWORD.encode() not in kept and BASIC[6:].encode() not in kept


def test_a_password_is_typed_at_a_terminal_and_not_shown(tmp_path: Path, fresh: Docklock) -> None:
    need_program()
    with Registry(tmp_path / "registry", is_locked=True) as registry:
        for word, code in (("not it", 1), (PASSWORD, 0)):
            with at(fresh, "login", registry.domain) as screen:
                screen.read_until("Username: ")
                screen.type(f"{USER}\n")
                screen.read_until("Password: ")
                screen.type(f"{word}\n")
                said = screen.read_until(r"(?s)^.*left with (\d+)\.")
                assert int(said[1]) == code
                assert word not in said[0]
                assert screen.is_restored()
    assert BASIC[6:] in (tmp_path / "docker/config.json").read_text()


@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_who_leaves_a_login_finds_the_terminal_as_it_was(fresh: Docklock, key: str) -> None:
    for prompt in ("Username: ", "Password: "):
        with at(fresh, "login", "127.0.0.1:1") as screen:
            screen.read_until("Username: ")
            if prompt == "Password: ":
                screen.type("alice\n")
                screen.read_until(prompt)
            # A signal between the prompt and the read is seen by Python only after the read.
            stat = Path(f"/proc/{screen.front_end_pid()}/stat")
            fresh.wait_for(lambda stat=stat: stat.read_text().rpartition(") ")[2][0] == "S")
            screen.type(key)
            said = screen.read_until(r"(?s)^.*left with (\d+)\.")
            assert int(said[1]) == (130 if key == "\x03" else 1)
            assert "Traceback" not in said[0]
            assert screen.is_restored()


def test_a_pull_at_a_terminal_draws_bars_and_ctrl_c_ends_it(
    fresh: Docklock, layout: dict[str, bytes]
) -> None:
    honest = serve_layout(layout)
    release = threading.Event()

    def hold(request: Request) -> Reply:
        reply = honest(request)
        is_layer = "/blobs/" in request.path and len(reply.body) > 100_000
        return reply._replace(pause_at=100_000, hold=release) if is_layer else reply

    with Scripted(hold) as server:
        name = f"{server.domain}/a/b:1"
        with at(fresh, "pull", name, size=(24, 60)) as screen:
            screen.read_until(r"Downloading \[=*>")
            screen.type("\x03")
            assert screen.read_exit_code() == 130
            assert screen.is_restored()
        release.set()
        assert fresh("images", "-q").stdout == ""
        with at(fresh, "pull", name, size=(24, 60)) as screen:
            screen.read_until("Pull complete")
            screen.read_until(f"Status: Downloaded newer image for {name}")
            assert screen.read_exit_code() == 0
    assert list_left(fresh) == []


@pytest.mark.parametrize("name", ["../../bin/sh", "a b", "/bin/sh"])
def test_a_helper_is_a_name_and_no_path(fresh: Docklock, name: str) -> None:
    write_config(fresh, {"credsStore": name})
    assert "credential helper's name" in fresh("pull", "127.0.0.1:1/x", code=2).stderr


def test_a_helper_that_is_not_installed_hinders_no_pull_of_what_is_for_everybody(
    registry: Registry, fresh: Docklock
) -> None:
    write_config(fresh, {"credsStore": "nowhere"})
    name = f"{registry.domain}/a/busybox:1"
    done = fresh("pull", "-q", name)
    assert done.stdout == f"{name}\n"
    assert "docker-credential-nowhere: not found" in done.stderr
    assert "docker-credential-nowhere: not found" in fresh("push", name, code=1).stderr


def test_a_killed_pull_leaves_the_store_whole_and_the_next_goes_on(
    fresh: Docklock, layout: dict[str, bytes]
) -> None:
    """The registry holds the layer back in its middle; there the pull is killed."""
    honest = serve_layout(layout)
    half, release = threading.Event(), threading.Event()

    def script(request: Request) -> Reply:
        reply = honest(request)
        if "/blobs/" in request.path and len(reply.body) > 100_000 and not half.is_set():
            half.set()
            return reply._replace(pause_at=100_000, hold=release)
        return reply

    with Scripted(script) as server:
        name = f"{server.domain}/a/b:1"
        downloads = fresh.root / "images/downloads"
        process = fresh.start("pull", name)
        fresh.wait_for(lambda: any(path.stat().st_size for path in downloads.glob("*")))
        process.kill()
        process.communicate()
        release.set()
        assert fresh("images", "-q").stdout == ""
        done = fresh("run", "--rm", name, "-c", "echo in it")
        assert done.stdout == "in it\n"
        assert any(
            request.fields.get("range", "bytes=0-") != "bytes=0-" for request in server.asked
        )
    assert list_left(fresh) == []


def test_a_certificate_is_verified_by_an_authority_of_one_s_own(
    tmp_path: Path, layout: dict[str, bytes], fresh: Docklock
) -> None:
    """It lies where an administrator puts it: below /etc, here of a mount namespace of our own."""
    need_program()
    authority = Authority(tmp_path / "authority")
    tls = tmp_path / "tls"
    tls.mkdir()
    for source, name in zip(authority.sign("server"), ("cert.pem", "key.pem"), strict=True):
        source.rename(tls / name)
    with Registry(tmp_path / "registry", tls=tls, authority=authority.certificate) as registry:
        registry.put_layout(layout, "busybox", "1")
        name = f"{registry.domain}/busybox:1"
        refused = fresh("pull", name, code=1)
        assert "its certificate: unable to get local issuer certificate" in refused.stderr
        certs = tmp_path / "etc/docklock/certs.d" / registry.domain
        certs.mkdir(parents=True)
        shutil.copy(authority.certificate, certs)
        (tmp_path / "work").mkdir()
        overlay = f"lowerdir=/etc,upperdir={tmp_path}/etc,workdir={tmp_path}/work"
        script = f'mount -t overlay -o {overlay} none /etc && exec "$@"'
        argv = ["unshare", "-m", "sh", "-c", script, "sh", *fresh.argv("pull", "-q", name)]
        done = subprocess.run(argv, env=fresh.environment, capture_output=True, text=True)
        assert done.stdout == f"{name}\n", done.stderr
        fresh("rmi", name)
        fresh.environment["SSL_CERT_FILE"] = str(authority.certificate)
        assert fresh("pull", "-q", name).stdout == f"{name}\n"


def test_all_tags_of_a_name_come_at_once(
    tmp_path: Path, layout: dict[str, bytes], fresh: Docklock
) -> None:
    need_program()
    with Registry(tmp_path / "registry") as registry:
        for tag in ("1", "2", "next"):
            registry.put_layout(layout, "a/busybox", tag)
        name = f"{registry.domain}/a/busybox"
        lines = fresh("pull", "-a", name).stdout.splitlines()
        assert sorted(line for line in lines if "Pulling from" in line) == [
            f"{tag}: Pulling from a/busybox" for tag in ("1", "2", "next")
        ]
        assert lines[-2:] == [f"Status: Downloaded newer image for {name}", name]
        again = fresh("pull", "--all-tags", name).stdout.splitlines()
        assert again[-2] == f"Status: Image is up to date for {name}"
        assert "tag can't be used" in fresh("pull", "-a", f"{name}:1", code=2).stderr
        assert "not found" in fresh("pull", "-a", f"{name}x", code=1).stderr
    tags = fresh("images", "--format", "{{.Tag}}", name).stdout.splitlines()
    assert sorted(tags) == ["1", "2", "next"]


@pytest.mark.parametrize("verb", ["pull", "load"])
@pytest.mark.parametrize("size_kib", [700, 1700])
def test_a_full_disk_in_a_pull_leaves_room_and_nothing_half(
    tmp_path: Path, fresh: Docklock, size_kib: int, verb: str
) -> None:
    """The first size is too small for the layer's bytes, the second for its files as well."""
    layer = build_tar((build_member("big"), os.urandom(1 << 20)))
    files = build_layout([layer, build_tar((build_member("small"), b"x"))], gzip.compress)
    images = fresh.root / "images"
    images.mkdir(parents=True)
    archive = tmp_path / "image.tar"
    archive.write_bytes(build_files(files))

    def mount(*options: str) -> None:
        subprocess.run(["mount", *options, "none", str(images)], check=True)

    mount("-t", "tmpfs", "-o", f"size={size_kib}k,mode=700")
    try:
        with Scripted(serve_layout(files)) as server:
            words = (
                ("pull", f"{server.domain}/a/b:1")
                if verb == "pull"
                else ("load", "-i", str(archive))
            )
            assert "No space left on device" in fresh(*words, code=1).stderr
            left = os.listdir(images / "downloads") if verb == "pull" else []
            assert os.listdir(images / "staging") == left == []
            place = os.statvfs(images)
            assert (place.f_blocks - place.f_bfree) * place.f_frsize < 200 << 10
            assert fresh("images", "-q").stdout == ""
            assert "whole" in fresh("system", "check").stdout
            mount("-o", "remount,size=16m")
            fresh(*words)
            assert len(fresh("images", "-q").stdout.splitlines()) == 1
            assert "1 images" in fresh("system", "check").stdout
    finally:
        subprocess.run(["umount", str(images)], check=True)
