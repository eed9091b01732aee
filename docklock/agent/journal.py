"""The agent's log: plain lines on stderr, or journald's own fields where stderr is the journal.

Not here: what containers write (supervisor/logfile.py), what they did (evidence).
Source: systemd.io/JOURNAL_NATIVE_PROTOCOL; JOURNAL_STREAM in systemd.exec(5).
"""

from __future__ import annotations

import os
import socket
import sys
from typing import NamedTuple

from docklock.log_settings import JOURNAL_SOCKET
from docklock.supervisor.journald import encode_field

ERROR, WARNING, INFO, DEBUG = 3, 4, 6, 7
PRIORITIES = {"error": ERROR, "warning": WARNING, "info": INFO, "debug": DEBUG}
SHORT_ID = 12


class Place(NamedTuple):
    """Where in the code a line was written."""

    file: str
    line: int
    function: str


class Log:
    """Writes lines of at least `level`. Falls back to stderr when the journal does not take one."""

    def __init__(self, level: str, journal: str = "", program: str = "docklock agent") -> None:
        """`journal` is the path of journald's socket, or empty for stderr."""
        self.level = level
        self._program = program
        self._journal = journal
        self._socket: socket.socket | None = None
        if journal:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def error(self, text: str, container: str = "") -> None:
        self._write(ERROR, text, container)

    def warning(self, text: str, container: str = "") -> None:
        self._write(WARNING, text, container)

    def info(self, text: str, container: str = "") -> None:
        self._write(INFO, text, container)

    def debug(self, text: str, container: str = "") -> None:
        self._write(DEBUG, text, container)

    def _write(self, priority: int, text: str, container: str) -> None:
        if priority > PRIORITIES[self.level]:
            return
        if self._socket is not None:
            frame = sys._getframe(2)
            place = Place(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
            try:
                self._socket.sendto(
                    encode_entry(priority, text, container, place, self._program), self._journal
                )
                return
            except OSError:
                pass  # journald is being restarted, or its queue is full: stderr is the journal too
        name = f"{container[:SHORT_ID]}: " if container else ""
        print(f"{self._program}: {name}{text}", file=sys.stderr, flush=True)


def find_journal(environment: dict[str, str], stderr_fd: int) -> str:
    """journald's socket if JOURNAL_STREAM says that `stderr_fd` is its stream, else empty."""
    status = os.fstat(stderr_fd)
    is_journal = environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
    return JOURNAL_SOCKET if is_journal else ""


def encode_entry(priority: int, text: str, container: str, place: Place, program: str) -> bytes:
    """One datagram: NAME=value lines; a value with a line end is given by its length."""
    fields = {
        "MESSAGE": text,
        "PRIORITY": str(priority),
        "SYSLOG_IDENTIFIER": program.replace(" ", "-"),
        "CODE_FILE": place.file,
        "CODE_LINE": str(place.line),
        "CODE_FUNC": place.function,
    }
    if container:
        fields |= {"CONTAINER_ID": container[:SHORT_ID], "CONTAINER_ID_FULL": container}
    return b"".join(encode_field(name, value.encode()) for name, value in fields.items())
