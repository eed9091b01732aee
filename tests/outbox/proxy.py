"""A line between a host and a server that a test breaks after so many bytes, either way."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import NamedTuple, Self

STEP = 4096
UP, DOWN = "up", "down"


class Break(NamedTuple):
    """Once so many bytes have passed in a direction, none passes any more, and `act` is done."""

    direction: str
    after_bytes: int
    act: Callable[[], object]


class Proxy:
    """Listens on a port of this machine for a server on another; `set_break` says when to break."""

    def __init__(self, port: int) -> None:
        self._to = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._break: Break | None = None
        self._passed = 0
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.breaks = 0

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self.cut()
        for thread in self._threads:
            thread.join()

    def set_break(self, one: Break | None) -> None:
        with self._lock:
            self._break, self._passed = one, 0

    def cut(self) -> None:
        """All connections end."""
        with self._lock:
            for one in self._open:
                shut(one)

    def _accept(self) -> None:
        while True:
            try:
                inner, _ = self._listener.accept()
            except OSError:
                return
            try:
                outer = socket.create_connection(self._to)
            except OSError:
                inner.close()  # the server is down
                continue
            with self._lock:
                self._open |= {inner, outer}
            thread = threading.Thread(target=self._carry, args=(inner, outer))
            self._threads.append(thread)
            thread.start()

    def _carry(self, inner: socket.socket, outer: socket.socket) -> None:
        """One connection, both ways."""
        down = threading.Thread(target=self._pass, args=(DOWN, outer, inner))
        down.start()
        self._pass(UP, inner, outer)
        down.join()
        with self._lock:
            self._open -= {inner, outer}
        inner.close()
        outer.close()

    def _pass(self, direction: str, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(STEP):
                left, one = self._count(direction, len(data))
                target.sendall(data[:left])
                if one is not None:
                    one.act()
                    break
        except OSError:
            pass  # the other end has gone
        shut(source)
        shut(target)

    def _count(self, direction: str, size: int) -> tuple[int, Break | None]:
        """How many bytes may pass, and the break that is due then."""
        with self._lock:
            one = self._break
            if one is None or one.direction != direction:
                return size, None
            left = one.after_bytes - self._passed
            self._passed += size
            if left > size:
                return size, None
            self._break = None
            self.breaks += 1
            return left, one


def shut(one: socket.socket) -> None:
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is gone already
