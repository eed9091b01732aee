"""Health checks of a running container: gated, on record, bounded in time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.e2e.conftest import Docklock, find_leaks
from tests.e2e.test_restart import state

FAST = ("--health-interval", "200ms", "--health-retries", "2")


def health(dock: Docklock, name: str) -> dict[str, Any]:
    found = state(dock, name).get("Health", {})
    assert isinstance(found, dict)
    return found


def test_a_container_becomes_unhealthy_and_healthy_on_record(dock: Docklock) -> None:
    words = ("--health-cmd", "cat /tmp/well", "busybox", "sleep", "60")
    dock("run", "-d", "--name", "ill", *FAST, *words)
    assert health(dock, "ill") == {"Status": "starting", "FailingStreak": 0, "Log": []}
    assert "(health: starting)" in dock("ps").stdout
    dock.wait_for(lambda: health(dock, "ill")["Status"] == "unhealthy", limit_s=20)
    assert "(unhealthy)" in dock("ps").stdout
    last = health(dock, "ill")["Log"][-1]
    assert last["ExitCode"] == 1
    assert "/tmp/well" in last["Output"]
    assert last["Start"] < last["End"]
    dock("exec", "ill", "sh", "-c", "echo fine > /tmp/well")
    dock.wait_for(lambda: health(dock, "ill")["Status"] == "healthy", limit_s=20)
    assert "(healthy)" in dock("ps").stdout
    assert health(dock, "ill")["Log"][-1]["Output"] == "fine\n"
    assert len(health(dock, "ill")["Log"]) <= 5
    check = dock.inspect("ill")["Config"]["Healthcheck"]  # type: ignore[index]
    assert check == {"Test": ["CMD-SHELL", "cat /tmp/well"], "Interval": 200_000_000, "Retries": 2}
    dock("rm", "-f", "ill")
    dock.wait_for(lambda: find_leaks(dock.root) == [])


def test_each_check_is_gated_and_its_verdicts_are_receipts(
    dock: Docklock, victim: list[str]
) -> None:
    check = ("--health-cmd", "/v/victim getppid 1 && /v/victim mkdir /tmp/x 1")
    dock("run", "-d", "--name", "gate", *FAST, *check, *victim, "busybox", "sleep", "60")
    dock.wait_for(lambda: health(dock, "gate")["Log"], limit_s=20)
    receipts = dock.receipts("gate")
    ops = [str(receipt["op"]) for receipt in receipts]
    assert "runtime.exec" in ops
    assert "syscall.getppid" in ops
    dock("rm", "-f", "gate")


def test_a_check_that_hangs_is_killed_and_counts_as_failed(dock: Docklock) -> None:
    check = ("--health-cmd", "echo begun; sleep 6077", "--health-timeout", "700ms")
    dock("run", "-d", "--name", "slow", *FAST, *check, "busybox", "sleep", "60")
    dock.wait_for(lambda: health(dock, "slow")["Status"] == "unhealthy", limit_s=20)
    result = health(dock, "slow")["Log"][0]
    assert result["ExitCode"] == -1
    assert result["Output"].startswith("Health check exceeded timeout (0.7s)")
    dock("stop", "-t", "0", "slow")  # in the middle of one, as likely as not
    dock.wait_for(lambda: not any(map(is_sleeping, Path("/proc").glob("[0-9]*/cmdline"))))
    labels = [r["labels"] for r in dock.receipts("slow") if r["op"] == "runtime.health"]
    assert labels == [{"status": "unhealthy"}]
    dock("rm", "slow")


def is_sleeping(process: Path) -> bool:
    try:
        return process.read_bytes() == b"sleep\x006077\x00"
    except OSError:
        return False


def test_an_image_brings_its_check_and_a_restart_begins_it_anew(
    dock: Docklock, busybox_tree: Path
) -> None:
    line = "HEALTHCHECK --interval=150ms CMD test -e /tmp/well"
    dock("import", "--change", line, str(busybox_tree), "checked")
    words = "touch /tmp/well; sleep 2; rm /tmp/well; exit 1"
    dock("run", "-d", "--name", "img", "--restart", "on-failure:1", "checked", "sh", "-c", words)
    dock.wait_for(lambda: health(dock, "img")["Status"] == "healthy", limit_s=20)
    dock.wait_for(lambda: dock.inspect("img")["RestartCount"] == 1, limit_s=20)
    dock.wait_for(lambda: state(dock, "img")["Status"] == "running", limit_s=20)
    dock.wait_for(lambda: health(dock, "img")["Status"] == "healthy", limit_s=20)
    dock("rm", "-f", "img")
    dock("run", "-d", "--name", "img", "--no-healthcheck", "checked", "sleep", "60")
    assert "Health" not in state(dock, "img")
    dock("rm", "-f", "img")
    dock("rmi", "checked")
