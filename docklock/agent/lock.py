"""One process a directory: a file, locked by it for life, whose text is its process id.

The agent's is `agent.lock` in the root. Others who live long have one of their own.
"""

from __future__ import annotations

import fcntl
import os

from chainlite.errors import StateError
from chainlite.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from docklock.paths import Paths

LOCK = "agent.lock"
PID_BYTES_MAX = 32


def acquire_lock(paths: Paths) -> int:
    """The root's agent lock, which says whose it is; StateError if another agent has it."""
    return hold_file(f"{paths.state}/{LOCK}", "another agent")


def find_agent(paths: Paths) -> str:
    """The process id of the root's agent; empty if none runs."""
    return find_holder(f"{paths.state}/{LOCK}")


def hold_file(path: str, who: str) -> int:
    """A descriptor that holds the lock at `path`; StateError if `who` has it, and who that is."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = _read_pid(fd)
        os.close(fd)
        raise StateError(f"{who} (process {pid}) runs on {os.path.dirname(path)}") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def find_holder(path: str) -> str:
    """The process id of who holds the lock at `path`; empty if nobody does."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_pid(fd)
    finally:
        os.close(fd)
    return ""


def _read_pid(fd: int) -> str:
    return os.pread(fd, PID_BYTES_MAX, 0).decode(errors="replace").strip()
