"""What is done to a container: the docklock command of its name, as a process of its own.

So each act is on record exactly as the command is, and what refuses it says so in the command's
words. The process is in a session of its own, which no Ctrl-C of the screen's terminal reaches, and
ends with the thread that waits for it. Not here: what the commands do (docklock.cli).
Invariant: an act that is not over in ACT_MAX_S, or that whoever asked gives up, is ended with all
of its processes (tests/console/test_host_acts.py).
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from chainlite import bundle
from chainlite.errors import SpecError, StateError
from docklock.console.facts import Done, Progress
from docklock.console.source import VERBS
from docklock.program import find_program

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.paths import Paths

ACT_MAX_S = 120.0
"""A stop waits 10 s, freezing and killing seconds; large evidence takes a minute."""
END_MAX_S = 5.0
TELL_S = 0.1
OUTPUT_BYTES_MAX = 65_536
READ_BYTES = 16_384
WORDS = {"release": ("quarantine", "--release")}
"""Verbs that are not commands of their own."""
SHELL = "/bin/sh"


class HostActs:
    """The part of a source. One thread at a time, not always the same."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def act(self, verb: str, container: str, tell: Callable[[Progress], bool]) -> Done:
        """Run the command of that name; `tell` returns False to end it. SpecError for no verb."""
        if verb not in VERBS:
            raise SpecError(f"{verb!r}: one of {', '.join(VERBS)}")
        return run_command(self._paths, (*WORDS.get(verb, (verb,)), container), tell)

    def write_evidence(self, container: str, path: str) -> Done:
        """Write the evidence file. StateError where that would replace a file of another kind."""
        path = os.path.abspath(os.path.expanduser(path))
        if not _may_replace(path):
            raise StateError(f"{path} is there and is no evidence file: choose another name")
        return run_command(self._paths, ("evidence", container, "-o", path))

    def get_shell(self, container: str) -> tuple[str, ...]:
        """The argument vector of a shell in it, for this terminal."""
        return (*find_program(self._paths), "exec", "-it", container, SHELL)


def run_command(
    paths: Paths, words: tuple[str, ...], tell: Callable[[Progress], bool] = lambda _: True
) -> Done:
    """Run `docklock WORDS`; `tell` is asked every TELL_S, and ends it with False."""
    process = subprocess.Popen(
        [*find_program(paths, parent=os.getpid()), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, why = _wait(process, words[0], tell)
    finally:
        _end(process)
    text = output.decode("utf-8", "backslashreplace").strip()
    if why:
        return Done(is_done=False, text=f"{text}\n{why}".strip())
    return Done(is_done=process.returncode == 0, text=text)


def _wait(
    process: subprocess.Popen[bytes], name: str, tell: Callable[[Progress], bool]
) -> tuple[bytes, str]:
    """What it printed, and why it was not waited for any longer, or nothing."""
    assert process.stdout is not None
    output, deadline = bytearray(), time.monotonic() + ACT_MAX_S
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        # What it has started in the background may hold the pipe: its own end counts.
        while process.poll() is None or selector.select(0):
            if selector.get_map() and selector.select(TELL_S):
                data = os.read(process.stdout.fileno(), READ_BYTES)
                output += data[: OUTPUT_BYTES_MAX - len(output)]
                if not data:
                    selector.unregister(process.stdout)
                    _wait_for_end(process, TELL_S)
            if time.monotonic() >= deadline:
                return bytes(output), f"not done in {ACT_MAX_S:g} s: given up"
            if not tell(Progress(0, 0, name)):
                return bytes(output), "given up"
    return bytes(output), ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """Have it end with all that it has started in its session; reap it."""
    assert process.stdout is not None
    process.stdout.close()
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        _wait_for_end(process, END_MAX_S)


def _wait_for_end(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        pass  # whoever calls looks again


def _may_replace(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(bundle.MAGIC)) == bundle.MAGIC
    except FileNotFoundError:
        return True
    except OSError:
        return False
