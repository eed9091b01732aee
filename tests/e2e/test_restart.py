"""Restart policies of `docklock run`: the supervisor runs its container again, agent or not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Docklock, find_leaks
from tests.e2e.test_crash import is_running

LOOP = "echo run; sleep 0.05; exit 3"
GROWTH_MAX_KB = 2048


def state(dock: Docklock, name: str) -> dict[str, Any]:
    found = dock.inspect(name)["State"]
    assert isinstance(found, dict)
    return found


def count(dock: Docklock, name: str) -> int:
    return int(str(dock.inspect(name)["RestartCount"]))


def test_on_failure_runs_again_n_times_each_with_its_own_evidence(dock: Docklock) -> None:
    dock("run", "-d", "--name", "fail", "--restart", "on-failure:2", "busybox", "sh", "-c", LOOP)
    dock.wait_for(lambda: state(dock, "fail")["Status"] == "exited")
    assert dock("logs", "fail").stdout == "run\n" * 3
    assert (count(dock, "fail"), state(dock, "fail")["ExitCode"]) == (2, 3)
    policy = {"Name": "on-failure", "MaximumRetryCount": 2}
    assert dock.inspect("fail")["HostConfig"]["RestartPolicy"] == policy  # type: ignore[index]
    verdict = dock("verify", "fail").stdout
    assert all(f"run {number} closed" in verdict for number in range(3))
    assert "run 3" not in verdict
    dock("start", "fail")  # a user's start counts anew
    dock.wait_for(lambda: dock("logs", "fail").stdout.count("run") == 6)
    dock.wait_for(lambda: state(dock, "fail")["Status"] == "exited")
    assert count(dock, "fail") == 2
    dock("rm", "fail")
    assert dock("verify", "--all").returncode == 0


def test_on_failure_is_content_with_success(dock: Docklock) -> None:
    dock("run", "--name", "fine", "--restart", "on-failure", "busybox", "true")
    assert state(dock, "fine")["Status"] == "exited"
    assert count(dock, "fine") == 0
    dock("rm", "fine")


def test_the_front_end_gets_the_first_exit_and_the_container_goes_on(dock: Docklock) -> None:
    result = dock("run", "--name", "fore", "--restart", "always", "busybox", "false", code=1)
    assert result.stdout == ""
    for _ in range(10):
        shown = dock("ps").stdout
        assert "Restarting (1)" in shown or "Up" in shown
    assert dock("wait", "fore").stdout == "1\n"
    dock("rm", "-f", "fore")


def test_stop_during_the_back_off_ends_it_for_good(dock: Docklock) -> None:
    dock("run", "-d", "--name", "again", "--restart", "always", "busybox", "sh", "-c", "exit 7")
    dock.wait_for(lambda: count(dock, "again") >= 6, limit_s=30)  # then it waits 3.2 s at least
    dock.wait_for(lambda: state(dock, "again")["Restarting"])
    shown = state(dock, "again")
    assert (shown["Status"], shown["Running"], shown["Pid"]) == ("restarting", True, 0)
    assert "Restarting (7)" in dock("ps").stdout
    assert "restarting" in dock("rm", "again", code=1).stderr
    assert "restarting" in dock("exec", "again", "true", code=125).stderr
    began = time.monotonic()
    dock("stop", "again")
    assert time.monotonic() - began < 3
    assert state(dock, "again")["Status"] == "exited"
    runs = dock("verify", "again").stdout.count(" closed")
    time.sleep(1.2)
    assert dock("verify", "again").stdout.count(" closed") == runs
    dock("rm", "again")


@pytest.mark.parametrize("verb", [("kill",), ("rm", "-f"), ("stop",)])
def test_whoever_ends_it_at_any_moment_ends_it(
    dock: Docklock, verb: tuple[str, ...], seed: int, full: bool
) -> None:
    """In the run, the back-off or between: no hang, no run after it, no leak."""
    chance = random.Random(f"{seed}{verb}")
    for trial in range(40 if full else 4):
        name = f"end{trial}"
        dock("run", "-d", "--name", name, "--restart", "always", "busybox", "sleep", "0.02")
        container_id = str(dock.inspect(name)["Id"])
        time.sleep(chance.random() * 0.5)
        began = time.monotonic()
        while dock(*verb, name, code=None).returncode and verb == ("kill",):
            assert time.monotonic() - began < 5  # kill does not wait for a run to begin
        dock.wait_for(lambda: not (dock.root / "live" / container_id).exists())  # noqa: B023
        assert time.monotonic() - began < 5
        dock("rm", *([] if verb[0] != "rm" else ["-f"]), name, code=None)
    assert dock("ps", "-aq").stdout == ""
    assert find_leaks(dock.root) == []


def test_a_signal_that_does_not_ask_to_end_is_no_stop(dock: Docklock) -> None:
    words = "trap 'exit 5' HUP; echo up; while :; do sleep 0.02; done"
    dock("run", "-d", "--name", "hup", "--restart", "always", "busybox", "sh", "-c", words)
    dock.wait_for(lambda: "up" in dock("logs", "hup").stdout)
    dock("kill", "-s", "HUP", "hup")
    dock.wait_for(lambda: count(dock, "hup") == 1)
    dock.wait_for(lambda: state(dock, "hup")["Status"] == "running")
    dock("kill", "-s", "TERM", "hup")
    dock("kill", "hup")
    dock.wait_for(lambda: state(dock, "hup")["Status"] == "exited")
    dock("rm", "hup")


def test_whichever_signal_stop_is_given_it_stays_ended(dock: Docklock) -> None:
    words = "trap 'exit 5' HUP; echo up; while :; do sleep 0.02; done"
    dock("run", "-d", "--name", "asked", "--restart", "always", "busybox", "sh", "-c", words)
    dock.wait_for(lambda: "up" in dock("logs", "asked").stdout)
    dock("stop", "-s", "HUP", "asked")
    shown = state(dock, "asked")
    assert (shown["Status"], shown["ExitCode"]) == ("exited", 5)
    assert count(dock, "asked") == 0
    dock("start", "asked")
    dock.wait_for(lambda: dock("logs", "asked").stdout == "up\nup\n")
    dock("restart", "--signal", "SIGHUP", "asked")
    dock.wait_for(lambda: dock("logs", "asked").stdout == "up\nup\nup\n")
    assert "unknown" in dock("stop", "-s", "NOSUCH", "asked", code=2).stderr.lower()
    dock("rm", "-f", "asked")


def test_a_program_that_never_began_is_not_tried_again(dock: Docklock) -> None:
    dock("run", "--name", "none", "--restart", "always", "busybox", "/no/such", code=127)
    assert (state(dock, "none")["Status"], count(dock, "none")) == ("exited", 0)
    dock("rm", "none")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--restart", "sometimes"), "unknown policy 'sometimes'"),
        (("--restart", "always:2"), "can only be used with 'on-failure'"),
        (("--restart", "always", "--rm"), "cannot specify both --restart and --rm"),
    ],
)
def test_bad_policies_leave_nothing(dock: Docklock, options: tuple[str, ...], said: str) -> None:
    assert said in dock("run", *options, "busybox", "true", code=125).stderr
    assert dock("ps", "-aq").stdout == ""


def test_a_client_that_waits_through_a_restart_gets_output_of_the_next_run(dock: Docklock) -> None:
    dock("run", "-d", "--name", "late", "--restart", "always", "busybox", "sh", "-c", LOOP)
    dock.wait_for(lambda: count(dock, "late") >= 6, limit_s=30)
    dock.wait_for(lambda: state(dock, "late")["Restarting"])
    done = subprocess.run(
        dock.argv("attach", "late"), env=dock.environment, capture_output=True, timeout=20
    )
    assert (done.returncode, done.stdout) == (3, b"run\n")
    dock("rm", "-f", "late")


def list_settled_links(pid: int) -> list[str]:
    """What a process holds open, once that stays the same: a guard looks at limits a bit later."""
    links: list[str] = []
    for _ in range(50):
        before = links
        try:
            links = sorted(
                [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
            )
        except FileNotFoundError:  # closed between the two: not settled
            links = []
        if links and links == before:
            break
        time.sleep(0.1)
    return links


def test_a_guard_keeps_nothing_of_the_runs_before(dock: Docklock) -> None:
    """Descriptors and memory after the sixth run in one process are those after the first."""
    dock("run", "-d", "--name", "many", "--restart", "always", "busybox", "sleep", "60")
    guard = dock.supervisor_pid("many")
    held = []
    for number in range(1, 7):
        os.kill(int(state(dock, "many")["Pid"]), signal.SIGKILL)  # no user's stop
        dock.wait_for(lambda: count(dock, "many") == number)  # noqa: B023
        dock.wait_for(lambda: state(dock, "many")["Status"] == "running")
        dock("exec", "many", "true")
        assert dock.supervisor_pid("many") == guard
        status = Path(f"/proc/{guard}/status").read_text()
        rss_kb = int(status.partition("VmRSS:")[2].split()[0])
        links = list_settled_links(guard)
        held.append((len(links), rss_kb, links))
    assert held[5][0] == held[0][0], (held[0][2], held[5][2])
    assert held[5][1] - held[0][1] < GROWTH_MAX_KB, held
    dock("rm", "-f", "many")
    dock.wait_for(lambda: not is_running(guard))


def test_a_stop_before_the_supervisors_death_is_remembered(dock: Docklock) -> None:
    words = "trap '' TERM; echo up; while :; do sleep 0.02; done"
    dock("run", "-d", "--name", "kept", "--restart", "always", "busybox", "sh", "-c", words)
    dock.wait_for(lambda: "up" in dock("logs", "kept").stdout)
    dock("kill", "-s", "TERM", "kept")
    os.kill(dock.supervisor_pid("kept"), signal.SIGKILL)
    dock("ps", "-a")
    record = json.loads(
        Path(dock.root, "containers", str(dock.inspect("kept")["Id"]), "state.json").read_text()
    )
    assert (record["is_cut"], record["is_stopped_by_user"]) == (True, True)
    assert "kept" not in dock("mend").stdout
    dock("rm", "kept")


@pytest.mark.parametrize(
    ("policy", "is_started"),
    [("always", True), ("unless-stopped", True), ("on-failure:1", True), ("no", False)],
)
def test_mend_starts_what_lost_its_supervisor(
    dock: Docklock, policy: str, is_started: bool
) -> None:
    dock("run", "-d", "--name", "lost", "--restart", policy, "busybox", "sleep", "60")
    kill_guard(dock, "lost")
    assert bool(dock("mend").stdout) == is_started
    assert dock("mend").stdout == ""
    if is_started:
        dock.wait_for(lambda: state(dock, "lost")["Status"] == "running")
        assert count(dock, "lost") == 1
        kill_guard(dock, "lost")
        assert bool(dock("mend").stdout) == (policy != "on-failure:1")
    dock("rm", "-f", "lost")
    assert dock("verify", "--all").returncode == 0


def test_two_menders_at_once_start_once(dock: Docklock) -> None:
    dock("run", "-d", "--name", "two", "--restart", "always", "busybox", "sleep", "60")
    kill_guard(dock, "two")
    processes = [dock.start("mend") for _ in range(4)]
    said = [process.communicate(timeout=30)[0] for process in processes]
    assert sum(len(text.split()) for text in said) == 1
    dock.wait_for(lambda: state(dock, "two")["Status"] == "running")
    assert dock("verify", "two").stdout.count("run ") == 2
    dock("rm", "-f", "two")


def test_a_mend_whose_caller_was_killed_starts_what_is_due(dock: Docklock) -> None:
    """The agent reads what it says; a killed one does not."""
    dock("run", "-d", "--name", "unheard", "--restart", "always", "busybox", "sleep", "60")
    kill_guard(dock, "unheard")
    reads, writes = os.pipe()
    os.close(reads)
    subprocess.run(dock.argv("mend"), env=dock.environment, stdout=writes, stderr=writes)
    os.close(writes)
    dock.wait_for(lambda: state(dock, "unheard")["Status"] == "running")
    dock("rm", "-f", "unheard")


def test_a_stop_after_the_supervisors_death_is_remembered(dock: Docklock) -> None:
    dock("run", "-d", "--name", "lost", "--restart", "always", "busybox", "sleep", "60")
    kill_guard(dock, "lost")
    dock("stop", "lost")
    assert dock("mend").stdout == ""
    dock("rm", "lost")


@pytest.mark.parametrize(
    ("policy", "is_stopped", "is_started"),
    [
        ("always", False, True),
        ("always", True, True),
        ("unless-stopped", False, True),
        ("unless-stopped", True, False),
        ("on-failure", False, True),
        ("on-failure", True, False),
        ("no", False, False),
    ],
)
def test_after_a_boot_mend_starts_what_docker_would(
    dock: Docklock, policy: str, is_stopped: bool, is_started: bool
) -> None:
    """The boot is another if the record names another: what the record of a boot before does."""
    dock("run", "-d", "--name", "boot", "--restart", policy, "busybox", "sleep", "60")
    if is_stopped:
        dock("kill", "boot")
        dock("wait", "boot")
    else:
        kill_guard(dock, "boot")
        dock("ps")
    path = dock.root / "containers" / str(dock.inspect("boot")["Id"]) / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"boot": "00" * 16}))
    assert bool(dock("mend").stdout) == is_started
    assert dock("mend").stdout == ""
    if is_started:
        dock.wait_for(lambda: state(dock, "boot")["Status"] == "running")
        assert state(dock, "boot")["Running"]
    dock("rm", "-f", "boot")


def test_a_container_that_was_only_created_is_not_started_by_a_boot(dock: Docklock) -> None:
    dock("create", "--name", "made", "--restart", "always", "busybox", "sleep", "60")
    assert dock("mend").stdout == ""
    dock("rm", "made")


def kill_guard(dock: Docklock, name: str) -> None:
    """Kill a running container's guard, and see its init die."""
    init = int(state(dock, name)["Pid"])
    os.kill(dock.supervisor_pid(name), signal.SIGKILL)
    dock.wait_for(lambda: not is_running(init))
