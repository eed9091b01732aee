"""A docklock of one's own for each test module: a root in a temporary directory, busybox in it.

What a module leaves behind (a process, a mount, a cgroup) fails the module.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import SLOWER

CHECKOUT = Path(__file__).resolve().parents[2]
BUSYBOX = Path("/bin/busybox")
CGROUPS = "/sys/fs/cgroup"
COMMAND_LIMIT_S = 60 * SLOWER
WAIT_LIMIT_S = 30.0
"""For what comes at once on a machine that has nothing else to do."""
LINKS = (
    "sh",
    "ls",
    "cat",
    "echo",
    "true",
    "false",
    "sleep",
    "id",
    "mount",
    "touch",
    "ping",
    "nc",
    "env",
    "pwd",
    "hostname",
    "dd",
    "kill",
    "ps",
    "chroot",
    "unshare",
    "wc",
    "head",
    "mkdir",
    "rm",
    "ip",
    "df",
    "ulimit",
    "seq",
    "yes",
    "grep",
    "stat",
    "sed",
    "mknod",
    "nproc",
    "chown",
    "cp",
    "trap",
    "test",
    "adduser",
    "date",
    "sync",
    "find",
    "ln",
    "stty",
    "tty",
)

VICTIM_POLICY = """
name: victim
description: one call for each action
default: {action: allow}
rules:
  - {syscalls: [getppid], action: record}
  - {syscalls: [fsync], action: hold}
  - {syscalls: [mkdirat], action: deny, errno: EACCES}
  - {syscalls: [unlinkat], action: kill}
  - {syscalls: [symlinkat], action: closed, errno: EDOM}
  - {syscalls: [connect, execve], action: record}
"""

Result = subprocess.CompletedProcess[str]


class Docklock:
    """The command line, on one root."""

    def __init__(self, root: Path, run_root: Path | None = None) -> None:
        self.root = root
        self.environment = {
            "PATH": os.environ["PATH"],
            "DOCKLOCK_ROOT": str(root),
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LC_ALL": "C.UTF-8",
            "PYTHONFAULTHANDLER": "1",
        } | ({"DOCKLOCK_RUNROOT": str(run_root)} if run_root else {})

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "docklock.cli.main", *words]

    def __call__(self, *words: str, code: int | None = 0, stdin: str = "") -> Result:
        """Run `docklock WORDS`; fails unless it exits with `code` (None: any)."""
        result = subprocess.run(
            self.argv(*words),
            env=self.environment,
            input=stdin,
            text=True,
            capture_output=True,
            timeout=COMMAND_LIMIT_S,
            errors="replace",
        )
        if code is not None:
            assert result.returncode == code, (
                f"docklock {' '.join(words)} exited {result.returncode}, not {code}\n"
                f"{result.stdout}\n{result.stderr}"
            )
        return result

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.argv(*words),
            env=self.environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def start_program(self, text: str) -> subprocess.Popen[str]:
        """A Python program beside us, on the same root."""
        return subprocess.Popen(
            [sys.executable, "-c", text],
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def inspect(self, name: str) -> dict[str, object]:
        value = json.loads(self("inspect", name).stdout)[0]
        assert isinstance(value, dict)
        return value

    def receipts(self, name: str) -> list[dict[str, object]]:
        return [json.loads(line) for line in self("receipts", "--json", name).stdout.splitlines()]

    def supervisor_pid(self, name: str) -> int:
        """The parent of the container's init."""
        pid = self.inspect(name)["State"]["Pid"]  # type: ignore[index]
        status = Path(f"/proc/{pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("PPid:"))[5:])

    def worker_pid(self, name: str) -> int:
        """The guard's other child: the one that answers the gate."""
        init = int(self.inspect(name)["State"]["Pid"])  # type: ignore[index]
        guard = self.supervisor_pid(name)
        children = Path(f"/proc/{guard}/task/{guard}/children").read_text().split()
        (found,) = [int(child) for child in children if int(child) != init]
        return found

    def wait_for(self, condition: Callable[[], object], limit_s: float = WAIT_LIMIT_S) -> None:
        deadline = time.monotonic() + limit_s * SLOWER
        while not condition():
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(0.02)


def make_busybox_tree(directory: Path) -> None:
    (directory / "bin").mkdir(parents=True)
    (directory / "etc").mkdir()
    (directory / "tmp").mkdir(mode=0o1777)
    shutil.copy2(BUSYBOX, directory / "bin/busybox")
    for link in LINKS:
        (directory / "bin" / link).symlink_to("busybox")
    (directory / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nworker:x:1000:1001:worker:/home/worker:/bin/sh\n"
    )
    (directory / "etc/group").write_text("root:x:0:\nworkers:x:1001:\nextra:x:1002:worker\n")


def is_gone_soon(process: Path) -> bool:
    deadline = time.monotonic() + 2
    while process.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not process.exists()


def find_leaks(root: Path) -> list[str]:
    """Processes, mounts and cgroups that belong to `root`'s containers."""
    leaks = [
        f"mount {line}"
        for line in Path("/proc/mounts").read_text().splitlines()
        if str(root) in line
    ]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if command.startswith(b"docklock spawner") and is_gone_soon(process):
            continue  # it ends a moment after its last guard
        if f"DOCKLOCK_ROOT={root}".encode() in environment.split(b"\0"):
            leaks.append(f"process {process.name} {command!r}")
    containers = os.listdir(root / "live") if (root / "live").exists() else []
    leaks += [f"live {name}" for name in containers]
    for name in os.listdir(root / "evidence") if (root / "evidence").exists() else []:
        container_id = name.partition(".")[0]
        leaks += [
            f"cgroup {directory}/{container_id}"
            for directory, children, _ in os.walk(CGROUPS)
            if container_id in children
        ]
    return leaks


@pytest.fixture(scope="session")
def busybox_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("busybox") / "rootfs"
    make_busybox_tree(directory)
    return directory


@pytest.fixture(scope="module")
def dock(
    tmp_path_factory: pytest.TempPathFactory, busybox_tree: Path, need_root: None
) -> Iterator[Docklock]:
    """A docklock with the image `busybox`."""
    root = tmp_path_factory.mktemp("docklock")
    dock = Docklock(root)
    dock("import", str(busybox_tree), "busybox")
    yield dock
    names = dock("ps", "-aq").stdout.split()
    if names:
        dock("rm", "-f", *names)
    deadline = time.monotonic() + 5
    while (leaks := find_leaks(root)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert leaks == []


@pytest.fixture(scope="module")
def victim(dock: Docklock, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that put /v/victim and the policy into a container of busybox."""
    directory = tmp_path_factory.mktemp("victim")
    source = Path(__file__).with_name("victim.c")
    subprocess.run(
        ["gcc", "-O1", "-static", "-pthread", "-o", str(directory / "victim"), str(source)],
        check=True,
    )
    (directory / "policy.yaml").write_text(VICTIM_POLICY)
    return ["-v", f"{directory}:/v:ro", "--policy", str(directory / "policy.yaml")]
