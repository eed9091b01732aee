"""A real Debian root file system, made once by debootstrap and kept between runs.

Which mirror it comes from is the host's own apt configuration; nothing here names one. The cache
is ${XDG_CACHE_HOME:-/var/cache}/docklock-tests, each entry keyed by all that it is made from.
Not here: what is run in it (tests/e2e/test_debian.py, tests/vm/machine.py).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PACKAGES = ("busybox-static", "gcc", "libc6-dev", "python3")
# Of the second machine: what `systemctl` and a .deb of docklock need, and no more to boot.
SYSTEMD_PACKAGES = ("busybox-static", "dbus", "python3", "systemd", "systemd-sysv")
RELEASE_ELSEWHERE = "bookworm"
DISK_BYTES = 2 << 30
COMMAND_LIMIT_S = 300
# Counts up when what is made changes while its name does not.
FORMAT = 1


def get_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", "/var/cache")) / "docklock-tests"


def get_release() -> str:
    """The host's own release where it is Debian, so that its Python is the guest's, too."""
    about = platform.freedesktop_os_release()
    return about["VERSION_CODENAME"] if about["ID"] == "debian" else RELEASE_ELSEWHERE


def get_debian_tar() -> Path:
    """minbase with python3 and gcc, as `docklock import` takes it. 40 s the first time."""
    return get_root("tar")


def get_debian_disk(packages: tuple[str, ...] = PACKAGES) -> Path:
    """The same, or minbase with other packages, as an ext4 image without a partition table."""
    return get_root("ext4", packages)


def get_root(suffix: str, packages: tuple[str, ...] = PACKAGES) -> Path:
    need_programs("debootstrap", "mke2fs", "tar")
    release = get_release()
    stem = f"debian-{release}-{compute_key(release, *packages)}"
    wanted = get_cache() / f"{stem}.{suffix}"
    with hold_lock(stem):
        if not wanted.exists():
            with tempfile.TemporaryDirectory(dir=get_cache(), prefix="debootstrap-") as name:
                make_root(Path(name) / "root", release, packages)
                make_archives(Path(name), get_cache() / stem)
    return wanted


def make_root(root: Path, release: str, packages: tuple[str, ...]) -> None:
    """debootstrap in a mount namespace of its own: what it mounts is seen by nobody else.

    `--propagation unchanged`, since `/` of a chroot is no mount whose propagation could be set.
    """
    run(
        "unshare", "--mount", "--propagation", "unchanged",
        "debootstrap", "--variant=minbase", f"--include={','.join(packages)}",
        release, str(root), get_mirror(release),
        environment=get_proxies(),
    )  # fmt: skip
    for pattern in ("var/cache/apt/archives/*.deb", "var/lib/apt/lists/*"):
        for path in root.glob(pattern):
            path.unlink() if path.is_file() else shutil.rmtree(path)
    # No host or network of the machine that made it.
    (root / "etc/apt/sources.list").write_text("")
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    (root / "etc/hostname").write_text("debian\n")


def make_archives(directory: Path, stem: Path) -> None:
    root = directory / "root"
    run("tar", "-C", str(root), "--numeric-owner", "-cf", str(directory / "tar"), ".")
    for name in ("job", "lib/modules"):
        (root / name).mkdir(parents=True, exist_ok=True)
    disk = directory / "ext4"
    with disk.open("wb") as file:
        file.truncate(DISK_BYTES)
    run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", str(root), str(disk))
    for name in ("tar", "ext4"):
        os.replace(directory / name, stem.with_name(f"{stem.name}.{name}"))


def get_mirror(release: str) -> str:
    """Where this host's apt gets `release` from."""
    form = "$(RELEASE) $(COMPONENT) $(REPO_URI)"

    def find() -> str | None:
        text = run("apt-get", "indextargets", "--format", form, "Created-By: Packages")
        rows = [line.split() for line in text.splitlines()]
        return next((row[2] for row in rows if row[:2] == [release, "main"]), None)

    found = ask_apt(find)
    assert found, f"apt's sources on this host name no archive with {release} main"
    return found


def ask_apt(ask: Callable[[], str | None]) -> str | None:
    """What `ask` finds; once more after an update, as a fresh host has no package lists."""
    found = ask()
    if not found:
        run("apt-get", "update", "-qq")
        found = ask()
    return found


def get_proxies() -> dict[str, str]:
    """apt's proxies as wget, which debootstrap calls, is told of them."""
    found = {}
    for scheme in ("http", "https"):
        text = run("apt-config", "shell", "VALUE", f"Acquire::{scheme}::Proxy")
        if text.startswith("VALUE='") and "DIRECT" not in text:
            found[f"{scheme}_proxy"] = text.strip()[len("VALUE='") : -1]
    return found


@contextmanager
def hold_lock(name: str) -> Iterator[None]:
    """One process at a time makes what is cached under `name`."""
    get_cache().mkdir(parents=True, exist_ok=True)
    with (get_cache() / f"{name}.lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def compute_key(*parts: str) -> str:
    return hashlib.sha256("\0".join((str(FORMAT), *parts)).encode()).hexdigest()[:12]


def run(*words: str, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        words,
        env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
        | (environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT_S,
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def need_programs(*names: str) -> None:
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        give_up(f"not installed here: {', '.join(missing)}; ./test installs them")


def give_up(why: str) -> None:
    """Skip at home, fail in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)
