"""Fork a supervisor early, and hand it its container later.

A supervisor needs many modules; so does the front end that makes the container. Forked as the first
thing, both load theirs at the same time on two cores. The hand-over is one packet: the container's
id, and its lock as a descriptor; all else the supervisor reads from the container's directory, as
it would for any later run. A front end that ends without handing anything over ends it too.
"""

from __future__ import annotations

import os

# Nothing more up here: fork_early is called before anything else is imported (8 ms each).
TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket as socket

    from docklock.paths import Paths

_forked: list[int] = []


def fork_early() -> None:
    """Fork a supervisor for the next `launch` of this process. Call while it has one thread."""
    _forked.append(_fork())


def launch(
    paths: Paths, container_id: str, live_fd: int, *, run: int, start_at_once: bool
) -> socket.socket:
    """Give the container to a supervisor; a channel that carries its events and output.

    The lock passes to the supervisor; this process's descriptor of it is closed.
    """
    import _socket as socket

    from docklock.supervisor.wire import send_message

    channel = socket.socket(fileno=_forked.pop() if _forked else _fork())
    message = {
        "state": paths.state,
        "run_dir": paths.run,
        "id": container_id,
        "run": run,
        "start": start_at_once,
    }
    send_message(channel, message, (live_fd,))
    os.close(live_fd)
    return channel


def _fork() -> int:
    """Our end of a channel to the new process."""
    from _socket import AF_UNIX, SOCK_SEQPACKET, socketpair

    ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
    if os.fork() == 0:
        code = 1
        try:
            ours.close()
            _wait_for_task(theirs.detach())
            code = 0
        finally:
            os._exit(code)
    theirs.close()
    return ours.detach()


def _wait_for_task(channel_fd: int) -> None:
    import _socket as socket

    # Loaded now, while the front end makes the container; run_supervisor and `begin` use them.
    from chainlite import sodium
    from docklock.evidence import keyring, recorder  # noqa: F401
    from docklock.paths import Paths
    from docklock.policy import shipped  # noqa: F401
    from docklock.supervisor import worker  # noqa: F401
    from docklock.supervisor.guard import run_supervisor
    from docklock.supervisor.wire import receive

    channel = socket.socket(fileno=channel_fd)
    sodium.prepare()
    packet = receive(channel)
    if packet.kind < 0:
        return
    message = packet.get_message()
    paths = Paths(message["state"], message["run_dir"])
    run_supervisor(
        paths,
        message["id"],
        run=message["run"],
        is_started_at_once=message["start"],
        channel=channel,
        live_fd=packet.descriptors[0],
    )
