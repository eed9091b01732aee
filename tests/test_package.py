"""The Debian package as a file, and the units in it; tests/vm/test_systemd.py installs it.

Not here: ./install (tests/e2e/test_installer.py).
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docklock.cli.main import COMMANDS

TOP = Path(__file__).resolve().parent.parent
SIZE_MAX_BYTES = 50_000_000
SCRIPTS = ("preinst", "postinst", "prerm", "postrm")
OUTSIDE = {
    "usr/bin/docklock",
    "usr/bin/docklock-runtime",
    "usr/lib/systemd/system/docklock.service",
    "usr/lib/systemd/system/docklock-mend.path",
    "usr/lib/systemd/system/docklock-mend.service",
    "usr/lib/systemd/system/docklock.socket",
    "usr/lib/sysusers.d/docklock.conf",
    "usr/lib/tmpfiles.d/docklock.conf",
    "usr/share/bash-completion/completions/docklock",
    "usr/share/fish/vendor_completions.d/docklock.fish",
    "usr/share/zsh/vendor-completions/_docklock",
}
PAGES = "usr/share/man/man1/"
PRIVATE = "usr/lib/docklock/package/"
# Each would be inherited by the containers that the agent starts: systemd/README.md.
INHERITED = (
    "AmbientCapabilities", "CapabilityBoundingSet", "Limit", "LockPersonality",
    "MemoryDenyWriteExecute", "NoNewPrivileges", "OOMScoreAdjust", "Private", "Protect",
    "ReadOnly", "Restrict", "SystemCall", "TemporaryFileSystem", "Inaccessible", "BindPaths",
    "Nice", "IOScheduling", "CPUSchedul", "CPUAffinity", "RootDirectory", "User", "DynamicUser",
)  # fmt: skip


def run(*words: str, cwd: Path = TOP) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("package")
    file = run(str(TOP / "systemd/build-deb"), str(directory), "9.8").strip()
    return Path(file)


@pytest.fixture(scope="module")
def unpacked(package: Path) -> Path:
    root = package.parent / "root"
    run("dpkg-deb", "-x", str(package), str(root))
    run("dpkg-deb", "-e", str(package), str(root / "DEBIAN"))
    return root


def get_files(root: Path) -> dict[str, Path]:
    found = (path for path in root.rglob("*") if not path.is_dir())
    names = {path.relative_to(root).as_posix(): path for path in found}
    return {name: path for name, path in names.items() if not name.startswith("DEBIAN/")}


def test_its_fields_are_what_dpkg_asks_for(package: Path) -> None:
    fields = dict(
        line.split(": ", 1) for line in run("dpkg-deb", "-f", str(package)).splitlines()
        if ": " in line
    )  # fmt: skip
    assert (fields["Package"], fields["Version"]) == ("docklock", "9.8")
    assert fields["Architecture"] == run("dpkg", "--print-architecture").strip()
    minor = f"3.{sys.version_info.minor}"
    assert f"python3 (>= {minor})" in fields["Depends"], "compiled for one minor version"
    assert f"python3 (<< 3.{sys.version_info.minor + 1})" in fields["Depends"]
    assert "@" not in "".join(value for name, value in fields.items() if name != "Maintainer")


def test_it_is_below_50_megabytes(package: Path, unpacked: Path) -> None:
    size_bytes = sum(path.stat().st_size for path in get_files(unpacked).values())
    print(f"installed: {size_bytes / 1e6:.1f} MB; the file {package.stat().st_size / 1e6:.1f} MB")
    assert 1_000_000 < size_bytes < SIZE_MAX_BYTES
    declared = int(run("dpkg-deb", "-f", str(package), "Installed-Size")) * 1024
    assert size_bytes <= declared < SIZE_MAX_BYTES


def test_nothing_lies_outside_its_own_places(package: Path, unpacked: Path) -> None:
    names = get_files(unpacked)
    assert {name for name in names if not name.startswith((PRIVATE, PAGES))} == OUTSIDE
    assert not [name for name in names if name.endswith((".pth", ".new"))]
    for line in run("dpkg-deb", "-c", str(package)).splitlines():
        mode, owner, *_, last = line.split()
        assert owner == "root/root" and "s" not in mode[1:10], line
        if mode[0] == "l":
            assert PAGES in line and "/" not in last, line
        else:
            assert mode[8] != "w", line


def test_it_brings_a_manual_page_of_every_command(unpacked: Path) -> None:
    pages = {path.name for path in (unpacked / PAGES).iterdir()}
    wanted = {"docklock.1", *(f"docklock-{name.replace(' ', '-')}.1" for name in COMMANDS)}
    assert wanted <= pages and "docklock-container-ls.1" in pages
    for name in pages:
        assert (unpacked / PAGES / name).read_text().startswith(".TH DOCKLOCK"), name
    assert not (unpacked / PAGES / "docklock.1").stat().st_mode & 0o022


def test_its_checksums_hold(unpacked: Path) -> None:
    names = {name: path for name, path in get_files(unpacked).items() if not path.is_symlink()}
    lines = (unpacked / "DEBIAN/md5sums").read_text().splitlines()
    said = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    assert said.keys() == names.keys()
    for name, path in names.items():
        digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        assert digest == said[name], name


def test_no_file_of_it_names_where_it_was_built(unpacked: Path) -> None:
    here = str(TOP).encode()
    found = [name for name, path in get_files(unpacked).items() if here in path.read_bytes()]
    assert not found


def test_its_scripts_are_whole_and_its_python_compiled(unpacked: Path) -> None:
    for name in SCRIPTS:
        assert os.access(unpacked / "DEBIAN" / name, os.X_OK)
        run("sh", "-n", str(unpacked / "DEBIAN" / name))
    tree = unpacked / PRIVATE
    missing = [
        path for path in (tree / "docklock").rglob("*.py")
        if not list((path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"))
    ]  # fmt: skip
    assert not missing


def read_keys(unpacked: Path, unit: str) -> list[str]:
    text = (unpacked / "usr/lib/systemd/system" / unit).read_text()
    return re.findall(r"^(\w+)=", text, flags=re.MULTILINE)


def test_nothing_in_the_unit_is_inherited_by_containers(unpacked: Path) -> None:
    keys = read_keys(unpacked, "docklock-mend.service")
    assert {"Type", "ExecStart", "KillMode", "Delegate"} <= set(keys)
    assert not [key for key in keys if key.startswith(INHERITED)]


def test_the_agents_unit_is_locked_up_since_it_starts_nothing(unpacked: Path) -> None:
    text = (unpacked / "usr/lib/systemd/system/docklock.service").read_text()
    assert "ExecStart=/usr/bin/docklock agent --ask-mend\n" in text
    keys = set(read_keys(unpacked, "docklock.service"))
    assert {"CapabilityBoundingSet", "NoNewPrivileges", "ProtectSystem", "SystemCallFilter"} <= keys
    assert {"Type", "WatchdogSec", "Restart"} <= keys and "Delegate" not in keys
