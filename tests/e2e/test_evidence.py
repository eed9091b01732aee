"""The main job: run, list, verify, hand over one file; a flipped byte and another key are seen."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import CHECKOUT, Docklock


@pytest.fixture(scope="module")
def file(dock: Docklock, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The evidence file of a finished container named `job`."""
    dock("run", "--name", "job", "busybox", "sh", "-c", "id; ls /; mount -t tmpfs x /tmp; true")
    path = tmp_path_factory.mktemp("evidence") / "job.evidence"
    dock("evidence", "job", "-o", str(path))
    return path


def test_verify_json_has_the_named_fields(dock: Docklock, file: Path) -> None:
    value = json.loads(dock("verify", "--json", "job").stdout)
    assert {"ok", "trusted", "anchored_to", "receipts", "segments", "first_bad"} <= set(value)
    assert value["ok"] is True
    assert value["trusted"] is True
    assert value["anchored_to"] is None
    assert value["first_bad"] is None
    assert value["receipts"] == len(dock.receipts("job"))
    assert value["segments"] >= 1


def test_a_file_verifies_by_itself(dock: Docklock, file: Path) -> None:
    assert json.loads(dock("verify", "--json", str(file)).stdout)["trusted"] is True


def test_the_standalone_verifier_needs_no_docklock(dock: Docklock, file: Path) -> None:
    """python -m chainlite.verify with chainlite alone on the path."""
    fingerprint = json.loads(dock("keys", "show", "--format", "json").stdout)["fingerprint"]
    alone = file.parent / "alone"
    if not alone.exists():
        shutil.copytree(CHECKOUT / "chainlite", alone / "chainlite")

    def verify(*words: str) -> int:
        return subprocess.run(
            [sys.executable, "-P", "-m", "chainlite.verify", str(file), *words],
            cwd=alone,
            env={"PYTHONPATH": str(alone), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            check=False,
        ).returncode

    assert verify("--host-key", fingerprint) == 0
    assert verify() == 4
    assert verify("--host-key", fingerprint[:-4] + "0000") in (2, 4)


def test_every_flipped_byte_of_a_stretch_is_refused(dock: Docklock, file: Path) -> None:
    data = bytearray(file.read_bytes())
    for place in range(len(data) // 3, len(data) // 3 + 8):
        data[place] ^= 1
        copy = file.with_name("flipped")
        copy.write_bytes(data)
        data[place] ^= 1
        assert dock("verify", str(copy), code=None).returncode in (2, 3)


def test_a_strange_key_is_exit_4(dock: Docklock, file: Path, tmp_path: Path) -> None:
    other = Docklock(tmp_path / "other")
    other("keys", "init")
    value = other("verify", "--json", str(file), code=4)
    assert json.loads(value.stdout)["trusted"] is False
    fingerprint = json.loads(dock("keys", "show", "--format", "json").stdout)["fingerprint"]
    other("verify", "--host-key", fingerprint, str(file))


def test_something_else_is_exit_2(dock: Docklock, tmp_path: Path) -> None:
    for content in (b"", b"hello", b"\0" * 4096, b"\x7fELF" + b"x" * 999):
        path = tmp_path / "file"
        path.write_bytes(content)
        result = dock("verify", str(path), code=2)
        assert "Traceback" not in result.stderr


def test_a_truncated_file_is_refused_wherever_it_is_cut(dock: Docklock, file: Path) -> None:
    data = file.read_bytes()
    copy = file.with_name("cut")
    for size in range(1, len(data), len(data) // 7):
        copy.write_bytes(data[:size])
        assert dock("verify", str(copy), code=None).returncode in (2, 3), size


def test_receipts_are_filtered_and_json(dock: Docklock, file: Path) -> None:
    lines = dock("receipts", "--op", "syscall.execve", "job").stdout.splitlines()
    assert len(lines) >= 3
    receipt = dock.receipts("job")[0]
    assert {
        "index",
        "run",
        "host",
        "container",
        "app",
        "op",
        "pid",
        "tid",
        "nr",
        "arch",
        "args",
        "decision",
        "errno",
        "ret",
        "plane",
        "seen",
        "policy",
        "mono",
        "time",
        "boot",
        "usage",
        "labels",
    } <= set(receipt)
    assert isinstance(receipt["index"], str)


def test_evidence_of_a_removed_container_stays(dock: Docklock) -> None:
    dock("run", "--name", "brief", "busybox", "true")
    container_id = str(dock.inspect("brief")["Id"])
    dock("rm", "brief")
    dock("verify", container_id)
    assert dock("receipts", container_id[:16]).stdout


def test_a_running_container_is_open_and_verifies(dock: Docklock) -> None:
    dock("run", "-d", "--name", "open", "busybox", "sleep", "60")
    assert "open" in dock("verify", "open").stdout
    dock("rm", "-f", "open")


def test_verify_all_notices_a_deleted_evidence_file(dock: Docklock) -> None:
    dock("run", "--name", "lost", "busybox", "true")
    container_id = str(dock.inspect("lost")["Id"])
    dock("verify", "--all")
    (path,) = [
        p
        for p in (dock.root / "evidence").iterdir()
        if p.name.startswith(container_id) and p.suffix == ".db"
    ]
    aside = path.with_suffix(".aside")
    path.rename(aside)
    assert container_id[:12] in dock("verify", "--all", code=3).stdout
    aside.rename(path)
    dock("verify", "--all")


def test_keys_are_made_once_and_shown(tmp_path: Path) -> None:
    dock = Docklock(tmp_path / "root")
    dock("keys", "init")
    first = dock("keys", "show", "--format", "json").stdout
    dock("keys", "init", code=None)
    assert dock("keys", "show", "--format", "json").stdout == first
    key_files = [path for path in (tmp_path / "root/keys").iterdir() if "pub" not in path.name]
    assert key_files
    assert all(path.stat().st_mode & 0o077 == 0 for path in key_files)


def test_one_receipt_is_proven_to_a_stranger(dock: Docklock, file: Path) -> None:
    """`prove` and the standalone verifier: the value told is the one that was recorded."""
    wanted = next(r for r in dock.receipts("job") if r["op"] == "syscall.mount")
    path = file.with_name("job.proof")
    dock("prove", "job", str(wanted["index"]), "--values", "paths", "-o", str(path))
    assert path.stat().st_size <= 4096
    fingerprint = json.loads(dock("keys", "show", "--format", "json").stdout)["fingerprint"]
    done = subprocess.run(
        [sys.executable, "-m", "chainlite.verify", str(path), "--host-key", fingerprint],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"receipt {wanted['index']} of run 0: syscall.mount denied" in done.stdout
    assert "path1=/tmp" in done.stdout
    assert "string2=(redacted)" in done.stdout or "string=(redacted)" in done.stdout
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    dock("verify", str(path), code=3)


def test_argv_is_redacted_in_a_file_and_erased_on_the_host(dock: Docklock) -> None:
    dock("run", "--name", "secretive", "busybox", "sh", "-c", ": hush-hush; ls / >/dev/null")
    top = Path(dock.root)
    file = top / "secretive.evidence"
    stores = [path for path in top.rglob("evidence/*.db") if b"hush-hush" in path.read_bytes()]
    assert len(stores) == 1, "so short a body lies there as it is"
    dock("evidence", "secretive", "--redact", "argv,paths,addresses", "-o", str(file))
    assert "values redacted" in dock("verify", str(file)).stdout
    assert "hush-hush" in dock("receipts", "secretive").stdout
    dock("evidence", "erase", "secretive", "--values", "argv")
    shown = dock("receipts", "secretive").stdout
    assert "hush-hush" not in shown
    assert "argv=(redacted)" in shown
    assert "values redacted" in dock("verify", "secretive").stdout
    dock("rm", "secretive")
    dock("verify", "--all")
    files = [path for path in top.rglob("*") if path.is_file() and path != file]
    assert [path for path in files if b"hush-hush" in path.read_bytes()] == []
