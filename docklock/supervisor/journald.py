"""The log driver journald: each line an entry of the host's journal, with Docker's fields.

And, unless cache-disabled=true, in a file that `docklock logs` reads, as Docker keeps one for what
it cannot read back. Loaded for containers that ask for it. A journal that is busy is waited for;
one that is not there, or refuses, loses lines, which are counted. Not here: the agent's own log
(agent/journal.py). Source: systemd.io/JOURNAL_NATIVE_PROTOCOL; docker.com, journald logging driver.
"""

from __future__ import annotations

import errno
import os
import time

from chainlite.lean import TYPE_CHECKING
from docklock.bare import deque, socket
from docklock.log_settings import JOURNAL_SOCKET
from docklock.supervisor.logfile import LineCutter, LogFile

if TYPE_CHECKING:
    from docklock.lifecycle import Container
    from docklock.log_settings import LogSettings

PRIORITIES = {"stdout": 6, "stderr": 3}
SHORT_ID = 12
CLOSE_WAIT_S = 2.0
CLOSE_STEP_S = 0.02
SEND_BYTES = 1 << 20
_BUSY = (errno.EAGAIN, errno.ENOBUFS)
_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_TAG = "tag"
_OF_EACH_LINE = (
    "CONTAINER_LOG_EPOCH", "CONTAINER_LOG_ORDINAL", "CONTAINER_PARTIAL_MESSAGE", "MESSAGE",
    "PRIORITY",
)  # fmt: skip


class JournalLog:
    """Sends lines to the journal at `path`; what it does not take at once waits here."""

    def __init__(
        self,
        container: Container,
        settings: LogSettings,
        cache: LogFile | None,
        path: str = JOURNAL_SOCKET,
    ) -> None:
        self._path, self._settings, self._cache = path, settings, cache
        self._cutter = LineCutter()
        self._fields = encode_fields(container, settings)
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = self._count = 0
        self._epoch = os.urandom(16).hex().encode()
        self._lost = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        self.is_blocking = settings.is_blocking

    @property
    def lost_lines(self) -> int:
        """How many lines the journal, or the file, did not get."""
        return self._lost + (0 if self._cache is None else self._cache.lost_lines)

    @property
    def is_waiting(self) -> bool:
        """Whether the journal was busy, or the disk full."""
        return bool(self._unsent) or (self._cache is not None and self._cache.is_waiting)

    def retry(self) -> None:
        """Send and write what waits."""
        while self._unsent and self._send(self._unsent[0]):
            self._unsent_bytes -= len(self._unsent.popleft())
        if self._cache is not None:
            self._cache.retry()

    def write(self, stream: str, data: bytes) -> None:
        """Take what the container wrote to `stream`."""
        for line in self._cutter.cut(stream, data):
            self._take(stream, line, is_part=not line.endswith(b"\n"))
        if self._cache is not None:
            self._cache.write(stream, data)

    def close(self) -> None:
        """Send all there is, waiting a little for a busy journal; the file waits for room."""
        for stream, rest in self._cutter.take_rest():
            self._take(stream, rest, is_part=False)
        deadline = time.monotonic() + CLOSE_WAIT_S
        self.retry()
        while self._unsent and time.monotonic() < deadline:
            time.sleep(CLOSE_STEP_S)
            self.retry()
        self._lost += len(self._unsent)
        self._socket.close()
        if self._cache is not None:
            self._cache.close()

    def _take(self, stream: str, line: bytes, *, is_part: bool) -> None:
        self._count += 1
        entry = b"".join(
            (
                self._fields,
                encode_field("PRIORITY", str(PRIORITIES[stream]).encode()),
                encode_field("CONTAINER_LOG_EPOCH", self._epoch),
                encode_field("CONTAINER_LOG_ORDINAL", str(self._count).encode()),
                encode_field("CONTAINER_PARTIAL_MESSAGE", b"true") if is_part else b"",
                encode_field("MESSAGE", line.removesuffix(b"\n")),
            )
        )
        if not self._unsent and self._send(entry):
            return
        if not self.is_blocking and self._unsent_bytes + len(entry) > (
            self._settings.buffer_bytes_max
        ):
            self._lost += 1
            return
        self._unsent.append(entry)
        self._unsent_bytes += len(entry)

    def _send(self, entry: bytes) -> bool:
        """Whether the entry needs no more care: it is sent, or lost."""
        try:
            self._socket.sendto(entry, self._path)
        except OSError as error:
            if error.errno in _BUSY:
                return False
            self._lost += 1
        return True


def encode_fields(container: Container, settings: LogSettings) -> bytes:
    """What is the same of each entry: Docker's fields, then those that --log-opt asks for."""
    attributes = dict(settings.attributes)
    tag = attributes.pop(_TAG, container.id[:SHORT_ID])
    fields = {
        "CONTAINER_ID": container.id[:SHORT_ID],
        "CONTAINER_ID_FULL": container.id,
        "CONTAINER_NAME": container.name,
        "CONTAINER_TAG": tag,
        "IMAGE_NAME": container.image,
        "SYSLOG_IDENTIFIER": tag,
    }
    for name, value in attributes.items():
        word = "".join(letter if letter in _LETTERS else "_" for letter in name.upper())
        word = word.lstrip("_")  # those that begin with one are journald's own
        if word and word not in _OF_EACH_LINE:
            fields.setdefault(word, value)
    return b"".join(
        encode_field(name, value.encode("utf-8", "replace")) for name, value in fields.items()
    )


def encode_field(name: str, value: bytes) -> bytes:
    """NAME=value, or, where the value has a line's end, its name, its length and it."""
    if b"\n" in value:
        return name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
    return name.encode() + b"=" + value + b"\n"
