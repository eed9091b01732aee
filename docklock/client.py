"""Talk to supervisors: the only door for whoever watches or steers a running container.

A request that a supervisor refuses is raised as RefusedError, a StateError, with its words.
"""

from __future__ import annotations

import os
import signal
import socket
import time

from chainlite.errors import StateError
from chainlite.lean import TYPE_CHECKING
from docklock.lifecycle import is_live, socket_path
from docklock.paths import Paths
from docklock.supervisor.wire import MESSAGE, receive, send_message

if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import Any

ASK_AGAIN_S = 0.01
GONE_TEXT = "the container's supervisor has gone"


class GoneError(StateError):
    """No supervisor answers."""


def connect(paths: Paths, container_id: str) -> socket.socket:
    """A connection to the container's supervisor; StateError when none answers."""
    directory, name = os.path.split(socket_path(paths, container_id))
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            channel.connect(f"/proc/self/fd/{fd}/{name}")
        finally:
            os.close(fd)
    except (FileNotFoundError, ConnectionRefusedError):
        channel.close()
        raise GoneError(f"container {container_id[:12]} is not running") from None
    return channel


def request(
    channel: socket.socket, message: dict[str, Any], descriptors: tuple[int, ...] = ()
) -> None:
    """Send a request and wait for `ok`. StateError if it is refused, or nobody is there."""
    try:
        send_message(channel, message, descriptors)
    except ConnectionError:
        raise GoneError(GONE_TEXT) from None
    reply = wait_event(channel, ("ok", "error"))
    if reply["event"] == "error":
        from docklock.errors import RefusedError

        raise RefusedError(str(reply["message"]), str(reply.get("why")))


def wait_event(channel: _socket.socket, events: tuple[str, ...]) -> dict[str, Any]:
    """The next event named in `events`; StateError when the supervisor goes away first."""
    while True:
        packet = receive(channel)
        if packet.kind < 0:
            raise GoneError(GONE_TEXT)
        if packet.kind == MESSAGE:
            message = packet.get_message()
            if message.get("event") in events:
                return message


def end(paths: Paths, container_id: str, ask: Callable[[socket.socket], None]) -> None:
    """Have its supervisor end the container with `ask`; returns once it is gone.

    A supervisor that is beginning or ending does not answer for a moment: then it is asked again.
    What else `ask` raises ends it: a host whose key is sealed cannot log what it is to do.
    """
    from docklock.errors import RefusedError

    while is_live(paths, container_id):
        try:
            with connect(paths, container_id) as channel:
                request(channel, {"verb": "wait"})
                ask(channel)
        except (GoneError, RefusedError):
            time.sleep(ASK_AGAIN_S)


def kill(paths: Paths, container_id: str) -> None:
    """SIGKILL to the container, on its record alone; returns once it is gone."""

    def ask(channel: socket.socket) -> None:
        request(channel, {"verb": "signal", "signal": int(signal.SIGKILL)})
        wait_exit(channel)

    end(paths, container_id, ask)


def send_signal(paths: Paths, container_id: str, number: int) -> None:
    """Signal the container's init, on record."""
    with connect(paths, container_id) as channel:
        request_signal(channel, paths, container_id, number)


def request_signal(
    channel: socket.socket,
    paths: Paths,
    container_id: str,
    number: int,
    *,
    is_to_end: bool = False,
) -> None:
    """As send_signal, on a connection that is there; the host log's leaf comes first.

    `is_to_end`: whichever signal it is, the container shall stay ended.
    """
    from docklock.evidence.operations import record_operation

    record_operation(paths, "signal", container_id, (("signal", str(number)),))
    more = {"is_to_end": True} if is_to_end else {}
    request(channel, {"verb": "signal", "signal": number, **more})


def flush(paths: Paths, container_id: str) -> None:
    """Have a running container's receipts written so far made durable; nothing if none runs."""
    try:
        with connect(paths, container_id) as channel:
            request(channel, {"verb": "flush"})
    except StateError:
        pass  # it has ended, and its end is durable


def read_counts(paths: Paths, container_id: str, timeout_s: float) -> dict[str, Any]:
    """What a running container's guard has counted (the verb `counts`). StateError if it does not
    say so in time."""
    try:
        with connect(paths, container_id) as channel:
            channel.settimeout(timeout_s)
            send_message(channel, {"verb": "counts"})
            reply = wait_event(channel, ("counts", "error"))
    except (TimeoutError, ConnectionError, BlockingIOError):
        raise StateError(f"container {container_id[:12]}: its supervisor does not answer") from None
    if reply["event"] == "error":  # one that began before an update knows no such verb
        raise StateError(str(reply["message"]))
    return reply


def wait_exit(channel: socket.socket, timeout_s: float | None = None) -> int | None:
    """The exit code once the container has ended; None when the time ran out."""
    channel.settimeout(timeout_s)
    try:
        return int(wait_event(channel, ("exit",))["exit_code"])
    except (TimeoutError, BlockingIOError):  # the second for a timeout of 0
        return None
    finally:
        channel.settimeout(None)
