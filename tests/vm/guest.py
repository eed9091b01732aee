"""The job of the virtual machine: docklock on a host whose only cgroup hierarchy is v2.

Prints one line for each check, `ok NAME (SECONDS s)` or `not ok NAME: WHY`, then `done`; tracebacks
go to standard error. A check is a function `check_NAME(dock)`, or a file of tests that pytest runs.
Not here: starting the machine (machine.py).
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from subprocess import SubprocessError

from docklock.cgroup import driver
from docklock.cgroup.hierarchy import detect_hierarchies
from tests.e2e.conftest import CHECKOUT, Docklock, find_leaks, make_busybox_tree

TREE = Path("/sys/fs/cgroup")
SUITES = (
    "tests/kernel/test_cgroup.py",
    "tests/e2e/test_gate.py",
    "tests/e2e/test_crash.py",
    "tests/e2e/test_watch.py",
    "tests/e2e/test_pause.py::test_what_ends_a_paused_container_thaws_it",
    "tests/e2e/test_pause.py::test_a_killed_guard_ends_a_paused_container",
    "tests/e2e/test_pause.py::test_gated_and_held_calls_outlive_pauses",
    "tests/e2e/test_update.py::test_a_running_containers_limits_change_and_stay",
    "tests/e2e/test_update.py::test_what_the_kernel_refuses_changes_nothing",
    "tests/e2e/test_update.py::test_a_cpuset_for_a_container_that_has_none",
    "tests/e2e/test_update.py::test_block_io_is_limited_by_device_and_by_weight",
)
KILLED = 137
# Anything else ends the job before its `done`, and its traceback is on the console.
FAILURES = (AssertionError, LookupError, OSError, StopIteration, SubprocessError, ValueError)
# The first process has forked for the last time when the bomb goes off: it would end if refused.
FORK_BOMB = "bomb() { bomb | bomb & }; (sleep 2; bomb) & sleep 600"
COUNTER = "n=0; while true; do n=$((n+1)); echo $n > /count; done"


def check_the_host_has_v2_only(dock: Docklock) -> None:
    (tree,) = detect_hierarchies()
    assert tree.version == 2
    assert {"cpu", "memory", "pids"} <= set(tree.controllers), tree
    assert "v2: unified" in dock("info").stdout


def check_this_kernel_has_no_sync_wake_up(dock: Docklock) -> None:
    assert "SYNC_WAKE_UP" in dock("info").stdout, os.uname().release


def check_output_and_exit_code(dock: Docklock) -> None:
    result = dock("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    assert (result.stdout, result.stderr) == ("out\n", "err\n")


def check_a_container_sees_itself_as_the_root(dock: Docklock) -> None:
    text = dock("run", "--rm", "busybox", "sh", "-c", "cat /proc/self/cgroup; ls /sys/fs/cgroup")
    assert text.stdout.startswith("0::/\n")
    assert "cgroup.procs" in text.stdout


def check_limits_are_in_the_kernel(dock: Docklock) -> None:
    options = ("--memory", "64m", "--cpus", "0.5", "--pids-limit", "33")
    dock("run", "-d", "--name", "limits", *options, "busybox", "sleep", "600")
    directory = find_directory(dock, "limits")
    assert (directory / "memory.max").read_text() == f"{64 << 20}\n"
    assert (directory / "cpu.max").read_text() == "50000 100000\n"
    assert (directory / "pids.max").read_text() == "33\n"
    assert (directory / "cgroup.procs").read_text().split() == [str(get_init(dock, "limits"))]
    dock("rm", "-f", "limits")
    assert not directory.exists()


def check_the_memory_limit_kills(dock: Docklock) -> None:
    script = "x=a; while true; do x=$x$x; done"
    dock("run", "--name", "oom", "-m", "16m", "busybox", "sh", "-c", script, code=KILLED)
    assert dock.inspect("oom")["State"]["OOMKilled"] is True  # type: ignore[index]
    assert "oom" in dock("verify", "oom").stdout.lower()


def check_a_child_killed_for_memory_leaves_its_parent(dock: Docklock) -> None:
    script = "sh -c 'x=a; while true; do x=$x$x; done'; echo $?"
    result = dock("run", "--name", "child", "-m", "16m", "busybox", "sh", "-c", script)
    assert result.stdout == f"{KILLED}\n"


def check_the_process_limit_holds(dock: Docklock) -> None:
    script = "for i in $(seq 20); do sleep 1 & done; wait"
    result = dock("run", "--rm", "--pids-limit", "8", "busybox", "sh", "-c", script, code=None)
    assert "fork" in result.stderr


def check_the_cpu_limit_throttles(dock: Docklock) -> None:
    script = "while true; do :; done"
    dock("run", "-d", "--name", "spin", "--cpus", "0.2", "busybox", "sh", "-c", script)
    directory = find_directory(dock, "spin")
    dock.wait_for(lambda: read_key(directory / "cpu.stat", "nr_throttled") > 0)
    dock("rm", "-f", "spin")


def check_use_is_counted(dock: Docklock) -> None:
    dock("run", "-d", "--name", "use", "busybox", "sh", "-c", COUNTER)
    cgroup = find_cgroup(dock, "use")
    dock.wait_for(lambda: cgroup.stat().cpu_ns > 10**8)
    usage = cgroup.stat()
    assert usage.memory_peak_bytes >= usage.memory_bytes > 0, usage
    assert usage.pids == 1, usage
    dock("rm", "-f", "use")


def check_devices_off_the_list_are_refused(dock: Docklock) -> None:
    """mknod is allowed, as in Docker; opening what it made is not."""
    script = "mknod /d b 254 0 && cat /d; mknod /k c 1 11 && head -c1 /k; mknod /n c 1 3 && cat /n"
    result = dock("run", "--rm", "busybox", "sh", "-c", script)
    assert result.stderr.count("Operation not permitted") == 2, result.stderr


def check_a_privileged_container_may_use_any_device(dock: Docklock) -> None:
    script = "mknod /d b 254 0 && head -c4096 /d | wc -c"
    assert dock("run", "--rm", "--privileged", "busybox", "sh", "-c", script).stdout == "4096\n"


def check_exec_is_under_the_containers_limits(dock: Docklock) -> None:
    dock("run", "-d", "--name", "exec", "-m", "16m", "busybox", "sleep", "600")
    directory = find_directory(dock, "exec")
    script = "until [ -e /seen ]; do sleep 0.1; done; mknod /d b 254 0 && cat /d"
    process = dock.start("exec", "exec", "sh", "-c", script)
    dock.wait_for(lambda: len((directory / "cgroup.procs").read_text().split()) >= 2)
    Path(f"/proc/{get_init(dock, 'exec')}/root/seen").touch()
    _, errors = process.communicate(timeout=60)
    assert "Operation not permitted" in errors
    script = "x=a; while true; do x=$x$x; done"
    dock("exec", "exec", "sh", "-c", script, code=KILLED)
    assert read_key(directory / "memory.events", "oom_kill") > 0
    dock("rm", "-f", "exec")


def check_freeze_stops_and_thaw_goes_on(dock: Docklock) -> None:
    dock("run", "-d", "--name", "ice", "busybox", "sh", "-c", COUNTER)
    cgroup = find_cgroup(dock, "ice")
    count = Path(f"/proc/{get_init(dock, 'ice')}/root/count")
    dock.wait_for(count.exists)
    cgroup.freeze()
    cgroup.freeze()
    before = cgroup.stat().cpu_ns
    time.sleep(0.5)
    assert cgroup.stat().cpu_ns - before < 10**7
    cgroup.thaw()
    dock.wait_for(lambda: cgroup.stat().cpu_ns - before > 10**8)
    cgroup.freeze()
    dock("rm", "-f", "ice")
    assert not cgroup.exists()


def check_a_fork_bomb_is_killed(dock: Docklock) -> None:
    options = ("--pids-limit", "64", "--cpus", "0.5")
    dock("run", "-d", "--name", "bomb", *options, "busybox", "sh", "-c", FORK_BOMB)
    cgroup = find_cgroup(dock, "bomb")
    dock.wait_for(lambda: cgroup.stat().pids >= 60, limit_s=30)
    dock("rm", "-f", "bomb")
    assert not cgroup.exists()
    assert find_leaks(dock.root) == []


def check_a_fork_bomb_dies_with_its_supervisor(dock: Docklock) -> None:
    options = ("--pids-limit", "64", "--cpus", "0.5")
    dock("run", "-d", "--name", "orphans", *options, "busybox", "sh", "-c", FORK_BOMB)
    cgroup = find_cgroup(dock, "orphans")
    dock.wait_for(lambda: cgroup.stat().pids >= 30, limit_s=30)
    os.kill(dock.supervisor_pid("orphans"), signal.SIGKILL)
    assert "lost its supervisor" in dock("ps", "-a").stderr
    assert not cgroup.exists()
    assert "cut" in dock("verify", "orphans").stdout


def check_cgroups_that_a_container_made_go_with_it(dock: Docklock) -> None:
    script = "mkdir -p /sys/fs/cgroup/a/b; sleep 600 & echo $! > /sys/fs/cgroup/a/b/cgroup.procs"
    words = ("--privileged", "busybox", "sh", "-c", f"{script}; echo up; sleep 600")
    dock("run", "-d", "--name", "nest", *words)
    cgroup = find_cgroup(dock, "nest")
    dock.wait_for(lambda: dock("logs", "nest").stdout == "up\n")
    (inner,) = Path(cgroup.unified, "a/b/cgroup.procs").read_text().split()
    assert cgroup.list_pids() == (get_init(dock, "nest"), int(inner))
    dock("rm", "-f", "nest")
    assert not cgroup.exists()


def check_a_caller_in_a_cgroup_of_its_own_can_run(dock: Docklock) -> None:
    """As under systemd: our own cgroup has processes, so it may give its children nothing."""
    scope = TREE / "user.slice/session.scope"
    scope.mkdir(parents=True)
    try:
        line = f'echo $$ > {scope}/cgroup.procs && exec "$@"'
        words = dock.argv("run", "--rm", "-m", "32m", "busybox", "cat", "/proc/self/cgroup")
        done = subprocess.run(
            ["sh", "-c", line, "sh", *words], env=dock.environment, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout) == (0, "0::/\n"), done.stderr
        dock.wait_for(lambda: (scope / "cgroup.procs").read_text() == "")
    finally:
        scope.rmdir()
        scope.parent.rmdir()


def check_the_gate_records_without_sync_wake_up(dock: Docklock) -> None:
    dock(
        "run", "--name", "gate", "busybox", "sh", "-c", "for i in $(seq 50); do chroot / true; done"
    )
    ops = [receipt["op"] for receipt in dock.receipts("gate")]
    assert ops.count("syscall.chroot") == 50


def check_the_clock_may_be_set_back_and_forward(dock: Docklock) -> None:
    """A day each way while calls are recorded: no step ends, stops or reorders anything."""
    script = "while true; do chroot / true; sleep 0.05; done"
    dock("run", "-d", "--name", "clock", "busybox", "sh", "-c", script)
    day_s = 86_400.0
    steps = (-day_s, 2 * day_s, -day_s)

    def count_calls() -> int:
        found = dock("receipts", "--op", "syscall.chroot", "--json", "clock").stdout
        return len(found.splitlines())

    for step_s in steps:
        before = count_calls()
        time.clock_settime(time.CLOCK_REALTIME, time.time() + step_s)
        dock.wait_for(lambda before=before: count_calls() > before + 5, limit_s=60)
        dock("run", "--rm", "busybox", "true")
    dock("rm", "-f", "clock")
    dock("verify", "--all")
    times = [int(str(receipt["time"])) for receipt in dock.receipts("clock")]
    assert max(times) - min(times) > day_s * 1e9 and times != sorted(times)


def check_all_evidence_verifies_and_nothing_is_left(dock: Docklock) -> None:
    remove_all(dock)
    dock("verify", "--all")
    assert find_leaks(dock.root) == []
    assert [path for path in (TREE / "docklock").iterdir() if path.is_dir()] == []


def run_pytest(*words: str) -> subprocess.CompletedProcess[str]:
    """What pytest said is on standard error, too.

    Only pytest itself is loaded: it would rewrite each module of packages that have a plugin, which
    takes an emulated processor as long as a file of tests.
    """
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words],
        cwd=CHECKOUT, text=True, capture_output=True, errors="replace",
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    print(done.stdout, done.stderr, file=sys.stderr)
    return done


def run_suite(suite: str, *options: str) -> str:
    """What pytest said of a file or a test, which must pass."""
    done = run_pytest(*options, suite)
    assert done.returncode == 0, " | ".join(done.stdout.splitlines()[-8:])
    return done.stdout


@functools.cache
def run_all_suites() -> tuple[str, ...]:
    """SUITES by one pytest, which takes long to begin; the lines it said."""
    return tuple(run_pytest("-rpfE", "--durations=12", *SUITES).stdout.splitlines())


def make_suite_check(suite: str) -> Callable[[Docklock], None]:
    """Some of its tests passed, and none failed; in CI one that skips has failed."""

    def check(_dock: Docklock) -> None:
        lines = run_all_suites()
        bad = [line for line in lines if line.startswith((f"FAILED {suite}", f"ERROR {suite}"))]
        assert not bad, " | ".join(bad)
        assert any(line.startswith(f"PASSED {suite}") for line in lines), " | ".join(lines[-8:])

    return check


def get_checks() -> dict[str, Callable[[Docklock], None]]:
    """Every check by its name, in the order they run."""
    found = {
        name.removeprefix("check_"): value
        for name, value in globals().items()
        if name.startswith("check_")
    }
    return found | {suite: make_suite_check(suite) for suite in SUITES}


def find_directory(dock: Docklock, name: str) -> Path:
    return TREE / "docklock" / str(dock.inspect(name)["Id"])


def find_cgroup(dock: Docklock, name: str) -> driver.Cgroup:
    found = driver.find_cgroup(str(dock.inspect(name)["Id"]))
    assert found and found.dirs == (("unified", str(find_directory(dock, name))),), found
    return found


def get_init(dock: Docklock, name: str) -> int:
    return int(dock.inspect(name)["State"]["Pid"])  # type: ignore[index]


def read_key(path: Path, key: str) -> int:
    rows = (line.split() for line in path.read_text().splitlines())
    return next(int(row[1]) for row in rows if row[0] == key)


def remove_all(dock: Docklock) -> None:
    """So that one check that failed fails no other."""
    names = dock("ps", "-aq", code=None).stdout.split()
    if names:
        dock("rm", "-f", *names, code=None)


def run_checks(checks: dict[str, Callable[[Docklock], None]], dock: Docklock) -> None:
    """Run them in order, and say of each how it went."""
    for name, check in checks.items():
        began = time.monotonic()
        try:
            check(dock)
        except FAILURES as error:
            traceback.print_exc()
            where = traceback.extract_tb(error.__traceback__)[-1].line
            why = " ".join(f"{where}: {error}".split())
            print(f"not ok {name}: {why[:2000]}", flush=True)
            remove_all(dock)
        else:
            print(f"ok {name} ({time.monotonic() - began:.1f} s)", flush=True)


def main() -> None:
    root = Path("/var/lib/docklock-tests")
    make_busybox_tree(root / "rootfs")
    dock = Docklock(root / "state")
    dock("import", str(root / "rootfs"), "busybox")
    run_checks(get_checks(), dock)
    print("done", flush=True)


if __name__ == "__main__":
    main()
