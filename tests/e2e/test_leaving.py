"""SIGTERM to a guard, as a shutdown or its scope sends it: an end that is seen and signed."""

from __future__ import annotations

import os
import signal

import pytest

from tests.e2e.conftest import Docklock

POLITE = "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done"


def start(dock: Docklock, name: str, script: str, *options: str) -> None:
    dock("run", "-d", "--name", name, *options, "busybox", "sh", "-c", script)
    dock.wait_for(lambda: dock("logs", name).stdout == "up\n")


def leave(dock: Docklock, name: str) -> None:
    """As systemd stops a scope: all of its processes are signalled."""
    guard, worker = dock.supervisor_pid(name), dock.worker_pid(name)
    for pid in (worker, guard):
        os.kill(pid, signal.SIGTERM)
    dock.wait_for(lambda: not os.path.exists(f"/proc/{guard}"), limit_s=20)


def get_state(dock: Docklock, name: str) -> dict[str, object]:
    value = dock.inspect(name)["State"]
    assert isinstance(value, dict)
    return value


def test_the_container_is_asked_to_end_and_its_end_is_signed(dock: Docklock) -> None:
    start(dock, "polite", POLITE)
    leave(dock, "polite")
    assert get_state(dock, "polite")["ExitCode"] == 5
    done = dock("verify", "polite")
    assert "cut" not in done.stdout and "lost" not in done.stderr
    ops = [receipt["op"] for receipt in dock.receipts("polite")]
    assert "runtime.signal" in ops and "runtime.worker" not in ops


@pytest.mark.parametrize(
    ("policy", "runs"), [("always", True), ("on-failure", True), ("no", False)]
)
def test_it_is_not_its_users_stop(dock: Docklock, policy: str, runs: bool) -> None:
    """The guard does not start it again: the machine goes down. The next mend does."""
    name = f"left-{policy}"
    start(dock, name, POLITE, "--restart", policy)
    leave(dock, name)
    assert get_state(dock, name)["Running"] is False
    dock("mend")
    dock.wait_for(lambda: get_state(dock, name)["Running"] is runs)
    dock("rm", "-f", name)


def test_a_user_who_stops_it_before_the_mend_is_obeyed(dock: Docklock) -> None:
    start(dock, "obeyed", POLITE, "--restart", "always")
    leave(dock, "obeyed")
    dock("stop", "obeyed")
    assert dock("mend").stdout == ""
    assert get_state(dock, "obeyed")["Running"] is False


def test_the_waiting_before_a_restart_ends_too(dock: Docklock) -> None:
    dock("run", "-d", "--name", "back", "--restart", "always", "busybox", "false")
    dock.wait_for(lambda: int(str(get_state(dock, "back")["ExitCode"])) == 1)
    dock.wait_for(lambda: dock.inspect("back")["RestartCount"] >= 5, limit_s=20)  # type: ignore[operator]
    from tests.e2e.agents import find_guards

    (guard,) = find_guards(dock).values()
    os.kill(guard, signal.SIGTERM)
    dock.wait_for(lambda: not os.path.exists(f"/proc/{guard}"))
    assert get_state(dock, "back")["Status"] == "exited"
    dock("verify", "back")


def test_one_that_will_not_end_is_killed(dock: Docklock) -> None:
    start(dock, "deaf", "trap '' TERM; echo up; while :; do sleep 0.05; done")
    leave(dock, "deaf")
    assert get_state(dock, "deaf")["ExitCode"] == 137
    assert "cut" not in dock("verify", "deaf").stdout
