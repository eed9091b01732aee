from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.policy.golden import CASES, format_case, get_path

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("3.11", "3.12", "3.13")


def find_interpreter(version: str) -> str | None:
    """An interpreter of this version: our own, one on the PATH, or one that pyenv built."""
    if sys.version.startswith(version + "."):
        return sys.executable
    built = sorted(glob.glob(os.path.expanduser(f"~/.pyenv/versions/{version}.*/bin/python3")))
    return built[-1] if built else shutil.which(f"python{version}")


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_programs_are_byte_for_byte_those_on_file(case) -> None:
    """A change here is a change of what containers run under: raise COMPILER_VERSION with it.

    Written by python -m tests.policy.golden --write.
    """
    assert format_case(case) == Path(get_path(case)).read_text(encoding="ascii")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("hash_seed", ["0", "1234"])
def test_every_python_compiles_the_same_bytes(version, hash_seed, tmp_path) -> None:
    """With pure-Python YAML, another hash seed, another locale and an empty environment."""
    interpreter = find_interpreter(version)
    if interpreter is None:
        pytest.skip(f"no Python {version} on this machine")
    (tmp_path / "yaml").symlink_to(Path(yaml.__file__).parent)
    environment = {
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
        "PYTHONHASHSEED": hash_seed,
        "LC_ALL": "C",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TZ": "Asia/Kathmandu",
    }
    ran = subprocess.run(
        [interpreter, "-S", "-m", "tests.policy.golden"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "".join(Path(get_path(case)).read_text() for case in CASES)
