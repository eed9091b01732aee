"""A virtual machine that loses its power while containers run, and is turned on again.

Its disk is a copy of the root file system with a journal, so that what the guest's kernel had not
written is lost, as with a power cut; what it had written is kept, so a disk that forgets what it
was told to sync is not in this. docklock comes from ./install, with pip's files on the job disk.
Not here: the job (power_guest.py), the expectations (test_power.py).
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.vm.debian import SYSTEMD_PACKAGES, get_debian_disk, run
from tests.vm.machine import CHECKOUT, Boot, Machine, make_job_disk, make_words, need_machine
from tests.vm.systemd_machine import make_init

LIMIT_S = 900
HELD_MIN = 20  # before the power is cut: calls that a container has seen return
PACKAGES = (*SYSTEMD_PACKAGES, "python3-venv")
SOURCES = (
    ".ci", "README.md", "chainlite", "docklock", "enc", "install", "policies", "pyproject.toml",
    "requirements-core.lock", "requirements.lock", "systemd", "tui",
)  # fmt: skip


class Cut(NamedTuple):
    """What the machine said before its power was cut, and after."""

    before: Boot
    after: Boot


def cut_and_boot(directory: Path, seed: int) -> Cut:
    """Install, run, cut at a moment that `seed` chooses, boot again."""
    need_machine()
    files = (make_sources(directory), make_wheels(directory))
    machine = Machine(PACKAGES, make_init("power_guest", full=True), files, LIMIT_S, ())
    disk, job = make_disk(directory), make_job_disk(directory, machine)
    boots = []
    for name in ("before", "after"):
        console, results = directory / f"{name}.console", directory / f"{name}.results"
        words = make_words(machine, f"{disk},cache=unsafe", job, console, results)
        with subprocess.Popen(words, stdin=subprocess.DEVNULL) as emulator:
            try:
                if name == "before":
                    wait_until_held(emulator, results)
                    time.sleep(random.Random(seed).random() * 2)
                    emulator.kill()
                emulator.wait(LIMIT_S)
            finally:
                emulator.kill()
        said = (path.read_text(errors="replace") for path in (results, console))
        boots.append(Boot(*said))
    return Cut(*boots)


def wait_until_held(emulator: subprocess.Popen[bytes], results: Path) -> None:
    """Until a container has seen HELD_MIN held calls return, or the machine has given up."""
    deadline = time.monotonic() + LIMIT_S
    while emulator.poll() is None and time.monotonic() < deadline:
        if results.exists() and get_held(results.read_text(errors="replace")) >= HELD_MIN:
            return
        time.sleep(0.2)


def get_held(text: str) -> int:
    """The last number of held calls that the guest told, or 0."""
    told = [line.split()[1] for line in text.splitlines() if line.startswith("held ")]
    return int(told[-1]) if told and told[-1].isdigit() else 0


def make_disk(directory: Path) -> Path:
    disk = directory / "root.ext4"
    run("cp", "--sparse=always", str(get_debian_disk(PACKAGES)), str(disk))
    run("tune2fs", "-j", str(disk))
    return disk


def make_sources(directory: Path) -> Path:
    """What ./install needs of the checkout."""
    path = directory / "source.tar"
    with tarfile.open(path, "w") as archive:
        for name in SOURCES:
            archive.add(CHECKOUT / name, name, filter=leave_out_compiled)
    return path


def leave_out_compiled(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in member.name else member


def make_wheels(directory: Path) -> Path:
    """The files that the core lock names, where the machine has no network: by this host's pip."""
    wheels = directory / "wheels"
    words = (sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes")
    run(*words, "-r", str(CHECKOUT / "requirements-core.lock"), "-d", str(wheels),
        environment={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})  # fmt: skip
    path = directory / "wheels.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(wheels, "wheels")
    return path
