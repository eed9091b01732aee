"""Get a supervisor early, and hand it its container later.

A supervisor needs many modules; so does the front end that makes the container. Asked for as the
first thing, both load theirs at the same time on two cores; where a spawner runs (spawner.py), it
forks one that has loaded them. The hand-over is one packet: the container's id, and its lock as a
descriptor; all else the supervisor reads from the container's directory, as it would for any later
run. A front end that ends without handing anything over ends it too.
"""

from __future__ import annotations

import os

# Nothing more up here: prepare is called before anything else is imported (8 ms each).
TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket as socket

    from docklock.paths import Paths
    from docklock.supervisor.wire import Packet
    from docklock.supervisor.worker import Worker

ENVIRONMENT = ("DOCKLOCK_ROOT", "DOCKLOCK_RUNROOT", "CREDENTIALS_DIRECTORY")  # what is read of it
_asked: list[int] = []  # our end of a channel to what a spawner was asked to fork
_forked: list[int] = []


def prepare(run_dir: str) -> None:
    """Have a supervisor for the next `launch` of this process. Call while it has one thread."""
    channel_fd = _ask_spawner(run_dir)
    if channel_fd >= 0:
        _asked.append(channel_fd)
    else:
        _forked.append(_fork())


def launch(
    paths: Paths,
    container_id: str,
    live_fd: int,
    *,
    run: int,
    start_at_once: bool,
    is_background: bool = False,
) -> socket.socket:
    """Give the container to a supervisor; a channel that carries its events and output.

    The lock passes to the supervisor; this process's descriptor of it is closed. `is_background`:
    nobody stays with it, so others may come, and share a spawner with it.
    """
    import _socket as socket

    from docklock.supervisor.wire import send_message

    if not _asked and not _forked:
        prepare(paths.run)
    channel = socket.socket(fileno=_settle(_asked.pop()) if _asked else _forked.pop())
    message = {
        "state": paths.state,
        "run_dir": paths.run,
        "id": container_id,
        "run": run,
        "start": start_at_once,
        "background": is_background,
    }
    send_message(channel, message, (live_fd,))
    os.close(live_fd)
    return channel


def load_all() -> None:
    """In the supervisor to be: load what it will need."""
    # Loaded now, while the front end makes the container; run_supervisor and `begin` use them.
    from chainlite import sodium
    from docklock.evidence import keyring, recorder  # noqa: F401
    from docklock.paths import Paths  # noqa: F401
    from docklock.policy import shipped  # noqa: F401
    from docklock.supervisor import guard, worker  # noqa: F401

    sodium.prepare()


def run_task(channel: socket.socket, packet: Packet, worker: Worker | None = None) -> None:
    """Be the supervisor of the container that `packet` hands over."""
    from docklock.paths import Paths
    from docklock.supervisor.guard import run_supervisor
    from docklock.supervisor.worker import fork_worker

    message = packet.get_message()
    run_supervisor(
        Paths(message["state"], message["run_dir"]),
        message["id"],
        run=message["run"],
        is_started_at_once=message["start"],
        channel=channel,
        live_fd=packet.descriptors[0],
        worker=worker or fork_worker(),
    )


def get_spawner_path(run_dir: str) -> str:
    """Where a spawner of this very code listens; an installed upgrade has another file here."""
    code = os.stat(__file__)
    return f"{run_dir}/spawner-{code.st_ino:x}-{code.st_mtime_ns:x}.sock"


def _ask_spawner(run_dir: str) -> int:
    """Our end of a channel to a supervisor that a spawner is to fork; -1 where there is none."""
    from _socket import AF_UNIX, SOCK_SEQPACKET, socket

    connection = socket(AF_UNIX, SOCK_SEQPACKET)
    try:
        connection.connect(get_spawner_path(run_dir))
    except OSError:  # no spawner; or a path too long for a socket: there can be none
        connection.close()
        return -1
    from docklock.supervisor.wire import make_pair, send_message

    ours, theirs = make_pair()
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    try:
        send_message(connection, {"environment": environment}, (0, 1, 2, theirs.fileno()))
    except OSError:  # it has just ended, or our stdio is closed
        return -1
    return ours.detach()


def _settle(channel_fd: int) -> int:
    """A channel that has another end: a spawner may have refused, or have been killed."""
    import _socket as socket

    from docklock.supervisor.wire import receive

    channel = socket.socket(fileno=channel_fd)
    if receive(channel).kind < 0:
        channel.close()
        return _fork()
    return channel.detach()


def _fork() -> int:
    """Our end of a channel to the new process."""
    from _socket import AF_UNIX, SOCK_SEQPACKET, socketpair

    ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
    if os.fork() == 0:
        code = 1
        try:
            ours.close()
            _serve_once(theirs)
            code = 0
        finally:
            os._exit(code)
    theirs.close()
    return ours.detach()


def _serve_once(channel: socket.socket) -> None:
    load_all()
    from docklock.supervisor.wire import receive

    packet = receive(channel)
    if packet.kind < 0:
        return
    if packet.get_message()["background"]:
        from docklock.supervisor.spawner import become_spawner

        if become_spawner(channel, packet):
            return
    run_task(channel, packet)
