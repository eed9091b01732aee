"""The spawner: one process with everything loaded, from which a host's guards are forked.

What guards have in common is then in memory once, and a start does not wait for imports. It is the
supervisor that the first `docklock run -d` has forked: told that its container is a background one,
it forks again and stays. It lives while a guard of its own or a client does, no longer. Killed, it
takes nothing along: guards go on, and the next start forks its own.

A request is one packet on `spawner-CODE.sock` in the run directory (0700: root's): {"environment":
what of it docklock reads}, with the caller's standard input, output and error and one end of a
channel. The guard to be says {"event": "here"} on that, or it ends: the caller is in another
namespace or root, or has limits that a guard cannot be given. Then it forks for itself.

Invariants: one thread; no key, no lock and no descriptor of a container's is held
(tests/e2e/test_spawner.py). Not here: what a guard does (guard.py), the front end's half
(launch.py).
"""

from __future__ import annotations

import gc
import os
import resource
import struct

from chainlite.lean import TYPE_CHECKING
from docklock.bare import socket
from docklock.kernel.title import set_title
from docklock.paths import Paths
from docklock.policy.load import keep_cached
from docklock.supervisor.apart import detach, keep_only
from docklock.supervisor.launch import ENVIRONMENT, get_spawner_path, run_task
from docklock.supervisor.loop import Loop
from docklock.supervisor.scope import ask_for_scope
from docklock.supervisor.wire import GONE, receive, send_message
from docklock.supervisor.worker import fork_worker

if TYPE_CHECKING:
    from typing import NoReturn

    from docklock.supervisor.wire import Packet

CLIENTS_MAX = 64
GUARDS_MAX = 512  # a descriptor each, of the usual 1,024; then callers fork for themselves
REQUEST_DESCRIPTORS = 4
LIMITS = tuple(getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_"))
POLICIES_MAX = 8
LATER = (
    "docklock.cgroup.events",
    "docklock.supervisor.denials",
    "docklock.supervisor.steering",
    "docklock.supervisor.watch",
)
_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid


def become_spawner(channel: socket.socket, packet: Packet) -> bool:
    """Fork the supervisor of `packet` and serve others until nobody is left; False in that fork.

    Also False where this cannot be a spawner: the path is too long for a socket, say.
    """
    paths = Paths(packet.get_message()["state"], packet.get_message()["run_dir"])
    path = get_spawner_path(paths.run)
    try:
        listening, inode = _listen(path)
    except OSError:
        return False
    gc.freeze()  # what is shared is not looked at again
    pid = os.fork()
    if pid == 0:
        listening.close()
        return False
    channel.close()
    os.close(packet.descriptors[0])
    detach(keep_stdio=False)
    keep_only((0, 1, 2, listening.fileno()))
    set_title("docklock spawner")
    spawner = Spawner(listening, os.pidfd_open(pid))
    _load_rest(paths)
    try:
        spawner.serve()
    finally:
        if _get_inode(path) == inode:
            os.unlink(path)
    return True


class Spawner:
    """Owns the listening socket, its connections, and a pidfd of each guard that it has forked."""

    def __init__(self, listening: socket.socket, guard_pidfd: int) -> None:
        self._listening = listening
        self._clients: dict[int, socket.socket] = {}
        self._guards: set[int] = set()
        self._loop = Loop()
        self._loop.watch(listening.fileno(), lambda _mask: self._accept())
        self._keep(guard_pidfd)
        scope = ask_for_scope(f"spawner-{os.getpid()}", (os.getpid(),))
        if scope is not None:
            scope.watch(self._loop)

    def serve(self) -> None:
        """Fork for whoever asks, until no guard and no client is left."""
        self._loop.run_while(lambda: bool(self._guards or self._clients))

    def _accept(self) -> None:
        try:
            fd, _ = self._listening._accept()  # type: ignore[attr-defined]
        except BlockingIOError:
            return
        client = socket.socket(fileno=fd)
        if len(self._clients) >= CLIENTS_MAX:
            client.close()
            return
        client.setblocking(False)
        self._clients[fd] = client
        self._loop.watch(fd, lambda _mask: self._answer(fd))

    def _keep(self, pidfd: int) -> None:
        self._guards.add(pidfd)
        self._loop.watch(pidfd, lambda _mask: self._reap(pidfd))

    def _reap(self, pidfd: int) -> None:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        self._guards.remove(pidfd)
        self._loop.unwatch(pidfd)
        os.close(pidfd)

    def _answer(self, fd: int) -> None:
        """One request of one client, which is let go then: all else is on the channel."""
        client = self._clients.pop(fd)
        self._loop.unwatch(fd)
        try:
            packet = receive(client)
        except BlockingIOError:
            packet = GONE
        caller = _get_peer(client)
        client.close()
        is_served = len(packet.descriptors) == REQUEST_DESCRIPTORS and is_alike(caller)
        if is_served and len(self._guards) < GUARDS_MAX:
            gc.freeze()
            pid = os.fork()
            if pid == 0:
                _be_guard(packet, caller)
            self._keep(os.pidfd_open(pid))
        for descriptor in packet.descriptors:
            os.close(descriptor)


def is_alike(pid: int) -> bool:
    """Whether process `pid` has our root and is in our namespaces, as a fork of it would be."""
    try:
        theirs, ours = os.stat(f"/proc/{pid}/root"), os.stat("/")
        return (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino) and all(
            os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")
            for kind in os.listdir("/proc/self/ns")
        )
    except OSError:
        return False  # it has gone, or is in a pid namespace that we do not see


def _be_guard(packet: Packet, caller: int) -> NoReturn:
    """In the fork: take the caller's place, say that we are here, and wait for the container."""
    code = 1
    try:
        stdio, channel_fd = packet.descriptors[:3], packet.descriptors[3]
        for number, fd in enumerate(stdio):
            os.dup2(fd, number)
        keep_only((0, 1, 2, channel_fd))
        _take_after(caller)
        for name in ENVIRONMENT:
            os.environ.pop(name, None)
        os.environ.update(packet.get_message()["environment"])
        channel = socket.socket(fileno=channel_fd)
        send_message(channel, {"event": "here"})
        worker = fork_worker()
        task = receive(channel)
        if task.kind >= 0:
            run_task(channel, task, worker)
        code = 0
    finally:
        os._exit(code)


def _take_after(caller: int) -> None:
    """The limits, priority and CPUs that a fork of the caller would have. OSError if we may not."""
    for limit in LIMITS:
        wanted = resource.prlimit(caller, limit)
        if wanted != resource.getrlimit(limit):
            resource.setrlimit(limit, wanted)
    os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, caller))
    os.sched_setaffinity(0, os.sched_getaffinity(caller))


def _load_rest(paths: Paths) -> None:
    """What guards load later: once, here."""
    for name in LATER:
        __import__(name)
    keep_cached(paths, POLICIES_MAX)


def _listen(path: str) -> tuple[socket.socket, int]:
    """A listening socket of that name, whatever had it before, and its inode."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    own = f"{path}.{os.getpid()}"
    listening.bind(own)
    listening.listen(CLIENTS_MAX)
    inode = os.stat(own).st_ino
    os.rename(own, path)
    return listening, inode


def _get_inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return 0


def _get_peer(client: socket.socket) -> int:
    """The pid of who connected; 0 if it is not in our pid namespace."""
    found = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, _, _ = _CREDENTIALS.unpack(found)
    return int(pid)
