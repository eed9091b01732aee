"""The spawner: guards are forked from one process, and none of them depends on it."""

from __future__ import annotations

import os
import random
import resource
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from docklock.supervisor.launch import get_spawner_path
from tests.e2e.conftest import Docklock, find_leaks

GARBAGE = (b"", b"x", b"\3{", b"\3[1]", b"\3{}", b'\3{"environment":5}', b"\3" + b"[" * 60_000)


def get_parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def get_title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()


def get_descriptors(pid: int) -> list[str]:
    found = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(os.readlink(fd))
        except FileNotFoundError:
            continue  # closed meanwhile
    return found


@pytest.fixture
def spawner(dock: Docklock, no_leaks: None) -> Iterator[int]:
    """The spawner that the container `first` has brought up."""
    dock("run", "-d", "--name", "first", "busybox", "sleep", "1000")
    pid = get_parent(dock.supervisor_pid("first"))
    assert get_title(pid) == "docklock spawner"
    yield pid
    dock("rm", "-f", *dock("ps", "-aq").stdout.split())
    dock.wait_for(lambda: not Path(f"/proc/{pid}").exists())
    assert not list((dock.root / "run").glob("spawner-*"))


def test_guards_come_from_one_process_that_holds_nothing_of_theirs(
    dock: Docklock, spawner: int
) -> None:
    dock("run", "-d", "--name", "second", "busybox", "sleep", "1000")
    guard = dock.supervisor_pid("second")
    assert get_parent(guard) == spawner
    found = str(dock.inspect("second")["Id"])
    assert get_title(guard) == f"docklock guard {found[:12]}"
    assert get_title(dock.worker_pid("second")) == f"docklock worker {found[:12]}"
    held = [name for name in get_descriptors(spawner) if not name.startswith("/dev/null")]
    kinds = sorted(name.partition(":")[0] for name in held)
    assert kinds == ["anon_inode"] * 3 + ["socket"], held  # two pidfds, its epoll
    assert len(os.listdir(f"/proc/{spawner}/task")) == 1
    assert "Locked:                0 kB" in Path(f"/proc/{spawner}/smaps_rollup").read_text()


def test_a_foreground_run_takes_a_warm_guard_and_is_on_record(dock: Docklock, spawner: int) -> None:
    result = dock("run", "--name", "third", "busybox", "sh", "-c", "cat; exit 3", code=3)
    assert result.returncode == 3
    assert dock("verify", "third").stdout.startswith("whole")


def test_it_is_killed_and_nothing_else_ends(dock: Docklock, spawner: int) -> None:
    os.kill(spawner, signal.SIGKILL)
    dock("exec", "first", "true")
    dock("run", "-d", "--name", "second", "busybox", "sleep", "1000")
    another = get_parent(dock.supervisor_pid("second"))
    assert get_title(another) == "docklock spawner"
    dock("run", "-d", "--name", "third", "busybox", "sleep", "1000")
    assert get_parent(dock.supervisor_pid("third")) == another
    dock("rm", "-f", "second", "third")
    dock.wait_for(lambda: not Path(f"/proc/{another}").exists())
    assert dock.inspect("first")["State"]["Running"]  # type: ignore[index]


def test_who_is_in_another_namespace_gets_a_guard_of_its_own(dock: Docklock, spawner: int) -> None:
    words = dock.argv("run", "-d", "--name", "apart", "busybox", "sleep", "1000")
    subprocess.run(
        ["unshare", "--net", *words], check=True, env=dock.environment, capture_output=True
    )
    guard = dock.supervisor_pid("apart")
    assert get_parent(guard) != spawner
    assert os.readlink(f"/proc/{guard}/ns/net") != os.readlink("/proc/self/ns/net")


def test_a_guard_has_its_callers_limits_priority_and_processors(
    dock: Docklock, spawner: int
) -> None:
    words = dock.argv("run", "-d", "--name", "low", "busybox", "sleep", "1000")
    ask = ["prlimit", "--nofile=300:400", "nice", "-n", "7", "taskset", "-c", "0", *words]
    subprocess.run(ask, check=True, env=dock.environment, capture_output=True)
    guard = dock.supervisor_pid("low")
    assert get_parent(guard) == spawner
    assert resource.prlimit(guard, resource.RLIMIT_NOFILE) == (300, 400)
    assert os.getpriority(os.PRIO_PROCESS, guard) == min(os.getpriority(os.PRIO_PROCESS, 0) + 7, 19)
    assert os.sched_getaffinity(guard) == {0}


def test_a_limit_that_a_guard_cannot_be_given_makes_the_caller_fork(
    dock: Docklock, tmp_path: Path, no_leaks: None
) -> None:
    words = dock.argv("run", "-d", "--name", "first", "busybox", "sleep", "1000")
    ask = ["setpriv", "--bounding-set", "-sys_resource", "prlimit", "--nofile=300:400", *words]
    subprocess.run(ask, check=True, env=dock.environment, capture_output=True)
    spawner = get_parent(dock.supervisor_pid("first"))
    dock("run", "-d", "--name", "second", "busybox", "sleep", "1000")
    assert get_parent(dock.supervisor_pid("second")) != spawner
    dock("rm", "-f", "first", "second")


def test_garbage_and_silence_keep_nobody_waiting(dock: Docklock, spawner: int) -> None:
    path = get_spawner_path(f"{dock.root}/run")
    for data in GARBAGE:  # first: later there is no room for more clients
        for count in (0, 1, 4, 5):
            send_garbage(path, data, count)
    dock.wait_for(lambda: len(get_descriptors(spawner)) == 6)
    silent = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(70)]
    for one in silent:
        one.connect(path)
    dock("run", "--rm", "busybox", "true")  # forks for itself, or is served
    for one in silent:
        one.close()
    dock.wait_for(lambda: len(get_descriptors(spawner)) == 6)
    dock("run", "-d", "--name", "second", "busybox", "sleep", "1000")
    assert get_parent(dock.supervisor_pid("second")) == spawner
    assert len(get_descriptors(spawner)) == 7


def send_garbage(path: str, data: bytes, count: int) -> None:
    """One packet with `count` descriptors; the spawner may have closed already."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one:
        one.connect(path)
        null = os.open("/dev/null", os.O_RDWR)
        rights = struct.pack(f"={count}i", *[null] * count)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] * bool(count)
        try:
            one.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            os.close(null)


def test_guards_go_on_when_the_front_end_is_killed_before_it_hands_over(
    dock: Docklock, spawner: int
) -> None:
    before = set(get_children(spawner))
    for delay_ms in (0, 5, 20, 40, 60):
        words = dock.argv("run", "-d", "busybox", "true")
        with subprocess.Popen(words, env=dock.environment, stdout=subprocess.DEVNULL) as front:
            try:
                front.wait(delay_ms / 1000)
            except subprocess.TimeoutExpired:
                front.kill()
    dock.wait_for(lambda: set(get_children(spawner)) == before)


def get_children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def find_ours(root: Path) -> list[int]:
    """The spawners, guards and workers of one root."""
    mark = f"DOCKLOCK_ROOT={root}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title, environment = (
                (process / "cmdline").read_bytes(),
                (process / "environ").read_bytes(),
            )
        except OSError:
            continue
        if title.startswith(b"docklock ") and mark in environment.split(b"\0"):
            found.append(int(process.name))
    return found


def test_kills_at_random_moments_leave_nothing(
    dock: Docklock, full: bool, seed: int, no_leaks: None
) -> None:
    """kill -9 of spawner, guards, workers and front ends while containers come and go."""
    chance = random.Random(seed)
    fronts: list[subprocess.Popen[str]] = []
    for _ in range(300 if full else 25):
        fronts.append(dock.start("run", "-d", "--rm", "busybox", "sleep", "0.2"))
        time.sleep(chance.random() * 0.12)
        victims = [*find_ours(dock.root), fronts[-1].pid]
        for pid in chance.sample(victims, min(len(victims), chance.randint(0, 2))):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if len(fronts) == 3:
            fronts.pop(0).communicate(timeout=20)
    for front in fronts:
        front.communicate(timeout=20)
    dock.wait_for(lambda: dock("ps", "-aq").stdout == "", limit_s=20)
    dock.wait_for(lambda: find_leaks(dock.root) == [], limit_s=10)
    assert dock("verify", "--all").returncode == 0
