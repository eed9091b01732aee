"""docklock-runtime: the OCI verbs on a bundle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Docklock, Result, make_busybox_tree

SPEC = {
    "ociVersion": "1.0.2",
    "process": {
        "user": {"uid": 0, "gid": 0},
        "args": ["sh", "-c", "echo hi; exit 3"],
        "cwd": "/",
        "env": ["PATH=/bin"],
        "noNewPrivileges": True,
    },
    "root": {"path": "rootfs"},
    "hostname": "bundle",
    "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
    "linux": {"namespaces": [{"type": kind} for kind in ("mount", "pid", "ipc", "uts", "network")]},
}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    make_busybox_tree(tmp_path / "rootfs")
    (tmp_path / "config.json").write_text(json.dumps(SPEC))
    return tmp_path


def runtime(dock: Docklock, *words: str, code: int = 0, capture: bool = True) -> Result:
    """docklock-runtime with its stdio in files: the container keeps them."""
    result = subprocess.run(
        [sys.executable, "-c", "from docklock.cli.oci import main; main()", *words],
        env=dock.environment,
        text=True,
        capture_output=capture,
        timeout=30,
        **(
            {}
            if capture
            else {
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.DEVNULL,
                "stderr": subprocess.DEVNULL,
            }
        ),
    )
    assert result.returncode == code, result.stderr
    return result


def status(dock: Docklock, name: str) -> str:
    return str(json.loads(runtime(dock, "state", name).stdout)["status"])


def test_create_start_state_kill_delete(dock: Docklock, bundle: Path) -> None:
    spec = dict(SPEC, process=dict(SPEC["process"], args=["sleep", "60"]))  # type: ignore[call-overload]
    (bundle / "config.json").write_text(json.dumps(spec))
    runtime(
        dock,
        "create",
        "--bundle",
        str(bundle),
        "--pid-file",
        str(bundle / "pid"),
        "one",
        capture=False,
    )
    state = json.loads(runtime(dock, "state", "one").stdout)
    assert state["status"] == "created"
    assert state["bundle"] == str(bundle)
    assert state["pid"] == int((bundle / "pid").read_text())
    assert "docklock" in runtime(dock, "delete", "one", code=1).stderr
    runtime(dock, "start", "one")
    assert status(dock, "one") == "running"
    assert runtime(dock, "start", "one", code=1).stderr
    runtime(dock, "kill", "one", "KILL")
    dock.wait_for(lambda: status(dock, "one") == "stopped")
    runtime(dock, "delete", "one")
    assert "No such container" in runtime(dock, "state", "one", code=1).stderr
    runtime(dock, "delete", "--force", "one")


def test_the_program_does_not_run_before_start(dock: Docklock, bundle: Path) -> None:
    spec = dict(SPEC, process=dict(SPEC["process"], args=["touch", "/ran"]))  # type: ignore[call-overload]
    (bundle / "config.json").write_text(json.dumps(spec))
    runtime(dock, "create", "--bundle", str(bundle), "two", capture=False)
    assert not (bundle / "rootfs/ran").exists()
    runtime(dock, "start", "two")
    dock.wait_for(lambda: (bundle / "rootfs/ran").exists())
    dock.wait_for(lambda: status(dock, "two") == "stopped")
    runtime(dock, "delete", "two")


def test_kill_of_a_created_container_stops_it(dock: Docklock, bundle: Path) -> None:
    runtime(dock, "create", "--bundle", str(bundle), "three", capture=False)
    runtime(dock, "kill", "three", "KILL")
    dock.wait_for(lambda: status(dock, "three") == "stopped")
    runtime(dock, "delete", "three")


def test_a_start_that_fails_ends_the_container(dock: Docklock, bundle: Path) -> None:
    """A stopped init cannot install its filter: start gives up, and nothing waits for it."""
    pid_file = bundle / "pid"
    runtime(
        dock, "create", "--bundle", str(bundle), "--pid-file", str(pid_file), "stuck", capture=False
    )
    os.kill(int(pid_file.read_text()), signal.SIGSTOP)
    assert "filter" in runtime(dock, "start", "stuck", code=1).stderr
    dock.wait_for(lambda: status(dock, "stuck") == "stopped")
    runtime(dock, "delete", "stuck")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"process": {"args": [3], "cwd": "/"}}, "process.args[0]"),
        ({"root": {}}, "root.path"),
        ({"mounts": [{"destination": "rel", "type": "tmpfs"}]}, "mounts[0].destination"),
        ({"hooks": {"prestart": [{"path": "/x"}]}}, "hooks"),
        ({"linux": {}}, "namespaces"),
    ],
)
def test_a_malformed_bundle_is_refused_by_place(
    dock: Docklock, bundle: Path, change: dict[str, object], word: str
) -> None:
    (bundle / "config.json").write_text(json.dumps({**SPEC, **change}))
    result = runtime(dock, "create", "--bundle", str(bundle), "bad", code=2)
    assert word in result.stderr
    (bundle / "config.json").write_text("{")
    assert "config.json" in runtime(dock, "create", "--bundle", str(bundle), "bad", code=2).stderr
    (bundle / "config.json").unlink()
    runtime(dock, "create", "--bundle", str(bundle), "bad", code=2)
    assert dock("ps", "-aq").stdout == ""
