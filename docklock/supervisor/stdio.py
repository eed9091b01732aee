"""Move the container's output to its log and to whoever is attached; feed its input.

An attached client that does not read slows the container down (as with Docker) and costs bounded
memory: while a client has unsent packets, the pipes are not read. A client that goes away is
dropped. A full disk slows the container down as well: no line of its log is lost. Not here: what is
a terminal's own (terminal.py).
"""

from __future__ import annotations

import errno
import os

from chainlite.lean import TYPE_CHECKING, NamedTuple
from docklock.bare import deque, socket
from docklock.json_text import encode_json
from docklock.supervisor.loop import READ, WRITE, Loop
from docklock.supervisor.wire import MESSAGE, STDERR, STDOUT, send_data

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.supervisor.logfile import Log

READ_BYTES = 32_768
INPUT_BYTES_MAX = 1 << 20  # then senders are told to wait
LOG_RETRY_S = 0.2
DRAIN_LIMIT_S = 2.0  # how long output of a dead program may take to reach its clients
STREAMS = {STDOUT: "stdout", STDERR: "stderr"}


class Ends(NamedTuple):
    """The container's stdio, and our ends of it: -1 where there is none."""

    theirs: tuple[int, int, int]
    input_fd: int = -1
    output_fd: int = -1
    error_fd: int = -1


def make_ends(*, stdin_open: bool, tty: bool) -> Ends:
    """Pipes for a container's stdio; /dev/null for a stdin that is not open.

    With `tty` /dev/null for all three: its child puts its terminal there.
    """
    if tty:
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        return Ends((null, null, null))
    output_read, output_write = os.pipe2(os.O_CLOEXEC)
    error_read, error_write = os.pipe2(os.O_CLOEXEC)
    if stdin_open:
        input_read, input_write = os.pipe2(os.O_CLOEXEC)
    else:
        input_read, input_write = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), -1
    return Ends((input_read, output_write, error_write), input_write, output_read, error_read)


class Output:
    """The read ends of the container's stdout and stderr, its log, its attached clients.

    The end of a terminal's output is EIO.
    """

    def __init__(self, loop: Loop, log: Log | None) -> None:
        self._loop = loop
        self._log = log
        self._pipes: dict[int, int] = {}  # fd -> kind
        self._unsent: dict[socket.socket, deque[tuple[int, bytes]]] = {}
        self._is_log_waiting = False

    @property
    def is_done(self) -> bool:
        """True when both pipes have ended and every client has what was read."""
        return not self._pipes and not any(self._unsent.values())

    def add_pipe(self, fd: int, kind: int) -> None:
        os.set_blocking(fd, False)
        self._pipes[fd] = kind
        self._watch(fd)

    def attach(self, client: socket.socket) -> None:
        """Send all further output to the non-blocking `client` as well."""
        self._unsent[client] = deque()

    def detach(self, client: socket.socket) -> None:
        if self._unsent.pop(client, None) is not None:
            self._resume_if_clear()

    def flush(self, client: socket.socket) -> None:
        """Send what `client` could not take before; the caller watches it for READ otherwise."""
        queue = self._unsent.get(client)
        if queue is None:
            return
        while queue:
            try:
                send_data(client, *queue[0])
            except BlockingIOError:
                return
            except OSError:
                self.detach(client)
                return
            queue.popleft()
        self._resume_if_clear()

    def is_attached(self, client: socket.socket) -> bool:
        return client in self._unsent

    def tell_full(self, is_full: bool) -> None:  # noqa: FBT001 - a callback's word
        """Have attached clients wait with input, or go on. It comes after the output before it."""
        data = encode_json({"event": "full" if is_full else "room"}).encode()
        for client, queue in list(self._unsent.items()):
            queue.append((MESSAGE, data))
            self.flush(client)
        if self._is_held_up:
            self._pause()

    def has_unsent(self, client: socket.socket) -> bool:
        return bool(self._unsent.get(client))

    def read_rest(self) -> None:
        """Read what is in the pipes now: the container has ended."""
        for fd in list(self._pipes):
            while fd in self._pipes and self._read(fd):
                pass

    def close(self) -> None:
        for fd in list(self._pipes):
            self._close_pipe(fd)
        if self._log is not None:
            self._log.close()

    def _read(self, fd: int) -> bool:
        """Pass on what is there; False when there is nothing now, or no more at all."""
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""
        if not data:
            self._close_pipe(fd)
            return False
        kind = self._pipes[fd]
        if self._log is not None:
            self._write_log(kind, data)
        for client, queue in list(self._unsent.items()):
            queue.append((kind, data))
            self.flush(client)
        if self._is_held_up:
            self._pause()
        return True

    @property
    def lost_lines(self) -> int:
        """How many lines the log did not get."""
        return 0 if self._log is None else self._log.lost_lines

    @property
    def _is_held_up(self) -> bool:
        is_log_waited_for = self._log is not None and self._log.is_blocking and self._is_log_waiting
        return is_log_waited_for or any(self._unsent.values())

    def _write_log(self, kind: int, data: bytes) -> None:
        assert self._log is not None
        self._log.write(STREAMS[kind], data)
        if self._log.is_waiting and not self._is_log_waiting:
            self._is_log_waiting = True
            self._loop.call_later(LOG_RETRY_S, self._retry_log)

    def _retry_log(self) -> None:
        assert self._log is not None
        self._log.retry()
        if self._log.is_waiting:
            self._loop.call_later(LOG_RETRY_S, self._retry_log)
            return
        self._is_log_waiting = False
        self._resume_if_clear()

    def _watch(self, fd: int) -> None:
        def upon_ready(_mask: int) -> None:
            self._read(fd)

        self._loop.watch(fd, upon_ready)

    def _pause(self) -> None:
        for fd in self._pipes:
            self._loop.unwatch(fd)
        for client, queue in self._unsent.items():
            if queue:
                self._loop.watch_also(client.fileno(), WRITE)

    def _resume_if_clear(self) -> None:
        if self._is_held_up:
            return
        for client in self._unsent:
            self._loop.watch_only(client.fileno(), READ)
        for fd in self._pipes:
            if not self._loop.is_watched(fd):
                self._watch(fd)

    def _close_pipe(self, fd: int) -> None:
        self._loop.unwatch(fd)
        del self._pipes[fd]
        os.close(fd)


class Input:
    """The write end of the container's stdin, with what it has not taken yet."""

    def __init__(self, loop: Loop, fd: int) -> None:
        os.set_blocking(fd, False)
        self._loop = loop
        self._fd = fd
        self._unwritten = bytearray()
        self._is_ended = self._is_full = False
        self._upon_full: Callable[[bool], None] = lambda _: None

    @property
    def is_closed(self) -> bool:
        return self._fd < 0

    def set_upon_full(self, upon_full: Callable[[bool], None]) -> None:
        """Call it when senders are to wait (True), and when they may go on (False)."""
        self._upon_full = upon_full

    def write(self, data: bytes) -> None:
        """Queue `data`; empty data ends the input."""
        if self._fd < 0:
            return
        if data:
            self._unwritten += data
        else:
            self._is_ended = True
        self._flush()

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.unwatch(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._unwritten.clear()
            self._tell_full()

    def _tell_full(self) -> None:
        limit = INPUT_BYTES_MAX // 2 if self._is_full else INPUT_BYTES_MAX
        is_full = len(self._unwritten) >= limit
        if is_full != self._is_full:
            self._is_full = is_full
            self._upon_full(is_full)

    def _flush(self, _mask: int = 0) -> None:
        self._write_some()
        self._tell_full()

    def _write_some(self) -> None:
        try:
            while self._unwritten:
                count = os.write(self._fd, self._unwritten[:READ_BYTES])
                del self._unwritten[:count]
        except BlockingIOError:
            self._loop.watch(self._fd, self._flush, WRITE)
            return
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            self.close()
            return
        self._loop.unwatch(self._fd)
        if self._is_ended:
            self.close()
