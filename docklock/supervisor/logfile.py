"""The container's log: Docker's json-file lines, in files that cannot grow without bound.

One line: {"log": text, "stream": "stdout"|"stderr", "time": RFC 3339 with nanoseconds, UTC}, and
"attrs" before the time if --log-opt asks for some. A line of the container longer than 16 KiB is
cut into several; text that is not UTF-8 is escaped with U+FFFD, as Docker does. At its limit the
file becomes container.log.1, what was that .2, and a new one begins. Where the disk is full, lines
wait here and whoever writes is to wait too (`is_waiting`): none is torn or lost
(tests/e2e/test_full_disk.py), unless mode=non-blocking asks for that.
"""

from __future__ import annotations

import os
import time

from chainlite.lean import TYPE_CHECKING
from docklock.evidence.full_disk import is_full, wait_for_room
from docklock.json_text import encode_json
from docklock.log_settings import DEFAULT, LogSettings, list_names

if TYPE_CHECKING:
    from typing import Protocol

    class Log(Protocol):
        """Where a container's output is kept."""

        is_blocking: bool

        @property
        def lost_lines(self) -> int:
            """How many lines it did not get."""

        @property
        def is_waiting(self) -> bool:
            """Whether it could not take all: write no more before `retry` has emptied it."""

        def write(self, stream: str, data: bytes) -> None:
            """Take what the container wrote to `stream`."""

        def retry(self) -> None:
            """Write what could not be written."""

        def close(self) -> None:
            """Write all there is."""


LINE_BYTES_MAX = 16_384
BLOCKS_MIN = 16  # lines that come together are written so if a file takes many such blocks
NANOSECONDS = 1_000_000_000


def format_time(time_ns: int) -> str:
    """Unix nanoseconds as Docker writes them: 2026-11-22T10:00:00.123456789Z."""
    seconds, fraction = divmod(time_ns, NANOSECONDS)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{fraction:09d}Z"


class LineCutter:
    """Cuts two streams into lines; keeps an unfinished one until it ends or `take_rest`."""

    def __init__(self) -> None:
        self._partial = {"stdout": b"", "stderr": b""}

    def cut(self, stream: str, data: bytes) -> list[bytes]:
        """The lines that `data` ends, with their ends; a long one in pieces without."""
        pieces = (self._partial[stream] + data).split(b"\n")
        last = pieces.pop()
        lines = [line for piece in pieces for line in _cut_long(piece + b"\n")]
        *longs, self._partial[stream] = _cut_long(last)
        return lines + longs

    def take_rest(self) -> list[tuple[str, bytes]]:
        """What no line's end followed, by stream."""
        rest = [(stream, data) for stream, data in self._partial.items() if data]
        self._partial = {"stdout": b"", "stderr": b""}
        return rest


def _cut_long(line: bytes) -> list[bytes]:
    """It, or its pieces of LINE_BYTES_MAX and what is left of it."""
    if len(line) <= LINE_BYTES_MAX:
        return [line]
    return [line[at : at + LINE_BYTES_MAX] for at in range(0, len(line), LINE_BYTES_MAX)]


class LogFile:
    """Append whole lines of two streams.

    Its unwritten bytes are bounded by what a caller that minds `is_waiting` gives it, or, if it is
    not blocking, by its settings.
    """

    def __init__(self, path: str, settings: LogSettings = DEFAULT) -> None:
        self._path = path
        self._settings = settings
        self._attributes = dict(settings.attributes)
        self._file = open(path, "ab", buffering=0)
        self._size = os.fstat(self._file.fileno()).st_size
        self._cutter = LineCutter()
        self._unwritten = b""
        self._is_at_line = True  # what is written ends with a whole line
        self.is_blocking = settings.is_blocking
        self.lost_lines = 0

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
        lines = self._cutter.cut(stream, data)
        if lines:
            self._write_lines(stream, lines)

    def close(self) -> None:
        """Write all there is; waits for room on the disk, if it is blocking."""
        for stream, rest in self._cutter.take_rest():
            self._write_lines(stream, [rest])
        if self.is_blocking:
            wait_for_room(self._flush)
        else:
            self.retry()
        self._file.close()

    def _write_lines(self, stream: str, lines: list[bytes]) -> None:
        now = format_time(time.time_ns())
        more = {"attrs": self._attributes} if self._attributes else {}
        blocks = [
            encode_json(
                {"log": line.decode("utf-8", "replace"), "stream": stream, **more, "time": now},
                is_spaced=True,
            ).encode()
            + b"\n"
            for line in lines
        ]
        if sum(map(len, blocks)) <= self._settings.max_bytes // BLOCKS_MIN:
            blocks = [b"".join(blocks)]
        for block in blocks:
            self._append(block)

    def _append(self, block: bytes) -> None:
        if not self.is_blocking and self._unwritten:
            self.retry()
            if len(self._unwritten) + len(block) > self._settings.buffer_bytes_max:
                self.lost_lines += block.count(b"\n")
                return
        self._unwritten += block
        self.retry()

    def _flush(self) -> None:
        """Write what is unwritten, all of it or up to where the disk is full (OSError)."""
        limit = self._settings.max_bytes
        is_over = limit and self._size and self._size + len(self._unwritten) > limit
        if is_over and self._is_at_line:
            self._begin_file()
        while self._unwritten:
            count = self._file.write(self._unwritten)
            self._unwritten = self._unwritten[count:]
            self._size += count
            self._is_at_line = not self._unwritten

    def _begin_file(self) -> None:
        new = open(f"{self._path}.new", "wb", buffering=0)
        names = list_names(self._path, self._settings.files_max - 1)
        for newer, older in zip(names[-2::-1], names[:0:-1], strict=True):
            try:
                os.replace(newer, older)
            except FileNotFoundError:
                continue  # there were fewer files yet
        os.replace(f"{self._path}.new", self._path)
        self._file.close()
        self._file, self._size = new, 0
