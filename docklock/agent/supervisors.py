"""Every live supervisor, adopted: a connection to its control socket that tells when it ends.

A name in live/ is a run. It is either answered for by a supervisor, which is then adopted, or its
lock is free, and it is to be mended; between the two (it begins, or its worker still kills what a
dead guard left) it is looked at again soon. Not here: mending (mender.py), the protocol
(supervisor/wire.py). Invariant: nothing here waits, and nothing here changes a container.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import TYPE_CHECKING

from chainlite.errors import StateError
from docklock import client
from docklock.kernel.inotify import read_names, watch_directory
from docklock.lifecycle import is_live, list_containers, live_dir, make_directories, read_state
from docklock.supervisor.wire import MESSAGE, receive, send_message

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from docklock.agent.journal import Log
    from docklock.paths import Paths

LOOK_AGAIN_MIN_S = 0.02
LOOK_AGAIN_MAX_S = 0.5


class Supervisors:
    """The adopted ones by container id.

    `upon_dead` is called when a run is to be mended, `upon_adopted` when one was found alive.
    """

    def __init__(
        self,
        paths: Paths,
        log: Log,
        upon_dead: Callable[[], None],
        upon_adopted: Callable[[], None],
    ) -> None:
        make_directories(paths)
        self._paths, self._log, self._upon_dead = paths, log, upon_dead
        self._upon_adopted = upon_adopted
        self._loop = asyncio.get_running_loop()
        self._adopted: dict[str, socket.socket] = {}
        self._pending: dict[str, asyncio.TimerHandle] = {}
        self._watch_fd = watch_directory(live_dir(paths))
        self._loop.add_reader(self._watch_fd, self._upon_names)

    @property
    def adopted(self) -> frozenset[str]:
        return frozenset(self._adopted)

    @property
    def pending_count(self) -> int:
        """Runs that are neither adopted nor known to be over yet."""
        return len(self._pending)

    def scan(self) -> None:
        """Look at every run that is not adopted: once at the beginning, then seldom."""
        for container_id in os.listdir(live_dir(self._paths)):
            if container_id not in self._adopted and container_id not in self._pending:
                self._look(container_id)

    def close(self) -> None:
        """Let go of them all: they go on without an agent."""
        self._loop.remove_reader(self._watch_fd)
        os.close(self._watch_fd)
        for handle in self._pending.values():
            handle.cancel()
        for container_id in list(self._adopted):
            self._drop(container_id)

    def _upon_names(self) -> None:
        names, is_lost = read_names(self._watch_fd)
        if is_lost:
            self.scan()
        for container_id in dict.fromkeys(names):
            if container_id not in self._adopted and container_id not in self._pending:
                self._look(container_id)

    def _look(
        self, container_id: str, again_s: float = LOOK_AGAIN_MIN_S, *, was_free: bool = False
    ) -> None:
        """Adopt it, have it mended, or look again after `again_s`.

        `was_free`: nobody held its lock at the last look, too; at first sight somebody may be
        about to take it.
        """
        self._pending.pop(container_id, None)
        if not os.path.exists(f"{live_dir(self._paths)}/{container_id}"):
            if self._is_cut(container_id):  # a docklock command mended it before we could
                self._upon_dead()
            return
        is_free = not is_live(self._paths, container_id)
        if is_free and was_free:
            self._log.warning("lost its supervisor", container_id)
            self._upon_dead()
        elif is_free or not self._adopt(container_id):
            look = partial(
                self._look, container_id, min(again_s * 2, LOOK_AGAIN_MAX_S), was_free=is_free
            )
            self._pending[container_id] = self._loop.call_later(again_s, look)

    def _is_cut(self, container_id: str) -> bool:
        try:
            return read_state(self._paths, container_id).is_cut
        except StateError:
            return False  # --rm, or removed

    def _adopt(self, container_id: str) -> bool:
        try:
            channel = client.connect(self._paths, container_id)
        except StateError:
            return False
        try:
            channel.setblocking(False)
            send_message(channel, {"verb": "wait"})
        except OSError:
            channel.close()
            return False
        self._adopted[container_id] = channel
        self._loop.add_reader(channel.fileno(), self._upon_packet, container_id)
        self._log.debug("adopted", container_id)
        self._upon_adopted()
        return True

    def _upon_packet(self, container_id: str) -> None:
        try:
            packet = receive(self._adopted[container_id])
        except BlockingIOError:
            return
        if packet.kind < 0:
            self._drop(container_id)
            self._look(container_id)
        elif packet.kind == MESSAGE:
            event = packet.get_message()
            if event.get("event") == "exit":
                self._log.info(f"ended with exit code {event.get('exit_code')}", container_id)

    def _drop(self, container_id: str) -> None:
        channel = self._adopted.pop(container_id)
        self._loop.remove_reader(channel.fileno())
        channel.close()


def count_containers(paths: Paths) -> dict[str, int]:
    """How many containers have which status on disk; damaged ones are left out."""
    found: dict[str, int] = {}
    for container_id in list_containers(paths):
        try:
            status = read_state(paths, container_id).status
        except StateError:
            continue
        found[status] = found.get(status, 0) + 1
    return found
