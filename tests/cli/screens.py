"""docklock on a terminal of a given size: what it shows there."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
CHUNK_BYTES = 65536


def run_on_terminal(argv: list[str], columns: int = 80, **env: str) -> tuple[int, str]:
    """(exit code, all that was shown), lines ending as the program ended them."""
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(TOP)
        words = [sys.executable, "-m", "docklock.cli.main", *argv]
        try:
            size = struct.pack("4H", 24, columns, 0, 0)
            fcntl.ioctl(0, termios.TIOCSWINSZ, size)
            kept = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
            os.execve(sys.executable, words, kept | env)
        finally:
            os._exit(99)
    shown = b""
    try:
        while data := os.read(fd, CHUNK_BYTES):
            shown += data
    except OSError:
        pass  # the other end is closed: it has ended
    finally:
        os.close(fd)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), shown.decode().replace("\r\n", "\n")
