"""The gate, with real victims: each action does to a real program what the policy says."""

from __future__ import annotations

import errno
import os
import platform
import shlex
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

from tests.e2e.conftest import Docklock


def run(dock: Docklock, victim: list[str], name: str, *words: str, code: int = 0) -> dict[str, int]:
    """What each call answered."""
    result = dock("run", "--name", name, *victim, "busybox", "/v/victim", *words, code=code)
    return {line.split()[0]: int(line.split()[1]) for line in result.stdout.splitlines()}


def of(dock: Docklock, name: str, op: str) -> list[dict[str, object]]:
    return [receipt for receipt in dock.receipts(name) if receipt["op"] == op]


def test_record_leaves_one_receipt_a_call_and_lets_it_run(
    dock: Docklock, victim: list[str]
) -> None:
    assert run(dock, victim, "rec", "getppid", "300") == {"getppid": 0}
    found = of(dock, "rec", "syscall.getppid")
    assert len(found) == 300
    assert {receipt["decision"] for receipt in found} == {"allowed"}
    assert {receipt["plane"] for receipt in found} == {"gate"}
    indices = [int(str(receipt["index"])) for receipt in dock.receipts("rec")]
    assert indices == list(range(len(indices)))
    dock("verify", "rec")


def test_threads_are_told_apart_and_share_a_process(dock: Docklock, victim: list[str]) -> None:
    run(dock, victim, "thr", "threads", "50")
    found = of(dock, "thr", "syscall.getppid")
    assert len(found) == 200
    assert len({receipt["tid"] for receipt in found}) == 4
    assert len({receipt["pid"] for receipt in found}) == 1
    assert not {receipt["pid"] for receipt in found} & {receipt["tid"] for receipt in found}


def test_deny_answers_the_errno_and_leaves_a_receipt(dock: Docklock, victim: list[str]) -> None:
    assert run(dock, victim, "den", "mkdir", "/made") == {"mkdir": -errno.EACCES}
    (receipt,) = of(dock, "den", "syscall.mkdirat")
    assert receipt["decision"] == "denied"
    assert int(str(receipt["errno"])) == errno.EACCES
    assert "/made" in str(receipt)


def test_kill_ends_the_process_after_a_receipt(dock: Docklock, victim: list[str]) -> None:
    answers = run(dock, victim, "kil", "getppid", "1", "unlink", "/x", "getppid", "1", code=137)
    assert answers == {"getppid": 0}
    (receipt,) = of(dock, "kil", "syscall.unlinkat")
    assert receipt["decision"] == "killed"
    dock("verify", "kil")


def test_closed_answers_without_a_receipt(dock: Docklock, victim: list[str]) -> None:
    assert run(dock, victim, "clo", "symlink", "/x") == {"symlink": -errno.EDOM}
    assert of(dock, "clo", "syscall.symlinkat") == []


def test_hold_waits_for_a_durable_receipt(dock: Docklock, victim: list[str]) -> None:
    """When the call has returned, the receipt is in the database, signed: kill -9 at once."""
    process = dock.start(
        "run", "--name", "hol", *victim, "busybox", "sh", "-c", "/v/victim fsync 1; exec sleep 60"
    )
    assert process.stdout is not None
    # fsync of a pipe is EINVAL; what counts is that it was asked of the kernel.
    assert process.stdout.readline() == f"fsync {-errno.EINVAL}\n"
    supervisor = dock.supervisor_pid("hol")
    os.kill(supervisor, signal.SIGKILL)
    process.communicate(timeout=20)
    found = of(dock, "hol", "syscall.fsync")
    assert [receipt["decision"] for receipt in found] == ["allowed"]
    dock("verify", "hol")


def test_record_writes_the_receipt_before_the_call_proceeds(
    dock: Docklock, victim: list[str]
) -> None:
    """Kill the supervisor at once after the answer: every answered call has its receipt."""
    process = dock.start(
        "run",
        "--name",
        "bef",
        *victim,
        "busybox",
        "sh",
        "-c",
        "/v/victim getppid 777; exec sleep 60",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "getppid 0\n"
    os.kill(dock.supervisor_pid("bef"), signal.SIGKILL)
    process.communicate(timeout=20)
    by_process = Counter(receipt["pid"] for receipt in of(dock, "bef", "syscall.getppid"))
    assert max(by_process.values()) == 777  # the shell asks once, too
    assert len(of(dock, "bef", "gap")) == 1
    dock("verify", "bef")


def test_paths_argv_and_addresses_are_on_record(dock: Docklock, victim: list[str]) -> None:
    run(dock, victim, "val", "connect", "1")
    (connect,) = of(dock, "val", "syscall.connect")
    assert connect["seen"] == "claimed"
    assert "connect" in str(of(dock, "val", "syscall.execve")[0])
    table = dock("receipts", "val").stdout
    assert "/v/victim connect 1" in table
    assert "127.0.0.1:9" in table


def test_the_default_profile_closes_what_bypasses_a_filter(
    dock: Docklock, victim: list[str]
) -> None:
    calls = ["io_uring", "clone3", "unknown", "listener"]
    options = [*victim[:2], "--rm"]
    words = [word for call in calls for word in (call, "0")]
    text = dock("run", *options, "busybox", "/v/victim", *words).stdout
    answers = dict(line.split() for line in text.splitlines())
    assert int(answers["io_uring"]) in (-errno.ENOSYS, -errno.EPERM)
    assert int(answers["clone3"]) == -errno.ENOSYS
    assert int(answers["unknown"]) == -errno.ENOSYS
    assert int(answers["listener"]) == -errno.EPERM
    if platform.machine() == "x86_64":
        text = dock("run", *options, "busybox", "/v/victim", "x32", "0", "int80", "0").stdout
        for line in text.splitlines():
            assert int(line.split()[1]) == -errno.ENOSYS, line


def test_chroot_does_not_lead_out_of_the_root(dock: Docklock, victim: list[str]) -> None:
    assert run(dock, victim, "esc", "escape", "0") == {"escape": 0}


def test_docklock_in_a_chroot_keeps_its_containers_in_theirs(
    dock: Docklock, victim: list[str], tmp_path: Path
) -> None:
    """The host's root stays above a chroot's: neither exec nor chroot may reach it."""
    inside = tmp_path / "inside"
    inside.mkdir()
    words = {
        "run": ["run", "-d", "--name", "chr", *victim, "busybox", "sleep", "60"],
        "escape": ["exec", "chr", "/v/victim", "escape", "0"],
        "list": ["exec", "chr", "ls", "/"],
        "rm": ["rm", "-f", "chr"],
    }
    commands = " && ".join(shlex.join(dock.argv(*command)) for command in words.values())
    script = f'mount --rbind / "$1" && exec chroot "$1" sh -c {shlex.quote(commands)}'
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "unchanged", "sh", "-c", script, "sh", str(inside)],
        env=dock.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split()
    assert lines[1:3] == ["escape", "0"]
    assert set(lines[3:-1]) <= {"bin", "dev", "etc", "proc", "sys", "tmp", "v", "escape"}


def test_a_denied_mount_leaves_a_receipt(dock: Docklock) -> None:
    dock("run", "--name", "mnt", "busybox", "mount", "-t", "tmpfs", "x", "/tmp", code=1)
    (receipt, *_) = of(dock, "mnt", "syscall.mount")
    assert receipt["decision"] == "denied"
    assert "/tmp" in str(receipt)


def test_exec_is_gated_like_the_container(dock: Docklock, victim: list[str]) -> None:
    dock("run", "-d", "--name", "exe", *victim, "busybox", "sleep", "60")
    assert dock("exec", "exe", "/v/victim", "mkdir", "/x", "getppid", "5").returncode == 0
    assert len(of(dock, "exe", "syscall.getppid")) == 5
    assert len(of(dock, "exe", "syscall.mkdirat")) == 1
    dock("exec", "exe", "/v/victim", "unlink", "/x", code=137)
    dock("rm", "-f", "exe")


def test_sign_each_verifies_and_says_so(dock: Docklock, victim: list[str]) -> None:
    dock(
        "run", "--name", "each", "--sign", "each", *victim, "busybox", "/v/victim", "getppid", "20"
    )
    assert len(of(dock, "each", "syscall.getppid")) == 20
    dock("verify", "each")


def test_receipts_can_be_followed(dock: Docklock, victim: list[str]) -> None:
    dock(
        "run",
        "-d",
        "--name",
        "fol",
        *victim,
        "busybox",
        "sh",
        "-c",
        "sleep 1; /v/victim getppid 3; sleep 60",
    )
    follower = dock.start("receipts", "--follow", "--op", "syscall.getppid", "fol")
    assert follower.stdout is not None
    began = time.monotonic()
    seen = 0
    while seen < 3 and time.monotonic() - began < 20:
        seen += "getppid" in follower.stdout.readline()
    assert seen == 3
    follower.kill()
    follower.communicate()
    dock("rm", "-f", "fol")
