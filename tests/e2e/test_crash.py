"""kill -9 at any moment: the next command mends, nothing is left, what was recorded verifies."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

from tests.conftest import SLOWER
from tests.e2e.conftest import CGROUPS, Docklock, find_leaks

EXIT_KILLED = 137


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # gone, or going while we read
        return False
    return state not in "ZX"


def test_a_killed_supervisor_is_repaired_by_the_next_command(dock: Docklock) -> None:
    dock("run", "-d", "--name", "sup", "busybox", "sh", "-c", "sleep 600 & sleep 600")
    init = dock.inspect("sup")["State"]["Pid"]  # type: ignore[index]
    os.kill(dock.supervisor_pid("sup"), signal.SIGKILL)
    dock.wait_for(lambda: not is_running(int(init)))
    result = dock("ps", "-a")
    assert "lost its supervisor" in result.stderr
    assert "Exited (137)" in result.stdout
    ops = [receipt["op"] for receipt in dock.receipts("sup")]
    assert ops.count("gap") == 1
    text = dock("verify", "sup").stdout
    assert "cut" in text
    assert "lost its supervisor" not in dock("ps", "-a").stderr
    dock("rm", "sup")
    assert find_leaks(dock.root) == []


def test_a_killed_front_end_leaves_the_container_running(dock: Docklock) -> None:
    process = dock.start("run", "--name", "orphan", "busybox", "sh", "-c", "echo up; sleep 600")
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.kill()
    process.communicate()
    assert "orphan" in dock("ps").stdout
    dock("rm", "-f", "orphan")


def test_a_killed_container_is_an_exit(dock: Docklock) -> None:
    dock("run", "-d", "--name", "shot", "busybox", "sleep", "600")
    os.kill(int(dock.inspect("shot")["State"]["Pid"]), signal.SIGKILL)  # type: ignore[index]
    assert dock("wait", "shot").stdout == f"{EXIT_KILLED}\n"
    dock("verify", "shot")
    dock("rm", "shot")


def test_rm_container_that_lost_its_supervisor_is_removed(dock: Docklock) -> None:
    dock("run", "-d", "--rm", "--name", "gone", "busybox", "sleep", "600")
    container_id, guard = dock.inspect("gone")["Id"], dock.supervisor_pid("gone")
    os.kill(guard, signal.SIGKILL)
    dock.wait_for(lambda: not is_running(guard))
    assert "gone" not in dock("ps", "-a").stdout
    assert not (dock.root / "containers" / str(container_id)).exists()
    dock("verify", str(container_id))


def test_kills_at_random_moments_leave_nothing(dock: Docklock, full: bool, seed: int) -> None:
    """kill -9 of front end and supervisor, together or one, up to 120 ms after the start."""
    chance = random.Random(seed)
    for _ in range(500 if full else 25 if SLOWER == 1 else 10):
        process = dock.start("run", "--rm", "busybox", "sh", "-c", "id; ls /; sleep 0.05")
        time.sleep(chance.random() * 0.12)
        victims = [process.pid] if chance.random() < 0.3 else []
        victims += children_of(process.pid)
        chance.shuffle(victims)
        for pid in victims[: chance.randint(0, 2)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            process.communicate(timeout=20)
        finally:
            process.kill()
    dock.wait_for(lambda: dock("ps", "-aq").stdout == "", limit_s=20)
    dock.wait_for(lambda: find_leaks(dock.root) == [], limit_s=10)
    assert os.listdir(dock.root / "containers") == []
    assert dock("verify", "--all").returncode == 0


def children_of(pid: int) -> list[int]:
    """The process's children and their children."""
    found = []
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    for child in text.split():
        found += [int(child), *children_of(int(child))]
    return found


def test_who_died_between_the_logs_start_and_its_own_state_starts_again(dock: Docklock) -> None:
    """Its run was begun, and then closed by the next command; the one after it is the next."""
    dock("run", "--name", "between", "--restart", "always", "-d", "busybox", "sleep", "600")
    container_id = str(dock.inspect("between")["Id"])
    path = dock.root / "containers" / container_id / "state.json"
    os.kill(dock.supervisor_pid("between"), signal.SIGKILL)
    dock.wait_for(lambda: "lost its supervisor" in dock("ps").stderr)
    dock("start", "between")
    os.kill(dock.supervisor_pid("between"), signal.SIGKILL)
    state = json.loads(path.read_text())
    assert state["run"] == 1
    path.write_text(json.dumps(state | {"run": 0, "status": "restarting"}))
    dock.wait_for(lambda: "lost its supervisor" in dock("ps").stderr)
    assert json.loads(path.read_text())["run"] == 1
    assert dock("mend").stdout == f"{container_id}\n"
    dock.wait_for(lambda: "Up" in dock("ps").stdout)
    dock("stop", "-t", "0", "between")
    stopped = path.read_text()
    dock("start", "between")
    os.kill(dock.supervisor_pid("between"), signal.SIGKILL)
    path.write_text(stopped)
    dock.wait_for(lambda: "lost its supervisor" in dock("ps").stderr)
    assert dock("mend").stdout == f"{container_id}\n"
    dock("rm", "-f", "between")
    dock("verify", container_id)


def test_two_commands_at_once_mend_once(dock: Docklock) -> None:
    dock("run", "-d", "--name", "both", "busybox", "sleep", "600")
    guard = dock.supervisor_pid("both")
    os.kill(guard, signal.SIGKILL)
    dock.wait_for(lambda: not is_running(guard))
    processes = [dock.start("ps", "-a") for _ in range(4)]
    said = [process.communicate(timeout=30)[1] for process in processes]
    assert sum("lost its supervisor" in text for text in said) == 1
    assert [receipt["op"] for receipt in dock.receipts("both")].count("gap") == 1
    dock("verify", "both")
    dock("rm", "both")


def test_a_failed_start_leaves_nothing(dock: Docklock, tmp_path: Path) -> None:
    """A bind source that goes between the check and the mount, at the last moment possible."""
    source = tmp_path / "there"
    source.mkdir()
    dock("create", "--name", "late", "-v", f"{source}:/x", "busybox", "true")
    source.rmdir()
    result = dock("start", "-a", "late", code=None)
    assert result.returncode == 125
    assert str(source) in result.stderr
    dock("rm", "late")
    assert find_leaks(dock.root) == []


def test_commands_that_mend_never_take_a_run_that_begins_for_a_dead_one(
    dock: Docklock, full: bool
) -> None:
    """Every command looks for free markers; a marker has its lock before it has its name."""
    menders = [
        dock.start_program(
            "import sys\nfrom docklock.paths import get_paths\nfrom docklock.repair import repair\n"
            "while True: assert repair(get_paths()) == []"
        )
        for _ in range(2)
    ]
    for _ in range(40 if full else 10 if SLOWER == 1 else 3):
        dock("run", "--rm", "busybox", "true")
    for mender in menders:
        assert mender.poll() is None, mender.communicate()
        mender.kill()
        mender.communicate()


def test_a_run_from_another_cgroup_is_mended_whole(dock: Docklock, victim: list[str]) -> None:
    """As a shell's run and a service's mend: on cgroup v1 each has its own place below its own.

    v2 knows one place only: there the two are the same.
    """
    places = [
        f"{CGROUPS}/{names.removeprefix('name=')}/docklock-elsewhere"
        for _, names, _ in (
            line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()
        )
        if names and not names.startswith("name=") and os.path.isdir(f"{CGROUPS}/{names}")
    ]
    enter = " ".join(
        f"mkdir -p {one}; echo 0 > {one}/tasks;" for one in places if "cpuset" not in one
    )
    hidden = ("busybox", "/v/victim", "hide", "/tmp/count")
    argv = dock.argv("run", "-d", "--name", "else", *victim, *hidden)
    subprocess.run(
        ["sh", "-c", enter + ' exec "$@"', "sh", *argv],
        env=dock.environment,
        check=True,
        timeout=30,
    )
    init = int(dock.inspect("else")["State"]["Pid"])  # type: ignore[index]
    worker, guard = dock.worker_pid("else"), dock.supervisor_pid("else")
    os.kill(worker, signal.SIGSTOP)  # so that it kills nothing when the guard is gone
    os.kill(guard, signal.SIGKILL)
    os.kill(worker, signal.SIGKILL)
    dock("ps")
    assert not is_running(init)
    dock("rm", "else")
    assert find_leaks(dock.root) == []
    for place in places:
        if os.path.isdir(place):
            dock.wait_for(lambda: not Path(f"{place}/tasks").read_text())  # noqa: B023
            for inner in (f"{place}/docklock", place):
                if os.path.isdir(inner):
                    os.rmdir(inner)
