"""The supervisor's side of its control socket: clients, their requests, their events.

Requests and events: wire.py. A request that is malformed or refused gets an `error` event, changes
nothing and is on record.
"""

from __future__ import annotations

import os
import select

from chainlite.errors import DocklockError
from chainlite.lean import TYPE_CHECKING, Protocol
from docklock.bare import socket
from docklock.errors import get_why
from docklock.evidence.figures import describe
from docklock.supervisor.loop import Loop
from docklock.supervisor.stdio import Output
from docklock.supervisor.wire import (
    GONE,
    MESSAGE,
    STDIN,
    Packet,
    receive,
    send_message,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from docklock.supervisor.steering import Steering

CLIENTS_MAX = 256
BACKLOG = 64
VERBS = frozenset(
    ("attach", "counts", "figures", "flush", "listener", "pause", "quarantine", "release")
    + ("resize", "signal", "start", "unpause", "update", "wait")
)
UNKNOWN, MALFORMED = "unknown", "malformed"


class Requests(Protocol):
    """What a client may ask of a supervisor; each raises DocklockError when it cannot be done."""

    output: Output

    def start(self) -> None: ...

    def signal(self, number: int, *, is_to_end: bool) -> None: ...

    def add_listener(self, listener: int, argv: list[str]) -> None: ...

    def flush(self, upon_done: Callable[[], None]) -> None: ...

    def write_input(self, data: bytes) -> None: ...

    def resize(self, rows: int, columns: int) -> None: ...

    def steer(self) -> Steering: ...

    def update(self, asked: dict[str, Any]) -> None: ...

    def deny(self, verb: str, why: str) -> None: ...

    def count(self) -> dict[str, Any]: ...


class Control:
    """Accepts clients and serves their requests. Owns the sockets."""

    def __init__(self, loop: Loop, requests: Requests, path: str) -> None:
        self._loop = loop
        self._requests = requests
        self._path = path
        self._clients: dict[int, socket.socket] = {}
        self._waiting: set[int] = set()
        self._counting: set[int] = set()  # those who also get the figures, at the latest at the end
        self._listening = socket.socket(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK
        )
        self._bind()
        loop.watch(self._listening.fileno(), self._accept)

    def _bind(self) -> None:
        """Bind through the directory's descriptor: socket paths hold 107 bytes."""
        directory, name = os.path.split(self._path)
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if os.path.lexists(self._path):
                os.unlink(self._path)  # left by a dead supervisor: we hold the container's lock
            self._listening.bind(f"/proc/self/fd/{fd}/{name}")
        finally:
            os.close(fd)
        self._listening.listen(BACKLOG)

    def add_client(self, client: socket.socket, *, attach: bool) -> None:
        """Serve `client`; `attach` also sends it the container's output and exit."""
        client.setblocking(False)
        fd = client.fileno()
        self._clients[fd] = client
        if attach:
            self._requests.output.attach(client)
            self._waiting.add(fd)
        self._watch(client)

    def _watch(self, client: socket.socket) -> None:
        self._loop.watch(client.fileno(), lambda mask: self._serve(client, mask))

    def move(self, loop: Loop, requests: Requests) -> None:
        """Go on in another loop for another owner; clients that are attached get its output."""
        attached = [
            client for client in self._clients.values() if self._requests.output.is_attached(client)
        ]
        self._loop, self._requests = loop, requests
        loop.watch(self._listening.fileno(), self._accept)
        for client in self._clients.values():
            self._watch(client)
        for client in attached:
            requests.output.attach(client)

    def announce(self, event: dict[str, Any]) -> None:
        """Send an event to every client that waits."""
        is_end = event["event"] == "exit"
        for fd in list(self._waiting):
            if is_end and fd in self._counting:
                self._send(self._clients[fd], {"event": "figures", "figures": describe()})
            self._send(self._clients[fd], event)

    def stop_listening(self) -> None:
        """Take no more clients; those that wait still get their last event."""
        self._loop.unwatch(self._listening.fileno())
        self._listening.close()
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass

    def _accept(self, _mask: int) -> None:
        try:
            fd, _ = self._listening._accept()  # type: ignore[attr-defined]
        except (BlockingIOError, ConnectionAbortedError):
            return
        if len(self._clients) >= CLIENTS_MAX:
            os.close(fd)
            return
        self.add_client(socket.socket(fileno=fd), attach=False)

    def _serve(self, client: socket.socket, mask: int) -> None:
        if mask & select.EPOLLOUT:
            self._requests.output.flush(client)
        if not mask & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            return
        try:
            packet = receive(client)
        except BlockingIOError:
            return
        if packet is GONE or packet.kind < 0:
            self._drop(client)
        elif packet.kind == STDIN:
            self._requests.write_input(packet.payload)
        elif packet.kind == MESSAGE:
            self._answer(client, packet)

    def _answer(self, client: socket.socket, packet: Packet) -> None:
        try:
            reply = self._handle(client, packet)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            reply = self._refuse(packet, f"malformed request: {error!r}", MALFORMED, 2)
        except DocklockError as error:
            reply = self._refuse(packet, str(error), get_why(error), error.exit_code)
        if reply:
            self._send(client, reply)

    def _refuse(self, packet: Packet, message: str, why: str, code: int) -> dict[str, Any]:
        self._requests.deny(get_verb(packet), why)
        return {"event": "error", "message": message, "exit_code": code, "why": why}

    def _handle(self, client: socket.socket, packet: Packet) -> dict[str, Any]:
        message = packet.get_message()
        verb = message["verb"]
        if verb == "start":
            self._requests.start()
        elif verb == "signal":
            is_to_end = message.get("is_to_end") is True
            self._requests.signal(int(message["signal"]), is_to_end=is_to_end)
        elif verb == "listener":
            self._requests.add_listener(
                packet.descriptors[0], [str(word) for word in message["argv"]]
            )
        elif verb == "resize":
            self._requests.resize(int(message["rows"]), int(message["columns"]))
        elif verb in ("pause", "unpause"):
            self._requests.steer().set_paused(is_paused=verb == "pause")
        elif verb in ("quarantine", "release"):
            self._requests.steer().set_quarantined(is_quarantined=verb == "quarantine")
        elif verb == "update":
            self._requests.update(message)
        elif verb == "flush":
            self._requests.flush(lambda: self._send(client, {"event": "ok"}))
            return {}
        elif verb == "wait":
            self._waiting.add(client.fileno())
            if message.get("figures"):
                self._counting.add(client.fileno())
                return {"event": "ok", "figures": True}
        elif verb == "figures":
            return {"event": "figures", "figures": describe()}
        elif verb == "counts":
            return {"event": "counts", **self._requests.count()}
        elif verb == "attach":
            self._requests.output.attach(client)
            self._waiting.add(client.fileno())
        else:
            raise ValueError(f"verb {verb!r}")
        return {"event": "ok"}

    def _send(self, client: socket.socket, event: dict[str, Any]) -> None:
        try:
            send_message(client, event)
        except OSError:  # gone, or not reading its answers: either way no client of ours
            self._drop(client)

    def _drop(self, client: socket.socket) -> None:
        fd = client.fileno()
        if self._clients.pop(fd, None) is None:
            return
        self._waiting.discard(fd)
        self._counting.discard(fd)
        self._loop.unwatch(fd)
        self._requests.output.detach(client)
        client.close()


def get_verb(packet: Packet) -> str:
    """The verb of a request as it goes on record: one of VERBS, or `unknown`."""
    try:
        verb = packet.get_message().get("verb")
    except ValueError:
        return UNKNOWN
    return verb if isinstance(verb, str) and verb in VERBS else UNKNOWN
