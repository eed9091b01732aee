"""Through the command line: docklock restart stops and starts, whatever the container was at."""

from __future__ import annotations

from tests.e2e.conftest import Docklock
from tests.e2e.test_denied import read_denied
from tests.e2e.test_watch import read_leaves

QUICK = "trap 'exit 0' TERM; while true; do sleep 0.05; done"


def get_state(dock: Docklock, name: str) -> dict[str, object]:
    state = dock.inspect(name)["State"]
    assert isinstance(state, dict)
    return state


def test_a_running_container_has_a_new_run_and_both_are_on_record(dock: Docklock) -> None:
    dock("run", "-d", "--name", "again", "--restart", "always", "busybox", "sh", "-c", QUICK)
    first = get_state(dock, "again")["Pid"]
    assert dock("restart", "again").stdout == "again\n"
    state = get_state(dock, "again")
    assert state["Status"] == "running"
    assert state["Pid"] not in (0, first)
    assert dock.inspect("again")["RestartCount"] == 0  # a user's start, not its policy's
    assert dock.inspect("again")["Docklock"]["Run"] == 1  # type: ignore[index]
    assert read_leaves(dock, "again", "signal") == [{"signal": "15"}]
    assert len(read_leaves(dock, "again", "start")) == 2
    assert dock("verify", "again").stdout
    dock("rm", "-f", "again")


def test_one_that_does_not_end_is_killed_in_time(dock: Docklock) -> None:
    deaf = "trap '' TERM; while true; do sleep 0.05; done"
    dock("run", "-d", "--name", "deaf", "busybox", "sh", "-c", deaf)
    dock("pause", "deaf")  # and a paused one is thawed for it
    dock("restart", "-t", "0", "deaf")
    assert [one["signal"] for one in read_leaves(dock, "deaf", "signal")] == ["15", "9"]
    assert get_state(dock, "deaf")["Status"] == "running"
    dock("rm", "-f", "deaf")


def test_one_that_does_not_run_is_started(dock: Docklock) -> None:
    dock("create", "--name", "made", "busybox", "sleep", "60")
    dock("restart", "made")
    assert get_state(dock, "made")["Status"] == "running"
    dock("kill", "made")
    dock("wait", "made")
    dock("restart", "made")
    assert get_state(dock, "made")["Status"] == "running"
    dock("rm", "-f", "made")


def test_what_cannot_be_restarted_is_said_for_each_and_the_others_are(dock: Docklock) -> None:
    dock("create", "--name", "bad", "busybox", "/no/such/program")
    dock("run", "-d", "--rm", "--name", "brief", "busybox", "sleep", "60")
    dock("create", "--name", "good", "busybox", "sleep", "60")
    before = len(read_denied(dock))
    result = dock("restart", "-t", "0", "bad", "brief", "nobody", "good", code=1)
    assert result.stdout == "good\n"
    assert "/no/such/program" in result.stderr
    assert "brief: it is removed when it ends (--rm)" in result.stderr
    assert "No such container: nobody" in result.stderr
    assert get_state(dock, "brief")["Status"] == "running"
    found = [leaf["labels"] for leaf in read_denied(dock)[before:]]
    assert found == [{"request": "restart", "why": "state", "code": "1"}] * 2
    assert "whole seconds" in dock("restart", "-t", "soon", "good", code=2).stderr
    dock("rm", "-f", "bad", "brief", "good")
