"""Everyday commands as a user of Docker types them, against docklock and, where it is, dockerd.

The scripts are in tests/everyday, in the format of cram (Debian's python3-cram), which runs them.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.dockerd import DOCKER, hold_daemon
from tests.e2e.conftest import CHECKOUT, Docklock, make_busybox_tree

CRAM = "cram3"
SCRIPTS = CHECKOUT / "tests/everyday"
DOCKER_SCRIPTS = ("commands.t", "differences.docker.t")
OUR_SCRIPTS = ("commands.t", "differences.docklock.t")
COMMANDS_MIN = 50
LIMIT_S = 300


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tar of busybox."""
    top = tmp_path_factory.mktemp("everyday")
    make_busybox_tree(top / "tree")
    packed = top / "tree.tar"
    words = ["tar", "-C", str(top / "tree"), "--owner=0", "--group=0", "-cf", str(packed), "."]
    subprocess.run(words, check=True)
    return packed


def run_script(name: str, command: list[str], environment: dict[str, str]) -> None:
    """Fails with the difference between what the script expects and what was put out."""
    if not shutil.which(CRAM):
        pytest.skip("needs the Debian package python3-cram")
    done = subprocess.run(
        [CRAM, "--preserve-env", str(SCRIPTS / name)],
        env=environment | {"D": shlex.join(command)},
        capture_output=True, text=True, timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", OUR_SCRIPTS)
def test_docklock_does_as_the_script_says(
    name: str, rootfs: Path, tmp_path: Path, need_root: None
) -> None:
    dock = Docklock(tmp_path)
    run_script(name, dock.argv(), dock.environment | {"ROOTFS": str(rootfs)})
    assert dock("ps", "-aq").stdout == ""


@pytest.mark.skipif(not shutil.which("dockerd"), reason="needs the Debian package docker.io")
def test_docker_does_as_the_scripts_say(rootfs: Path, need_root: None) -> None:
    base = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "ROOTFS": str(rootfs)}
    # Where names are short: containerd's socket has one of 107 characters at most.
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as top,
        hold_daemon(Path(top), base) as environment,
    ):
        for name in DOCKER_SCRIPTS:
            run_script(name, [DOCKER], environment)


def test_the_script_has_fifty_commands_and_each_difference_is_in_the_readme() -> None:
    commands = (SCRIPTS / "commands.t").read_text()
    assert len(re.findall(r"^  \$ ", commands, re.MULTILINE)) >= COMMANDS_MIN
    titles = [
        re.findall(r"^\d+\. (.*)$", (SCRIPTS / name).read_text(), re.MULTILINE)
        for name in (OUR_SCRIPTS[1], DOCKER_SCRIPTS[1])
    ]
    assert titles[0] == titles[1]
    readme = (CHECKOUT / "README.md").read_text()
    assert [title for title in titles[0] if f"| {title} |" not in readme] == []
