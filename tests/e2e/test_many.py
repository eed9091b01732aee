"""Many containers at once, again and again: nothing is left of them but their evidence."""

from __future__ import annotations

import os

from tests.e2e.conftest import Docklock, find_leaks

CONTAINERS = 20


def test_twenty_containers_in_rounds_leave_nothing(dock: Docklock, full: bool) -> None:
    """Twenty commands at once start one each, and twenty more remove them while they run."""
    names = [f"many{number}" for number in range(CONTAINERS)]
    for _ in range(10 if full else 2):
        words = ("busybox", "sh", "-c", "id; exec sleep 600")
        run_at_once(dock, *(("run", "-d", "--name", name, *words) for name in names))
        assert len(dock("ps", "-q").stdout.split()) == CONTAINERS
        run_at_once(dock, *(("rm", "-f", name) for name in names))
        assert dock("ps", "-aq").stdout == ""
        assert os.listdir(dock.root / "containers") == []
        dock.wait_for(lambda: find_leaks(dock.root) == [])
    assert "TAMPERED" not in dock("verify", "--all").stdout


def run_at_once(dock: Docklock, *commands: tuple[str, ...]) -> None:
    processes = [dock.start(*words) for words in commands]
    for words, process in zip(commands, processes, strict=True):
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, f"{words}: {errors}"
