"""A disk that is full or stands still: what must wait waits, the rest goes on, nothing is lost."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Docklock, find_leaks
from tests.e2e.test_pause import is_connected

DISK_MIB = 48
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878  # linux/fs.h
LINES = 300


class SmallDisk:
    """A docklock whose state is on a small ext4 and whose journals are in memory."""

    def __init__(self, base: Path) -> None:
        self.disk, self.memory, self.out = base / "disk", base / "memory", base / "out"
        for directory in (self.disk, self.memory, self.out):
            directory.mkdir()
        image = base / "disk.img"
        with image.open("wb") as file:
            file.truncate(DISK_MIB << 20)
        run("mkfs.ext4", "-q", "-F", "-m", "0", str(image))
        run("mount", "-o", "loop", str(image), str(self.disk))
        run("mount", "-t", "tmpfs", "-o", "size=64m", "none", str(self.memory))
        self.dock = Docklock(self.disk / "root", self.memory / "run")

    def fill(self) -> None:
        """Until not one more block is free."""
        fd = os.open(self.disk / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for size in (1 << 20, 4096, 4096, 1):
            os.sync()  # what is written, but has no block yet, takes one
            try:
                while True:
                    os.write(fd, bytes(size))
            except OSError:
                continue
        os.close(fd)

    def free(self) -> None:
        (self.disk / "filler").unlink()

    def freeze(self, *, frozen: bool) -> None:
        fd = os.open(self.disk, os.O_RDONLY)
        fcntl.ioctl(fd, FIFREEZE if frozen else FITHAW, 0)
        os.close(fd)

    def get_count(self, name: str) -> int:
        """Calls of the victim that have returned."""
        try:
            data = (self.out / name).read_bytes()
        except FileNotFoundError:
            return 0
        return int(struct.unpack_from("@q", data.ljust(8, b"\0"))[0])

    def wait_for_more(self, name: str, limit_s: float = 20.0) -> None:
        count = self.get_count(name)
        self.dock.wait_for(lambda: self.get_count(name) > count + 3, limit_s)

    def wait_for_none(self, name: str) -> int:
        """Until no call has returned for a second; how many had."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            count = self.get_count(name)
            time.sleep(1)
            if self.get_count(name) == count:
                return count
        raise AssertionError("the calls go on")


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)


@pytest.fixture
def small(tmp_path: Path, busybox_tree: Path, need_root: None) -> Iterator[SmallDisk]:
    small = SmallDisk(tmp_path)
    try:
        small.dock("import", str(busybox_tree), "busybox")
        yield small
        names = small.dock("ps", "-aq").stdout.split()
        if names:
            small.dock("rm", "-f", *names)
        mounts = [f"mount {small.disk}", f"mount {small.memory}"]
        leaks = [leak for leak in find_leaks(small.dock.root) if not leak.startswith(tuple(mounts))]
        assert leaks == []
    finally:
        run("umount", "-l", str(small.disk))
        run("umount", "-l", str(small.memory))


def start_victim(small: SmallDisk, victim: list[str], what: str) -> None:
    options = [*victim, "-v", f"{small.out}:/out", "--name", what]
    small.dock("run", "-d", *options, "busybox", "/v/victim", what, f"/out/{what}")
    small.wait_for_more(what)


def test_a_held_call_waits_while_the_disk_is_full_and_goes_on(
    small: SmallDisk, victim: list[str]
) -> None:
    dock = small.dock
    start_victim(small, victim, "holds")
    attached = dock.start("attach", "holds")
    dock.wait_for(lambda: is_connected(attached.pid))
    time.sleep(0.3)  # and its guard has taken it on
    small.fill()
    held = small.wait_for_none("holds")
    assert "Up" in dock("ps").stdout
    small.free()
    small.wait_for_more("holds")
    dock("kill", "holds")
    assert "evidence waits for room on the disk" in attached.communicate(timeout=20)[1]
    dock("wait", "holds")
    assert "whole" in dock("verify", "holds").stdout
    receipts = dock.receipts("holds")
    stalls = [receipt for receipt in receipts if receipt["op"] == "runtime.stall"]
    assert stalls
    labels = [dict(receipt["labels"]) for receipt in stalls]  # type: ignore[call-overload]
    assert max(int(each["t2"]) - int(each["t1"]) for each in labels) > 500_000_000
    calls = [receipt for receipt in receipts if receipt["op"] == "syscall.fsync"]
    calls = [receipt for receipt in calls if receipt["decision"] == "allowed"]
    assert held < small.get_count("holds") <= len(calls) <= small.get_count("holds") + 1


def test_a_container_that_ends_on_a_full_disk_loses_nothing(
    small: SmallDisk, victim: list[str]
) -> None:
    dock = small.dock
    source = f"touch /out/up; while [ ! -e /out/go ]; do sleep 0.02; done; seq {LINES}; exit 3"
    options = [*victim, "-v", f"{small.out}:/out", "--name", "ends"]
    process = dock.start("run", *options, "busybox", "sh", "-c", source)
    dock.wait_for((small.out / "up").exists)
    small.fill()
    (small.out / "go").touch()
    with pytest.raises(subprocess.TimeoutExpired):
        process.communicate(timeout=2)
    small.free()
    output, errors = process.communicate(timeout=20)
    assert output.split() == [str(number) for number in range(1, LINES + 1)]
    assert process.returncode == 3, errors
    assert dock("logs", "ends").stdout == output
    assert "whole" in dock("verify", "ends").stdout
    assert dock("verify", "--all").returncode == 0


def test_what_is_killed_on_a_full_disk_is_mended_once_there_is_room(
    small: SmallDisk, victim: list[str]
) -> None:
    dock = small.dock
    start_victim(small, victim, "holds")
    guard, worker = dock.supervisor_pid("holds"), dock.worker_pid("holds")
    small.fill()
    held = small.wait_for_none("holds")
    for pid in (guard, worker):
        os.kill(pid, signal.SIGKILL)
    result = dock("ps", "-a")
    assert "cannot be mended now" in result.stderr
    assert "holds" in result.stdout
    assert "cannot be mended now" in dock("mend", code=1).stderr
    small.free()
    assert "lost its supervisor" in dock("ps", "-a").stderr
    assert "cut" in dock("verify", "holds").stdout
    ops = [receipt["op"] for receipt in dock.receipts("holds")]
    assert ops.count("gap") == 1
    assert ops.count("syscall.fsync") >= held


def test_a_recorded_call_does_not_wait_for_a_disk_that_stands_still(
    small: SmallDisk, victim: list[str]
) -> None:
    dock = small.dock
    start_victim(small, victim, "records")
    small.freeze(frozen=True)
    try:
        time.sleep(0.2)  # the commit that was under way
        before = small.get_count("records")
        time.sleep(0.5)
        during = small.get_count("records") - before
    finally:
        small.freeze(frozen=False)
    dock("kill", "records")
    dock("wait", "records")
    assert during > 100
    assert "whole" in dock("verify", "records").stdout
    lines = dock("receipts", "--op", "syscall.getppid", "--json", "records").stdout.splitlines()
    decisions = [json.loads(line)["decision"] for line in lines]
    # The last one may have been answered, and its caller killed before it counted.
    count = small.get_count("records")
    assert count <= decisions.count("allowed") <= count + 1
