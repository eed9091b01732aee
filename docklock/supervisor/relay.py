"""Between one front end and one exec'd program with a terminal, until the program ends.

It speaks the supervisor's packets (wire.py), so that the front end follows both alike: stdin,
`resize` and `signal` come in, stdout goes out. A front end that goes away leaves the program
running. Not here: the program's start (docklock.cli.exec), the gate (the container's supervisor).
"""

from __future__ import annotations

import time

from chainlite.lean import TYPE_CHECKING
from docklock.bare import signal, socket
from docklock.supervisor.loop import WRITE, Loop
from docklock.supervisor.stdio import DRAIN_LIMIT_S, Output
from docklock.supervisor.terminal import Terminal, wait_exit_code
from docklock.supervisor.wire import MESSAGE, STDIN, receive, send_message

if TYPE_CHECKING:
    from typing import Any


class Relay:
    """Owns the master and the front end's channel; `pidfd` is the program, a child of ours."""

    def __init__(
        self, channel: socket.socket, pidfd: int, master: int, *, takes_input: bool
    ) -> None:
        self._loop = Loop()
        self._channel = channel
        self._pidfd = pidfd
        self._exit_code: int | None = None
        self._output = Output(self._loop, None)
        self._terminal = Terminal(self._loop, self._output, master, takes_input=takes_input)
        self._terminal.set_upon_full(self._output.tell_full)
        channel.setblocking(False)
        self._output.attach(channel)
        self._loop.watch(channel.fileno(), self._serve)
        self._loop.watch(pidfd, self._upon_exit)

    def run(self) -> int:
        """The program's exit code, 128+n after signal n, once its output is delivered."""
        self._loop.run_while(lambda: self._exit_code is None)
        self._output.read_rest()
        deadline = time.monotonic() + DRAIN_LIMIT_S
        while not self._output.is_done and time.monotonic() < deadline:
            self._loop.run_once(0.05)
        assert self._exit_code is not None
        return self._exit_code

    def _serve(self, mask: int) -> None:
        if mask & WRITE:
            self._output.flush(self._channel)
        if mask & ~WRITE:
            try:
                packet = receive(self._channel)
            except BlockingIOError:
                return
            if packet.kind < 0:
                self._loop.unwatch(self._channel.fileno())
                self._output.detach(self._channel)
            elif packet.kind == STDIN:
                self._terminal.write(packet.payload)
            elif packet.kind == MESSAGE:
                self._obey(packet.get_message())

    def _obey(self, message: dict[str, Any]) -> None:
        if message["verb"] == "resize":
            self._terminal.resize(int(message["rows"]), int(message["columns"]))
        elif message["verb"] == "signal" and self._exit_code is None:
            signal.pidfd_send_signal(self._pidfd, int(message["signal"]))

    def _upon_exit(self, _mask: int) -> None:
        self._loop.unwatch(self._pidfd)
        self._exit_code = wait_exit_code(self._pidfd)


def tell(channel: socket.socket, event: dict[str, Any]) -> None:
    """Send a relay's event; nothing happens if the client has gone or does not read."""
    channel.settimeout(DRAIN_LIMIT_S)
    try:
        send_message(channel, event)
    except OSError:
        pass
