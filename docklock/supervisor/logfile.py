"""The container's log: Docker's json-file lines, in a file that cannot grow without bound.

One line: {"log": text, "stream": "stdout"|"stderr", "time": RFC 3339 with nanoseconds, UTC}. A line
of the container longer than 16 KiB is cut into several; text that is not UTF-8 is escaped with
U+FFFD, as Docker does. At LOG_BYTES_MAX the file becomes container.log.1 and a new one begins.
Where the disk is full, lines wait here and whoever writes is to wait too (`is_waiting`): none is
torn or lost (tests/e2e/test_full_disk.py).
"""

from __future__ import annotations

import os
import time

from docklock.evidence.full_disk import is_full, wait_for_room
from docklock.json_text import encode_json

LOG_BYTES_MAX = 64 * 1024 * 1024
LINE_BYTES_MAX = 16_384
NANOSECONDS = 1_000_000_000


def format_time(time_ns: int) -> str:
    """Unix nanoseconds as Docker writes them: 2026-11-22T10:00:00.123456789Z."""
    seconds, fraction = divmod(time_ns, NANOSECONDS)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{fraction:09d}Z"


class LogFile:
    """Append whole lines of two streams; keeps an unfinished line until it ends or `close`.

    Its unwritten bytes are bounded by what a caller that minds `is_waiting` gives it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = open(path, "ab", buffering=0)
        self._size = os.fstat(self._file.fileno()).st_size
        self._partial = {"stdout": b"", "stderr": b""}
        self._unwritten = b""
        self._is_at_line = True  # what is written ends with a whole line

    @property
    def is_waiting(self) -> bool:
        """Whether the disk was full: write no more before `retry` has emptied it."""
        return bool(self._unwritten)

    def retry(self) -> None:
        """Write what the disk could not take."""
        try:
            self._flush()
        except OSError as error:
            if not is_full(error):
                raise

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
        """Write all there is; waits for room on the disk."""
        for stream, rest in self._partial.items():
            if rest:
                self._write_lines(stream, [rest])
        wait_for_room(self._flush)
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
        self._unwritten += block
        self.retry()

    def _flush(self) -> None:
        """Write what is unwritten, all of it or up to where the disk is full (OSError)."""
        if self._size + len(self._unwritten) > LOG_BYTES_MAX and self._is_at_line:
            self._begin_file()
        while self._unwritten:
            count = self._file.write(self._unwritten)
            self._unwritten = self._unwritten[count:]
            self._size += count
            self._is_at_line = not self._unwritten

    def _begin_file(self) -> None:
        new = open(f"{self._path}.new", "ab", buffering=0)
        os.replace(self._path, f"{self._path}.1")
        os.replace(f"{self._path}.new", self._path)
        self._file.close()
        self._file, self._size = new, 0
