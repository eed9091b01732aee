"""Guard and worker: what the death of either does to the container and to its evidence."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import VICTIM_POLICY, Docklock, find_leaks
from tests.e2e.test_crash import is_running


def of(dock: Docklock, name: str, op: str) -> list[dict[str, object]]:
    return [receipt for receipt in dock.receipts(name) if receipt["op"] == op]


def kill_worker(dock: Docklock, name: str) -> None:
    old = dock.worker_pid(name)
    os.kill(old, signal.SIGKILL)
    dock.wait_for(lambda: not is_running(old))


def test_a_killed_worker_loses_no_call_and_no_receipt(
    dock: Docklock, victim: list[str], seed: int
) -> None:
    """Three kills while calls are made: each call ran and has its receipt, or was interrupted."""
    count, chance = 40_000, random.Random(seed)
    process = dock.start(
        "run", "--name", "wrk", *victim, "busybox", "/v/victim", "interrupted", str(count)
    )
    dock.wait_for(lambda: dock("ps", "-q").stdout)
    deaths = 0
    while process.poll() is None and deaths < 3:
        time.sleep(0.02 + chance.random() * 0.05)
        try:
            kill_worker(dock, "wrk")
            deaths += 1
        except (ProcessLookupError, ValueError, FileNotFoundError, AssertionError):
            break
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    interrupted = int(output.split()[1])
    assert deaths > 0
    assert interrupted <= deaths
    found = of(dock, "wrk", "syscall.getppid")
    done = [receipt for receipt in found if receipt["decision"] == "allowed"]
    aborted = [receipt for receipt in found if receipt["decision"] == "aborted"]
    assert len(aborted) == interrupted
    assert all(receipt["errno"] == errno.EINTR for receipt in aborted)
    told = sum("attempt" in str(receipt["labels"]) for receipt in aborted)
    assert len(done) == count - interrupted + told
    assert len(of(dock, "wrk", "runtime.worker")) == deaths
    assert of(dock, "wrk", "gap") == []
    assert "closed" in dock("verify", "wrk").stdout


def test_a_new_worker_serves_exec_too(dock: Docklock, victim: list[str]) -> None:
    dock("run", "-d", "--name", "new", *victim, "busybox", "sleep", "60")
    kill_worker(dock, "new")
    dock.wait_for(lambda: of(dock, "new", "runtime.worker"))
    assert dock("exec", "new", "/v/victim", "mkdir", "/x", "getppid", "5").returncode == 0
    assert len(of(dock, "new", "syscall.getppid")) == 5
    dock("rm", "-f", "new")


def test_output_and_holds_outlive_a_worker(dock: Docklock, victim: list[str]) -> None:
    words = "while echo tick; do /v/victim fsync 1 >/dev/null; sleep 0.02; done"
    process = dock.start("run", "--name", "out", *victim, "busybox", "sh", "-c", words)
    assert process.stdout is not None
    assert process.stdout.readline() == "tick\n"
    kill_worker(dock, "out")
    for _ in range(5):
        assert process.stdout.readline() == "tick\n"
    dock("rm", "-f", "out")
    process.communicate(timeout=20)


def test_a_worker_that_dies_again_and_again_ends_the_container(
    dock: Docklock, victim: list[str]
) -> None:
    process = dock.start("run", "--name", "oft", *victim, "busybox", "sleep", "60")
    dock.wait_for(lambda: dock("ps", "-q").stdout)
    for _ in range(6):
        kill_worker(dock, "oft")
        dock.wait_for(lambda: process.poll() is not None or has_worker(dock, "oft"))
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 125
    assert "worker died 6 times" in errors
    dock("verify", "oft")
    assert find_leaks(dock.root) == []


def test_a_policy_may_have_the_container_killed_with_its_worker(
    dock: Docklock, victim: list[str], tmp_path: Path
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(VICTIM_POLICY + "on-worker-death: kill\n")
    options = [*victim[:2], "--policy", str(policy)]
    process = dock.start("run", "--name", "kwd", *options, "busybox", "sleep", "60")
    dock.wait_for(lambda: has_worker(dock, "kwd"))
    kill_worker(dock, "kwd")
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 125
    assert "its policy has it killed" in errors
    assert len(of(dock, "kwd", "runtime.worker")) == 1
    dock("verify", "kwd")


def has_worker(dock: Docklock, name: str) -> bool:
    try:
        return dock.worker_pid(name) > 0
    except (ValueError, FileNotFoundError, AssertionError, KeyError):
        return False


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("setuid", [False, True])
def test_the_guards_death_kills_a_container_that_hides_from_its_parent(
    dock: Docklock, victim: list[str], tmp_path: Path, both: bool, setuid: bool, full: bool
) -> None:
    """PDEATHSIG is cleared by prctl or a setuid exec; no gated call may run without its receipt.

    With the worker killed as well nobody answers: gated calls fail until the next command.
    """
    os.chmod(tmp_path, 0o777)
    directory = Path(victim[1].split(":")[0])
    hidden = tmp_path / "victim"
    hidden.write_bytes((directory / "victim").read_bytes())
    hidden.chmod(0o4755 if setuid else 0o755)
    options = ["-u", "1000", "--security-opt", "no-new-privileges=false"] if setuid else []
    for trial in range(50 if full else 3):
        name = f"hid{trial}"
        counter = tmp_path / f"count{trial}"
        dock(
            "run", "-d", "--name", name, *victim, "-v", f"{tmp_path}:/w", *options,
            "busybox", "/w/victim", "hide", f"/w/count{trial}",
        )  # fmt: skip
        dock.wait_for(lambda: counter.exists() and counter.read_bytes()[:8] > bytes(8))  # noqa: B023
        init = int(dock.inspect(name)["State"]["Pid"])  # type: ignore[index]
        worker, guard = dock.worker_pid(name), dock.supervisor_pid(name)
        os.kill(guard, signal.SIGKILL)
        if both:
            os.kill(worker, signal.SIGKILL)
            dock.wait_for(lambda: not is_running(guard) and not is_running(worker))  # noqa: B023
        else:
            began = time.monotonic()
            dock.wait_for(lambda: not is_running(init))  # noqa: B023
            assert time.monotonic() - began < 5
        assert "lost its supervisor" in dock("ps", "-a").stderr
        assert not is_running(init)
        ran = int.from_bytes(counter.read_bytes()[:8], "little")
        recorded = of(dock, name, "syscall.getppid")
        allowed = sum(receipt["decision"] == "allowed" for receipt in recorded)
        assert 0 < ran <= allowed
        assert len(of(dock, name, "gap")) == 1
        dock("verify", name)
        dock("rm", name)
    assert find_leaks(dock.root) == []


def test_no_worker_holds_a_descriptor_of_the_guards(dock: Docklock, victim: list[str]) -> None:
    """Else a closed input or a dropped client would stay open while the worker lives."""
    process = subprocess.Popen(
        dock.argv("run", "-i", "--name", "fds", *victim, "busybox", "cat"),
        env=dock.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    output, _ = process.communicate("hello\n", timeout=20)
    assert output == "hello\n"
    dock("run", "-d", "--name", "fd2", *victim, "busybox", "sleep", "60")
    worker = dock.worker_pid("fd2")
    names = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{worker}/fd")]
    kinds = sorted(name.split("/")[-1].split(":")[0] for name in names if name != "/dev/null")
    assert sum(kind == "pipe" for kind in kinds) == 0
    assert sum(kind == "socket" for kind in kinds) == 1
    dock("rm", "-f", "fd2")
