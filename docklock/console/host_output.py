"""The newest lines that a container has written, from the end of its log.

Not here: who writes the log (docklock/supervisor/logfile.py), all of it (`docklock logs`).
Invariant: as much is read as the lines take, BYTES_MAX at most, however long the log is
(tests/console/test_host_output.py).
"""

from __future__ import annotations

import os
from datetime import datetime

from docklock.console.facts import LogLine
from docklock.json_text import parse_json

BYTES_MAX = 4 << 20
STEP_BYTES = 65_536


def read_newest_lines(path: str, limit: int) -> tuple[LogLine, ...]:
    """At most `limit`, oldest first; of the file before the current one, too, if that is short."""
    lines: list[bytes] = []
    for name in (path, f"{path}.1"):
        if len(lines) < limit:
            lines = read_tail(name, limit - len(lines)) + lines
    return tuple(map(parse_line, lines))


def read_tail(path: str, limit: int) -> list[bytes]:
    """The last whole lines of a file, at most `limit`; none if there is no file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    try:
        at = os.fstat(fd).st_size
        data = b""
        while at and data.count(b"\n") <= limit and len(data) < BYTES_MAX:
            size = min(STEP_BYTES, at)
            at -= size
            data = os.pread(fd, size, at) + data
    finally:
        os.close(fd)
    lines = data.split(b"\n")[:-1]  # what comes after the last newline is not whole yet
    return (lines if not at else lines[1:])[-limit:]


def parse_line(line: bytes) -> LogLine:
    """A line of json-file; one that is none is shown as it is."""
    try:
        entry = parse_json(line)
        text, stream = str(entry["log"]).removesuffix("\n"), str(entry["stream"])
        return LogLine(parse_time_ns(str(entry["time"])), stream, text)
    except (ValueError, KeyError, TypeError):
        return LogLine(0, "stdout", line.decode(errors="replace"))


def parse_time_ns(text: str) -> int:
    """Unix ns of RFC 3339 with nanoseconds, UTC. ValueError."""
    whole, _, part = text.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(f"{whole}+00:00").timestamp())
    return seconds * 10**9 + int(part.ljust(9, "0")[:9] or 0)
