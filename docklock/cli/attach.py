"""The front end's half of an attached container: copy its streams, pass signals on, wait."""

from __future__ import annotations

import os
import select
import sys

from chainlite.errors import StateError
from chainlite.lean import TYPE_CHECKING
from docklock.bare import signal, socket
from docklock.paths import Paths
from docklock.supervisor.wire import (
    MESSAGE,
    STDERR,
    STDIN,
    STDOUT,
    Packet,
    receive,
    send_data,
    send_message,
)

if TYPE_CHECKING:
    from typing import Any

READ_BYTES = 32_768
PROXIED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def follow(
    channel: socket.socket, paths: Paths, container_id: str, *, interactive: bool, proxy: bool
) -> int:
    """Copy until the container ends; its exit code. With `proxy`, signals go to the container."""
    if proxy:
        for number in PROXIED:
            signal.signal(number, lambda n, _frame: _pass_signal(channel, n))
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    if interactive:
        poll.register(0, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == 0:
                data = os.read(0, READ_BYTES)
                send_data(channel, STDIN, data)
                if not data:
                    poll.unregister(0)
                continue
            packet = receive(channel)
            if packet.kind < 0:
                return _upon_lost(paths, container_id)
            event = _take(packet)
            if event.get("event") in ("exit", "error"):
                return _report(event)


def wait_created(channel: socket.socket) -> dict[str, Any]:
    """The event that ends the start of a detached container: `started`, or its failure."""
    while True:
        packet = receive(channel)
        if packet.kind < 0:
            raise StateError("the container's supervisor ended before the container started")
        if packet.kind == MESSAGE:
            event = packet.get_message()
            if event.get("event") in ("started", "exit", "error"):
                return event


def _take(packet: Packet) -> dict[str, Any]:
    if packet.kind == MESSAGE:
        return packet.get_message()
    target = {STDOUT: 1, STDERR: 2}.get(packet.kind)
    data = packet.payload
    while target is not None and data:
        data = data[os.write(target, data) :]
    return {}


def _report(event: dict[str, Any]) -> int:
    if event.get("message"):
        print(f"docklock: {event['message']}", file=sys.stderr)
    return int(event["exit_code"])


def _upon_lost(paths: Paths, container_id: str) -> int:
    """The supervisor was killed, so the container was: mend at once and say so."""
    from docklock.repair import EXIT_KILLED, repair

    repair(paths)  # it waits for a worker that is still killing
    print(
        f"docklock: the supervisor of {container_id[:12]} was killed; the container was killed "
        "and the gap in its evidence signed",
        file=sys.stderr,
    )
    return EXIT_KILLED


def _pass_signal(channel: socket.socket, number: int) -> None:
    try:
        send_message(channel, {"verb": "signal", "signal": number})
    except OSError:
        pass  # the container has ended; its exit event is on the way
