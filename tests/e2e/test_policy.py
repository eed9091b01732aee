"""Which policy a container runs under, and images of another architecture: by the command line."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import tarfile
from pathlib import Path

import pytest

from tests.e2e.conftest import Docklock

LABEL = "dev.docklock.policy"
PROFILES = ("batch", "default", "network-service", "observe", "strict")


@pytest.fixture
def selection(dock: Docklock):
    """Root's file, gone after the test."""
    path = dock.root / "policies" / "select.yaml"
    path.parent.mkdir(exist_ok=True)
    yield path
    path.unlink(missing_ok=True)


def get_policy(dock: Docklock, *words: str) -> tuple[str, str]:
    """The policy of a container made with these options, and what was said."""
    result = dock("create", *words, "busybox", "true")
    name = result.stdout.strip()
    policy = dock.inspect(name)["Docklock"]["Policy"]  # type: ignore[index]
    dock("rm", name)
    return str(policy), result.stderr


@pytest.mark.parametrize("policy", PROFILES)
def test_a_shell_runs_under_every_profile(dock, policy) -> None:
    script = "echo a | sed s/a/b/; id -u; ls / | wc -l; sh -c 'exit 3' || echo $?"
    result = dock("run", "--rm", "--policy", policy, "busybox", "sh", "-c", script)
    assert result.stdout.split()[0] == "b"
    assert result.stdout.split()[-1] == "3"


def test_roots_file_decides_where_no_policy_is_named(dock, selection) -> None:
    assert get_policy(dock) == ("default", "")
    selection.write_text(
        'select:\n  - {label: job, policy: batch}\n  - {image: "docker.io/library/busy*", policy:'
        " strict}\n"
    )
    assert get_policy(dock) == ("strict", "")
    assert get_policy(dock, "--label", "job=1") == ("batch", "")
    assert get_policy(dock, "--policy", "observe") == ("observe", "")
    assert get_policy(dock, "--privileged") == ("observe", "")
    selection.write_text("select:\n  - {policy: strct}\n")
    assert f"{selection}:2:14: " in dock("create", "busybox", "true", code=125).stderr


def test_a_label_tightens_and_never_loosens(dock, selection) -> None:
    assert get_policy(dock, "--label", f"{LABEL}=strict") == ("strict", "")
    policy, said = get_policy(dock, "--label", f"{LABEL}=observe")
    assert policy == "default"
    assert "is not followed: a label can only choose a shipped policy stricter than default" in said


def make_elf_i386() -> bytes:
    """A program of 32 bits that writes `hi` and ends with status 7, by int 0x80."""
    base, header = 0x08048000, 52 + 32
    code = bytes.fromhex("bb01000000") + b"\xb9" + struct.pack("<I", base + header + 34)
    code += bytes.fromhex("ba03000000b804000000cd80bb07000000b801000000cd80")
    code += b"hi\n"
    assert code.index(b"hi\n") == 34
    size = header + len(code)
    elf = b"\x7fELF\x01\x01\x01" + bytes(9)
    elf += struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, base + header, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    elf += struct.pack("<IIIIIIII", 1, 0, base, base, size, size, 5, 0x1000)
    return elf + code


def make_archive(path: Path, architecture: str) -> None:
    """A `docker save` archive with one layer: /hi."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        program = make_elf_i386()
        member = tarfile.TarInfo("hi")
        member.size, member.mode = len(program), 0o755
        tar.addfile(member, io.BytesIO(program))
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/hi"], "Labels": {LABEL: "observe"}},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": ["narrow:latest"], "Layers": ["layer.tar"]}]
    files = {name: config, "layer.tar": layer.getvalue(), "manifest.json": b""}
    files["manifest.json"] = json.dumps(manifest).encode()
    with tarfile.open(path, "w") as tar:
        for file, data in files.items():
            member = tarfile.TarInfo(file)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="i386 runs on x86_64")
def test_an_image_of_32_bits_runs_when_the_policy_asks_for_it(dock, tmp_path) -> None:
    make_archive(tmp_path / "narrow.tar", "386")
    dock("load", "-i", str(tmp_path / "narrow.tar"))
    refused = dock("run", "--rm", "narrow", code=125).stderr
    assert "is for i386, and policy default closes all its calls" in refused
    assert f"the image's label {LABEL}='observe' is not followed" in refused
    assert "narrow" not in dock("ps", "-a").stdout, "it is refused before it is made"
    policy = tmp_path / "narrow.yaml"
    policy.write_text("name: narrow\nextends: default\narchitectures: [i386]\n")
    result = dock("run", "--rm", "--policy", str(policy), "narrow", code=7)
    assert result.stdout == "hi\n"
