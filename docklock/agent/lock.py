"""One agent a root: `agent.lock`, locked by it for life, whose text is its process id."""

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
    fd = os.open(f"{paths.state}/{LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = _read_pid(fd)
        os.close(fd)
        raise StateError(f"another agent (process {pid}) runs on {paths.state}") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def find_agent(paths: Paths) -> str:
    """The process id of the root's agent; empty if none runs."""
    try:
        fd = os.open(f"{paths.state}/{LOCK}", os.O_RDONLY | os.O_CLOEXEC)
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
