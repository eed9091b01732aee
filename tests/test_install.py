"""What an install of docklock alone is: how large, and that it brings all it needs.

The environment is a real one, made from requirements-core.lock by hash, with the checkout's wheel.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent
CORE_SIZE_MAX_BYTES = 50_000_000


def write_core_lock(target: Path) -> None:
    """The entries of requirements-core.lock without the build backend and pip."""
    words = [sys.executable, str(TOP / "systemd/core_lock.py")]
    target.write_text(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def run_pip(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments],
        env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"},
        capture_output=True,
        text=True,
        cwd=TOP,
    )
    if re.search("NewConnectionError|Max retries exceeded|ProxyError", done.stderr):
        assert os.environ.get("CI") != "true", done.stderr
        pytest.skip("no package registry can be reached from here")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that holds docklock's wheel and the core lock, not even pip."""
    if int(metadata.version("pip").split(".")[0]) < 23:
        pytest.skip("this environment's pip cannot install into another; ./test has one that can")
    top = tmp_path_factory.mktemp("core")
    write_core_lock(top / "core.lock")
    run_pip("wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation", "-w", str(top), ".")
    [wheel] = top.glob("*.whl")
    environment = top / "environment"
    venv.create(environment, with_pip=False, symlinks=True)
    into = ("--python", str(environment / "bin/python"), "install", "-q", "--no-deps")
    run_pip(*into, "--require-hashes", "-r", str(top / "core.lock"))
    run_pip(*into, "--no-index", str(wheel))
    return environment


def test_the_core_install_is_below_50_megabytes(core: Path) -> None:
    files = [path for path in core.rglob("*") if path.is_file() and not path.is_symlink()]
    size_bytes = sum(path.stat().st_size for path in files)
    print(f"core install: {size_bytes / 1e6:.1f} MB in {len(files)} files")
    assert 1_000_000 < size_bytes < CORE_SIZE_MAX_BYTES


def run_core(core: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run(
        [str(core / "bin" / argv[0]), *argv[1:]],
        cwd=core,
        env=environment | {"DOCKLOCK_ROOT": str(core / "root")},
        capture_output=True,
        text=True,
    )


def test_both_commands_are_installed(core: Path) -> None:
    for command in ("docklock", "docklock-runtime"):
        done = run_core(core, command, "--version")
        assert done.returncode == 0, done.stderr
        assert metadata.version("docklock") in done.stdout


def test_the_installed_wheel_brings_the_policy_profiles(core: Path) -> None:
    target = core / "default.bpf"
    done = run_core(core, "docklock", "policy", "compile", "default", "-o", str(target))
    assert done.returncode == 0, done.stderr
    assert target.stat().st_size % 8 == 0, "not an array of struct sock_filter"


SERVED = (
    "chainlite.bpci.app", "chainlite.bpci.blocks", "chainlite.bpci.handing",
    "chainlite.bpci.listening", "chainlite.bpci.members", "chainlite.bpci.reading",
    "chainlite.bpci.refill_app", "chainlite.bpci.serving",
)  # fmt: skip


def test_the_core_install_imports_every_room(core: Path) -> None:
    """But for what the extra `server` is for."""
    program = (
        "import importlib, pkgutil\n"
        "for room in ('chainlite', 'docklock', 'enc'):\n"
        "    package = importlib.import_module(room)\n"
        "    for found in pkgutil.walk_packages(package.__path__, room + '.'):\n"
        f"        if found.name.endswith('__main__') or found.name in {SERVED!r}: continue\n"
        "        importlib.import_module(found.name)\n"
    )
    done = run_core(core, "python", "-W", "error", "-c", program)
    assert done.returncode == 0, done.stderr
