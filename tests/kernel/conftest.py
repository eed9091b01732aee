"""A bundle of Debian's busybox, and a way to run it by docklock's kernel layer alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from docklock.cgroup import driver
from docklock.defaults import default_spec
from docklock.spec import Spec, encode_spec

LAUNCHER = Path(__file__).parent / "launcher.py"
REPOSITORY = Path(__file__).parents[2]
BUSYBOX = Path("/bin/busybox")
APPLETS = ("sh", "cat", "grep", "hostname", "id", "ls", "mount", "sleep", "true", "touch", "stat")


class Outcome(NamedTuple):
    """What the launcher said (its last lines of JSON) and what the container wrote."""

    results: list[dict[str, Any]]
    output: str

    @property
    def result(self) -> dict[str, Any]:
        return self.results[0]


class Bundle(NamedTuple):
    """An OCI bundle in a temporary directory."""

    path: Path
    name: str

    @property
    def rootfs(self) -> Path:
        return self.path / "rootfs"

    def write(self, spec: Spec) -> None:
        (self.path / "config.json").write_bytes(encode_spec(spec))

    def make_command(self, **job: Any) -> list[str]:
        base = {"bundle": str(self.path), "name": self.name, "mode": "run", "trap": []}
        base |= {"lowers": [], "upper": "", "work": "", "user": ""}
        return [sys.executable, str(LAUNCHER), json.dumps(base | job)]


Launch = Callable[..., Outcome]


@pytest.fixture
def bundle(tmp_path: Path, need_root: None) -> Iterator[Bundle]:
    if not BUSYBOX.exists():
        pytest.fail("these tests need Debian's busybox-static")
    binaries = tmp_path / "rootfs" / "bin"
    binaries.mkdir(parents=True)
    shutil.copy(BUSYBOX, binaries)
    for applet in APPLETS:
        (binaries / applet).symlink_to("busybox")
    made = Bundle(tmp_path, f"test-{uuid.uuid4().hex}")
    yield made
    left = driver.find_cgroup(made.name)
    if left is not None:
        left.kill()
        left.delete()


@pytest.fixture
def launch(bundle: Bundle) -> Launch:
    """Runs `args` (a shell line if one string) or `spec`; further arguments are the launcher's."""

    def run(*args: str, spec: Spec | None = None, job: dict[str, Any] | None = None) -> Outcome:
        line = ("sh", "-c", args[0]) if len(args) == 1 else args
        bundle.write(spec or make_spec(*line))
        command = bundle.make_command(**(job or {}))
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        results = [json.loads(text) for text in lines if text.startswith("{")]
        return Outcome(results, "\n".join(text for text in lines if not text.startswith("{")))

    return run


def make_spec(*args: str, **changes: Any) -> Spec:
    return default_spec(**({"args": args, "env": ("PATH=/bin",), "hostname": "box"} | changes))


@pytest.fixture
def spec_of() -> Callable[..., Spec]:
    """default_spec with a PATH and a hostname."""
    return make_spec
