"""The container's log: Docker's json-file lines, in a file that cannot grow without bound.

One line: {"log": text, "stream": "stdout"|"stderr", "time": RFC 3339 with nanoseconds, UTC}. A line
of the container longer than 16 KiB is cut into several; text that is not UTF-8 is escaped with
U+FFFD, as Docker does. At LOG_BYTES_MAX the file becomes container.log.1 and a new one begins.
"""

from __future__ import annotations

import os
import time

from docklock.json_text import encode_json

LOG_BYTES_MAX = 64 * 1024 * 1024
LINE_BYTES_MAX = 16_384
NANOSECONDS = 1_000_000_000


def format_time(time_ns: int) -> str:
    """Unix nanoseconds as Docker writes them: 2026-11-22T10:00:00.123456789Z."""
    seconds, fraction = divmod(time_ns, NANOSECONDS)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{fraction:09d}Z"


class LogFile:
    """Append whole lines of two streams; keeps an unfinished line until it ends or `close`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = open(path, "ab", buffering=0)
        self._size = os.fstat(self._file.fileno()).st_size
        self._partial = {"stdout": b"", "stderr": b""}

    def write(self, stream: str, data: bytes) -> None:
        """Take what the container wrote to `stream`."""
        pieces = (self._partial[stream] + data).split(b"\n")
        last = pieces.pop()
        lines = [piece + b"\n" for piece in pieces]
        while len(last) >= LINE_BYTES_MAX:
            lines.append(last[:LINE_BYTES_MAX])
            last = last[LINE_BYTES_MAX:]
        self._partial[stream] = last
        if lines:
            self._write_lines(stream, lines)

    def close(self) -> None:
        for stream, rest in self._partial.items():
            if rest:
                self._write_lines(stream, [rest])
        self._file.close()

    def _write_lines(self, stream: str, lines: list[bytes]) -> None:
        now = format_time(time.time_ns())
        block = "".join(
            encode_json(
                {"log": line.decode("utf-8", "replace"), "stream": stream, "time": now},
                is_spaced=True,
            )
            + "\n"
            for line in lines
        ).encode()
        if self._size + len(block) > LOG_BYTES_MAX:
            self._file.close()
            os.replace(self._path, f"{self._path}.1")
            self._file = open(self._path, "ab", buffering=0)
            self._size = 0
        self._file.write(block)
        self._size += len(block)
