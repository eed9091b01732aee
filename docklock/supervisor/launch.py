"""Fork a supervisor early, and hand it its container later.

A supervisor needs many modules; so does the front end that makes the container. Forked as the first
thing, both load theirs at the same time on two cores. The hand-over is one packet: the container's
id, and its lock as a descriptor; all else the supervisor reads from the container's directory, as
it would for any later run. A front end that ends without handing anything over ends it too.
"""

from __future__ import annotations

import os
import socket

from docklock.paths import Paths
from docklock.supervisor.wire import make_pair, receive, send_message

_forked: list[socket.socket] = []


def fork_early() -> None:
    """Fork a supervisor for the next `launch` of this process. Call while it has one thread."""
    _forked.append(_fork())


def launch(
    paths: Paths, container_id: str, live_fd: int, *, run: int, start_at_once: bool
) -> socket.socket:
    """Give the container to a supervisor; a channel that carries its events and output.

    The lock passes to the supervisor; this process's descriptor of it is closed.
    """
    channel = _forked.pop() if _forked else _fork()
    message = {
        "state": paths.state, "run_dir": paths.run, "id": container_id, "run": run,
        "start": start_at_once,
    }
    send_message(channel, message, (live_fd,))
    os.close(live_fd)
    return channel


def _fork() -> socket.socket:
    ours, theirs = make_pair()
    if os.fork() == 0:
        code = 1
        try:
            ours.close()
            _wait_for_task(theirs)
            code = 0
        finally:
            os._exit(code)
    theirs.close()
    return ours


def _wait_for_task(channel: socket.socket) -> None:
    from docklock.evidence import recorder  # noqa: F401 - loaded now, used by run_supervisor
    from docklock.supervisor.main import run_supervisor

    packet = receive(channel)
    if packet.kind < 0:
        return
    message = packet.get_message()
    paths = Paths(message["state"], message["run_dir"])
    run_supervisor(
        paths, message["id"], run=message["run"], is_started_at_once=message["start"],
        channel=channel,
    )
