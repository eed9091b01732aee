"""A docklock command in a process of its own, killed with SIGKILL before a call that it makes.

Its calls are counted where they touch the disk or the network (posix, fcntl, files, sockets,
SQLite), so that every point can be had again by its number; what it computes in between changes
nothing that outlives it.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple, NoReturn

from docklock.cli import main

TOUCHING = frozenset(("posix", "fcntl", "_io", "_socket", "sqlite3", "_sqlite3"))
LIMIT_S = 120
NEVER = -1


class Ended(NamedTuple):
    """How it ended: `status` as in Popen.returncode; what it said; its calls, if it came so far."""

    status: int
    text: str
    calls: int


def run_to(root: Path, argv: Sequence[str], call: int = NEVER) -> Ended:
    """Runs `docklock --root ROOT ARGV`, killed before its call number `call`."""
    said, counted = root.parent / "said", root.parent / "calls"
    counted.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        _run(root, argv, call, said, counted)
    _, status = os.waitpid(pid, 0)
    calls = int(counted.read_text()) if counted.exists() else 0
    return Ended(os.waitstatus_to_exitcode(status), said.read_text(), calls)


def _run(root: Path, argv: Sequence[str], call: int, said: Path, counted: Path) -> NoReturn:
    code = 99
    try:
        signal.alarm(LIMIT_S)
        os.environ["DOCKER_CONFIG"] = str(root.parent / "docker")
        file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for number in (1, 2):
            os.dup2(file, number)
        sys.stdout = sys.stderr = open(1, "w", closefd=False)
        numbers = itertools.count()

        def look(_: FrameType, event: str, function: object) -> None:
            if event == "c_call" and _touches(function) and next(numbers) == call:
                os.kill(os.getpid(), signal.SIGKILL)

        threading.setprofile(look)
        sys.setprofile(look)
        code = main.run(["--root", str(root), *argv])
        sys.setprofile(None)
        sys.stdout.flush()
        counted.write_text(str(next(numbers)))
    finally:
        os._exit(code)


def _touches(function: object) -> bool:
    owner = getattr(function, "__self__", None)
    places = (getattr(function, "__module__", None), type(owner).__module__)
    return not TOUCHING.isdisjoint(places)
