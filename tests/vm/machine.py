"""A virtual machine whose only cgroup hierarchy is v2: Debian's cloud kernel under qemu (tcg).

Disks: vda is the Debian root file system of debian.py, discarded after the run; vdb, read-only, is
this checkout and the packages it needs. ttyS0 is the kernel's console and the job's standard
error, ttyS1 what the job prints. /dev/kvm is not used: CI machines are virtual machines themselves.
Not here: the job (guest.py), the expectations (test_cgroup_v2.py).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import lzma
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

from tests.vm.debian import (
    PACKAGES,
    ask_apt,
    compute_key,
    get_cache,
    get_debian_disk,
    get_release,
    give_up,
    hold_lock,
    need_programs,
    run,
)

CHECKOUT = Path(__file__).resolve().parents[2]
ROOMS = ("chainlite", "docklock", "policies", "tests", "pyproject.toml")
NEEDED = ("backports.zstd", "blake3", "hypothesis", "pynacl", "pytest", "pyyaml")
EMULATOR = "qemu-system-x86_64"
KERNEL_PACKAGE = "linux-image-cloud-amd64"
# The last two are for bad networks (netem_guest.py): no module is loaded by itself there.
DRIVERS = ("virtio_pci", "virtio_blk", "overlay", "veth", "sch_netem")
BUSYBOX = Path("/bin/busybox")
MEMORY_MIB = 1024
JOB_DISK_BYTES = 256 << 20
# The guest gives up first, so that no emulator outlives a killed test by more than this.
GUEST_LIMIT_S = 1200
# An emulated processor; tests hold the same true and wait longer.
SLOWER = 10
MACHINE_LIMIT_S = GUEST_LIMIT_S + 60

FIRST_INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs none /dev
for module in $($b cat /modules/order); do $b insmod /modules/$module; done
until [ -b /dev/vdb ]; do $b sleep 0.1; done
$b mount -t ext4 /dev/vda /root
$b mount -t ext4 -o ro /dev/vdb /root/job
$b mount --move /dev /root/dev
exec $b switch_root /root /bin/busybox sh /job/init
"""
SECOND_INIT = """
b=/bin/busybox
export PATH=/usr/sbin:/usr/bin PYTHONPATH=/job/checkout PYTHONDONTWRITEBYTECODE=1 CI=true
export LC_ALL=C.UTF-8 HOME=/root DOCKLOCK_TEST_SLOWER=@SLOWER@
$b mount -t proc none /proc
$b mount -t sysfs none /sys
$b mount -t cgroup2 none /sys/fs/cgroup
$b mount -t tmpfs none /run
$b mkdir -p /dev/pts /dev/shm
$b mount -t devpts none /dev/pts
$b mount -t tmpfs none /dev/shm
$b ip link set lo up
echo /job/packages > $(python3 -c 'import site; print(site.getsitepackages()[0])')/job.pth
cd /job/checkout
$b timeout @LIMIT@ python3 -m tests.vm.@MODULE@ > /dev/ttyS1 < /dev/null
$b poweroff -f
"""


def make_second_init(module: str, limit_s: int = GUEST_LIMIT_S) -> str:
    """PID 1's script without systemd: the job is a module of this package."""
    text = SECOND_INIT.replace("@MODULE@", module).replace("@LIMIT@", str(limit_s))
    return text.replace("@SLOWER@", str(SLOWER))


class Machine(NamedTuple):
    """What a machine is made of, and what it does. It has ended after `limit_s`."""

    packages: tuple[str, ...] = PACKAGES
    init: str = make_second_init("guest")  # PID 1 once the disks are mounted: a script, /job/init
    files: tuple[Path, ...] = ()  # come to /job
    limit_s: int = MACHINE_LIMIT_S
    options: tuple[str, ...] = ("-no-reboot",)
    needed: tuple[str, ...] = NEEDED  # distributions of this host's Python


PURE_V2 = Machine()


class Boot(NamedTuple):
    """What a machine said until it turned itself off."""

    results: str
    console: str


class Kernel(NamedTuple):
    """A kernel and the initial RAM disk that mounts the disks."""

    image: Path
    ramdisk: Path


def boot(directory: Path, machine: Machine = PURE_V2) -> Boot:
    """Run the job in a new machine; `directory` holds what it said."""
    need_machine()
    disk = f"{get_debian_disk(machine.packages)},snapshot=on,cache=unsafe"
    job = make_job_disk(directory, machine)
    console, results = directory / "console", directory / "results"
    try:
        done = subprocess.run(
            make_words(machine, disk, job, console, results),
            env={**os.environ, "TMPDIR": str(directory)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=machine.limit_s,
        )
    finally:
        job.unlink()  # it is large
    assert done.returncode == 0, done.stderr
    return Boot(results.read_text(errors="replace"), console.read_text(errors="replace"))


def make_words(machine: Machine, disk: str, job: Path, console: Path, results: Path) -> list[str]:
    """The emulator's command line; `disk` is a raw file and options of its drive."""
    kernel = get_kernel()
    return [
        EMULATOR, "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", str(MEMORY_MIB),
        "-nodefaults", "-no-user-config", "-display", "none", *machine.options,
        "-kernel", str(kernel.image), "-initrd", str(kernel.ramdisk),
        "-append", "console=ttyS0 quiet panic=-1 mitigations=off",
        "-serial", f"file:{console}", "-serial", f"file:{results}",
        "-drive", f"if=virtio,format=raw,file={disk}",
        "-drive", f"file={job},if=virtio,format=raw,readonly=on",
    ]  # fmt: skip


def need_machine() -> None:
    need_programs(EMULATOR, "apt-get", "dpkg-deb", "mke2fs")
    if platform.machine() != "x86_64":
        give_up(f"{platform.machine()}: the machine and this host share compiled packages: x86_64")


def get_kernel() -> Kernel:
    stem = f"kernel-{get_release()}-{compute_key(KERNEL_PACKAGE, FIRST_INIT, *DRIVERS)}"
    kernel = Kernel(get_cache() / f"{stem}.vmlinuz", get_cache() / f"{stem}.cpio")
    with hold_lock(stem):
        if not all(path.exists() for path in kernel):
            with tempfile.TemporaryDirectory(dir=get_cache(), prefix="kernel-") as name:
                unpacked = unpack_kernel(Path(name))
                ramdisk = make_ramdisk(Path(name), unpacked)
                (image,) = (unpacked / "boot").glob("vmlinuz-*")
                os.replace(image, kernel.image)
                os.replace(ramdisk, kernel.ramdisk)
    return kernel


def unpack_kernel(directory: Path) -> Path:
    """The kernel's package, downloaded by apt and unpacked; nothing is installed."""

    def find() -> str | None:
        done = subprocess.run(
            ["apt-cache", "depends", "--important", KERNEL_PACKAGE], capture_output=True, text=True
        )
        names = [line.split()[-1] for line in done.stdout.splitlines() if "Depends:" in line]
        return next((name for name in names if name.startswith("linux-image-")), None)

    package = ask_apt(find)
    assert package, f"apt on this host knows no {KERNEL_PACKAGE}"
    run("env", "-C", str(directory), "apt-get", "download", "-qq", package)
    (archive,) = directory.glob("*.deb")
    run("dpkg-deb", "-x", str(archive), str(directory / "unpacked"))
    return directory / "unpacked"


def make_ramdisk(directory: Path, unpacked: Path) -> Path:
    (modules,) = (unpacked / "lib/modules").iterdir()
    top = directory / "ramdisk"
    for name in ("bin", "dev", "modules", "root"):
        (top / name).mkdir(parents=True)
    shutil.copy2(BUSYBOX, top / "bin/busybox")
    order = []
    for path in order_modules(modules):
        data = path.read_bytes()
        name = path.name.removesuffix(".xz")
        (top / "modules" / name).write_bytes(
            lzma.decompress(data) if path.suffix == ".xz" else data
        )
        order.append(name)
    (top / "modules/order").write_text("\n".join(order))
    (top / "init").write_text(FIRST_INIT)
    (top / "init").chmod(0o755)
    ramdisk = directory / "cpio"
    with ramdisk.open("wb") as file:
        subprocess.run(
            ["sh", "-c", f"find . | {BUSYBOX} cpio -o -H newc"],
            cwd=top,
            check=True,
            stdout=file,
            stderr=subprocess.DEVNULL,
        )
    return ramdisk


def order_modules(modules: Path) -> list[Path]:
    """The files of DRIVERS and of what they need, needed ones first."""
    paths = {path.name.partition(".ko")[0]: path for path in (modules / "kernel").rglob("*.ko*")}
    # The kernel's package has no modules.dep; depmod makes it when the package is installed.
    ordered: dict[Path, None] = {}

    def add(name: str) -> None:
        path = paths[name]
        data = path.read_bytes()
        data = lzma.decompress(data) if path.suffix == ".xz" else data
        _, _, tail = data.partition(b"depends=")
        for needed in filter(None, tail.partition(b"\0")[0].decode().split(",")):
            add(needed if needed in paths else needed.replace("_", "-"))
        ordered.setdefault(path)

    for name in DRIVERS:
        add(name)
    return list(ordered)


def make_job_disk(directory: Path, machine: Machine) -> Path:
    """ext4: /init, /checkout with compiled modules, /packages, and the machine's own files."""
    job = directory / "job"
    (job / "packages").mkdir(parents=True)
    (job / "checkout").mkdir()
    (job / "init").write_text(machine.init)
    for path in machine.files:
        shutil.copy2(path, job / path.name)
    for name in ROOMS:
        copy(CHECKOUT / name, job / "checkout" / name)
    words = ("-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash")
    run(sys.executable, *words, str(job / "checkout"))
    for name in find_distributions(machine.needed):
        copy_distribution(name, job / "packages")
    disk = directory / "job.ext4"
    with disk.open("wb") as file:
        file.truncate(JOB_DISK_BYTES)
    run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", str(job), str(disk))
    shutil.rmtree(job)
    return disk


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(source, target)


def find_distributions(needed: tuple[str, ...]) -> list[str]:
    """These and what they require."""
    found = list(needed)
    for name in found:
        for text in importlib.metadata.requires(name) or ():
            requirement = Requirement(text)
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if applies and requirement.name not in found:
                found.append(requirement.name)
    return found


def copy_distribution(name: str, target: Path) -> None:
    """Its files, and what Python has compiled of them."""
    for entry in importlib.metadata.files(name) or ():
        if entry.parts[0] == ".." or entry.suffix == ".pyc":
            continue
        (target / entry).parent.mkdir(parents=True, exist_ok=True)
        source = Path(str(entry.locate()))
        shutil.copy2(source, target / entry)
        compiled = Path(importlib.util.cache_from_source(str(source)))
        if source.suffix == ".py" and compiled.exists():
            cache = (target / entry).parent / "__pycache__"
            cache.mkdir(exist_ok=True)
            shutil.copy2(compiled, cache / compiled.name)
