"""docklock's own command line, as a demo types it: run one, or keep one running until the end.

Not here: which (pipeline, stages). Invariants: no process outlives who started it, however that
ends (the kernel tells it to end); a terminal's Ctrl-C is the demo's, which ends the rest in order.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, NamedTuple

from chainlite.errors import StateError, TamperError
from docklock.kernel.process import set_death_signal, set_subreaper
from docklock.paths import get_paths
from docklock.program import find_program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMMAND_S = 60.0
WAIT_S = 60.0
LOOK_S = 0.05
END_S = 20.0
FREE_LEAST_BYTES = 1 << 20
"""With less room on the disk nothing goes on, and waiting is in vain."""
SAID_MAX_CHARS = 500
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends a demo."""


class Child(NamedTuple):
    """A command that runs until the end, and the file of what it says."""

    name: str
    process: subprocess.Popen[bytes]
    log: str


class Commands:
    """The commands of one root; `lock_fd` is shared with all that runs until the end."""

    def __init__(self, root: str, lock_fd: int) -> None:
        self.paths = get_paths(root, f"{root}/run")
        self._argv, self._lock_fd = find_program(self.paths), lock_fd
        self._children: list[Child] = []

    def run(self, *words: str) -> str:
        """What a command prints. StateError, with what it said, unless it exits with 0."""
        code, out, said = self.try_run(*words)
        if code:
            shown = " ".join(words[:2])
            text = f"docklock {shown} exited with {code}: {_get_end(said) or _get_end(out)}"
            raise TamperError(text) if code == TamperError.exit_code else StateError(text)
        return out

    def try_run(self, *words: str) -> tuple[int, str, str]:
        """Exit code, output and errors of a command; StateError where it does not end in time."""
        process = self._spawn(words, subprocess.PIPE, subprocess.PIPE)
        try:
            out, said = process.communicate(timeout=COMMAND_S)
        except subprocess.TimeoutExpired:
            raise StateError(f"docklock {words[0]} does not end within {COMMAND_S:g} s") from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        return process.returncode, out.decode(errors="replace"), said.decode(errors="replace")

    def start(self, name: str, log: str, *words: str) -> None:
        """Begin a command that runs until `end`; what it says goes to the file `log`."""
        with open(log, "ab") as file:
            self._spawn(words, file, file, lambda process: Child(name, process, log))

    def _spawn(
        self,
        words: tuple[str, ...],
        out: IO[bytes] | int,
        said: IO[bytes] | int,
        make_child: Callable[[subprocess.Popen[bytes]], Child] | None = None,
    ) -> subprocess.Popen[bytes]:
        """The process; of a child it is known before a signal can come between."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            process = subprocess.Popen(
                [*self._argv, *words],
                stdin=subprocess.DEVNULL, stdout=out, stderr=said, start_new_session=True,
                preexec_fn=_bind(before), pass_fds=(self._lock_fd,) if make_child else (),
            )  # fmt: skip
            if make_child is not None:
                self._children.append(make_child(process))
            return process
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def end(self) -> None:
        """End all that was started, the last one first, and wait for it."""
        while self._children:
            process = self._children.pop().process
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def wait(self, what: str, is_so: Callable[[], object], limit_s: float = WAIT_S) -> None:
        """Until it is so. StateError: one of those that run has ended, the disk is full, or it
        takes too long."""
        deadline = time.monotonic() + limit_s
        while not is_so():
            for child in self._children:
                code = child.process.poll()
                if code is not None:
                    said = _get_end(read_log(child.log))
                    raise StateError(f"{child.name} ended with code {code}: {said}")
            room = os.statvfs(self.paths.state)
            if room.f_bavail * room.f_frsize < FREE_LEAST_BYTES:
                raise StateError(f"{self.paths.state}: no space left on its disk")
            if time.monotonic() > deadline:
                raise StateError(f"{what}: not within {limit_s:g} s; {self._tell()}")
            time.sleep(LOOK_S)

    def _tell(self) -> str:
        """The last line of each that runs."""
        return "; ".join([
            f"{child.name}: {_get_end(read_log(child.log)) or 'it said nothing'}"
            for child in self._children
        ])  # fmt: skip


def remove_containers(commands: Commands) -> None:
    """End and remove every container of a root; one that cannot be is not in the way of the rest.

    `ps` mends what has lost its supervisor.
    """
    try:
        names = commands.run("ps", "-aq").split()
        if names:
            commands.run("rm", "-f", *names)
    except StateError:
        pass


@contextmanager
def adopt_orphans() -> Iterator[None]:
    """Processes whose parents ended before them are waited for in the end, or killed.

    A child that its parent had just begun when it ended, say: it sees that, and ends.
    """
    set_subreaper(is_one=True)
    try:
        yield
    finally:
        set_subreaper(is_one=False)
        deadline = time.monotonic() + END_S
        while (orphans := _find_children()) and _reap():
            if time.monotonic() > deadline:
                for pid in orphans:
                    os.kill(pid, signal.SIGKILL)
            time.sleep(LOOK_S)


def _find_children() -> list[int]:
    pid = os.getpid()
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


def _reap() -> bool:
    """Take the exit codes of who has ended; whether there is any child still."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def read_log(path: str) -> str:
    """What a command has said so far."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _bind(mask: set[int | signal.Signals]) -> Callable[[], None]:
    """For the new process, before its program: end with this one; signals as they were."""
    parent = os.getpid()

    def bind() -> None:
        set_death_signal(signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    return bind


def _get_end(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("docklock: ")[:SAID_MAX_CHARS] if lines else ""
