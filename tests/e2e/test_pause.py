"""Through the command line: a paused container does nothing, and whatever ends it thaws it.

On hosts with v1 and with v2 controllers (tests/vm runs it on v2 alone).
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from docklock import client
from docklock.cgroup import driver
from docklock.paths import get_paths
from tests.conftest import SLOWER
from tests.e2e.conftest import VICTIM_POLICY, Docklock, find_leaks
from tests.e2e.test_crash import is_running
from tests.e2e.test_oci import runtime
from tests.e2e.test_watch import read_leaves
from tests.e2e.test_worker import of

SPIN = "while true; do :; done"
TIMES = 100 if SLOWER == 1 else 20
PAUSES = TIMES // 2
FROZEN, THAWED = {"state": "frozen"}, {"state": "thawed"}


def find_cgroup(dock: Docklock, name: str) -> driver.Cgroup:
    found = driver.find_cgroup(str(dock.inspect(name)["Id"]))
    assert found is not None
    return found


def get_pid(dock: Docklock, name: str) -> int:
    return int(dock.inspect(name)["State"]["Pid"])  # type: ignore[index]


def is_going_on(cgroup: driver.Cgroup) -> bool:
    """Whether it uses the CPU: a tenth of one, or nothing that counts."""
    before = cgroup.stat().cpu_ns
    time.sleep(0.2)
    return cgroup.stat().cpu_ns - before > 2e7


def is_connected(pid: int) -> bool:
    """Whether a process has a socket, as who waits for a container has."""
    try:
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    except FileNotFoundError:
        return False
    return any(link.startswith("socket:") for link in links)


def start_paused(dock: Docklock, name: str, *words: str) -> None:
    """A paused container: its options and words, or one that spins."""
    dock("run", "-d", "--name", name, *(words or ("busybox", "sh", "-c", SPIN)))
    dock("pause", name)


def test_a_paused_container_stands_still_and_goes_on(dock: Docklock) -> None:
    dock("run", "-d", "--name", "ice", "busybox", "sh", "-c", SPIN)
    cgroup = find_cgroup(dock, "ice")
    dock.wait_for(lambda: is_going_on(cgroup))
    assert dock("pause", "ice").stdout == "ice\n"
    assert not is_going_on(cgroup)
    state = dock.inspect("ice")["State"]
    assert isinstance(state, dict)
    assert (state["Status"], state["Paused"], state["Running"]) == ("paused", True, True)
    (row,) = [json.loads(line) for line in dock("ps", "--format", "json").stdout.splitlines()]
    assert row["State"] == "paused"
    assert row["Status"].startswith("Up ")
    assert row["Status"].endswith(" (Paused)")
    assert json.loads(runtime(dock, "state", "ice").stdout)["status"] == "paused"
    assert dock("unpause", "ice").stdout == "ice\n"
    assert is_going_on(cgroup)
    state = dock.inspect("ice")["State"]
    assert isinstance(state, dict)
    assert (state["Status"], state["Paused"]) == ("running", False)
    assert "Paused" not in dock("ps").stdout
    dock("rm", "-f", "ice")


def test_it_is_a_leaf_before_and_a_receipt(dock: Docklock) -> None:
    start_paused(dock, "told")
    dock("unpause", "told")
    dock("rm", "-f", "told")
    assert read_leaves(dock, "told", "pause") == [FROZEN, THAWED]
    assert [receipt["labels"] for receipt in of(dock, "told", "runtime.pause")] == [FROZEN, THAWED]
    dock("verify", "told")


def test_what_cannot_be_is_refused_in_dockers_words(dock: Docklock) -> None:
    start_paused(dock, "words")
    container_id = dock.inspect("words")["Id"]
    refused = {
        ("pause", "words"): f"Container {container_id} is already paused",
        ("exec", "words", "true"): f"Container {container_id} is paused, unpause the container"
        " before exec",
        ("attach", "words"): "You cannot attach to a paused container, unpause it first",
        ("start", "words"): "cannot start a paused container, try unpause instead",
        ("rm", "words"): "container words is paused: unpause and stop it first, or use rm -f",
        ("pause", "nobody"): "No such container: nobody",
    }
    for words, text in refused.items():
        result = dock(*words, code=125 if words[0] in ("exec", "start") else 1)
        assert result.stderr.endswith(f"{text}\n"), result.stderr
    dock("unpause", "words")
    assert f"Container {container_id} is not paused" in dock("unpause", "words", code=1).stderr
    dock("stop", "-t", "0", "words")
    assert f"Container {container_id} is not running" in dock("pause", "words", code=1).stderr
    assert f"Container {container_id} is not paused" in dock("unpause", "words", code=1).stderr
    assert read_leaves(dock, "words", "pause") == [FROZEN, THAWED]
    dock("rm", "words")


@pytest.mark.parametrize(
    "words", [("stop",), ("stop", "-t", "0"), ("kill",), ("kill", "-s", "TERM"), ("rm", "-f")]
)
def test_what_ends_a_paused_container_thaws_it(dock: Docklock, words: tuple[str, ...]) -> None:
    start_paused(dock, "end", "busybox", "sh", "-c", "trap 'exit 9' TERM; while true; do :; done")
    waiting = dock.start("wait", "end")
    dock.wait_for(lambda: is_connected(waiting.pid))  # or rm is sooner
    dock(*words, "end")
    code, _ = waiting.communicate(timeout=10)
    by_signal = words in (("kill",), ("rm", "-f"))
    assert code in (("137\n",) if by_signal else ("9\n", "137\n") if "0" in words else ("9\n",))
    assert find_leaks(dock.root) == []
    assert read_leaves(dock, "end", "pause")[-2:] == [FROZEN, THAWED]
    if words[0] != "rm":
        state = dock.inspect("end")["State"]
        assert isinstance(state, dict)
        assert (state["Status"], state["Paused"]) == ("exited", False)
        dock("rm", "end")


def test_another_signal_waits_for_the_thaw(dock: Docklock) -> None:
    script = "trap 'echo usr1 > /got' USR1; touch /ready; while true; do :; done"
    dock("run", "-d", "--name", "sig", "busybox", "sh", "-c", script)
    root = Path(f"/proc/{get_pid(dock, 'sig')}/root")
    dock.wait_for((root / "ready").exists)
    dock("pause", "sig")
    dock("kill", "-s", "USR1", "sig")
    time.sleep(0.2)
    assert not (root / "got").exists()
    dock("unpause", "sig")
    dock.wait_for((root / "got").exists)
    dock("rm", "-f", "sig")


@pytest.mark.parametrize("both", [False, True])
def test_a_killed_guard_ends_a_paused_container(dock: Docklock, both: bool) -> None:
    start_paused(dock, "orphan", "busybox", "sh", "-c", "sleep 60 & sleep 60")
    guard, worker, init = (
        dock.supervisor_pid("orphan"),
        dock.worker_pid("orphan"),
        get_pid(dock, "orphan"),
    )
    cgroup = find_cgroup(dock, "orphan")
    assert len(cgroup.list_pids()) == 2
    if both:
        os.kill(worker, signal.SIGSTOP)  # it must not see the guard's end first
    os.kill(guard, signal.SIGKILL)
    os.kill(worker, signal.SIGKILL) if both else None
    if not both:
        dock.wait_for(lambda: not is_running(init))
    assert "had lost its supervisor" in dock("ps", "-a").stderr
    assert not is_running(init)
    assert not cgroup.exists()
    state = dock.inspect("orphan")["State"]
    assert isinstance(state, dict)
    assert (state["Status"], state["Paused"], state["ExitCode"]) == ("exited", False, 137)
    assert "cut" in dock("verify", "orphan").stdout
    dock("rm", "orphan")


def test_a_guard_that_gives_up_ends_a_paused_container(dock: Docklock, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(VICTIM_POLICY + "on-worker-death: kill\n")
    start_paused(dock, "given", "--policy", str(policy), "busybox", "sleep", "60")
    waiting = dock.start("wait", "given")
    os.kill(dock.worker_pid("given"), signal.SIGKILL)
    assert waiting.communicate(timeout=20)[0] == "125\n"
    dock.wait_for(lambda: find_leaks(dock.root) == [])
    dock("rm", "given")


def test_gated_and_held_calls_outlive_pauses(dock: Docklock, victim: list[str]) -> None:
    """A pause meets calls that wait for their receipts: each is on record once, none hangs."""
    calls = "/v/victim getppid 100 fsync 1"
    script = f"for i in $(seq {TIMES}); do {calls} || exit 1; done; echo whole"
    dock("run", "-d", "--name", "calls", *victim, "busybox", "sh", "-c", script)
    with client.connect(get_paths(str(dock.root)), str(dock.inspect("calls")["Id"])) as channel:
        for _ in range(PAUSES):
            client.request(channel, {"verb": "pause"})
            client.request(channel, {"verb": "unpause"})
    assert dock("wait", "calls").stdout == "0\n"
    assert dock("logs", "calls").stdout.endswith("whole\n")
    found = [(one["op"], one["decision"]) for one in dock.receipts("calls")]
    assert found.count(("syscall.getppid", "allowed")) >= 100 * TIMES
    assert found.count(("syscall.fsync", "allowed")) >= TIMES
    assert found.count(("runtime.pause", "allowed")) == 2 * PAUSES
    assert "gap" not in [op for op, _ in found]
    dock("verify", "calls")
    dock("rm", "calls")
