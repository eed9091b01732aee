"""A server as a process: its directory, its cage, its listener. The composition root.

A directory has `server.key`, the store, the cage's store, and the checkpoint that was published. It
is served inside the cage alone: there is no way to start it without.
Not here: options (docklock.cli.bpci), what is answered (app), sockets (listening).
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from chainlite.bpci.actor import find_key, get_caged_actor
from chainlite.bpci.app import ROUTES, App
from chainlite.bpci.at_rest import ServerKey, load_key_file, make_key_file
from chainlite.bpci.desk import Desk
from chainlite.bpci.intake import Intake, find_newest_publics
from chainlite.bpci.listening import Listen as Listen
from chainlite.bpci.listening import Listener
from chainlite.bpci.own_log import PUBLISHED
from chainlite.bpci.sqlite_store import SqliteStore
from chainlite.cage.middleware import Cage
from chainlite.cage.store import CageStore, read_boot_id

if TYPE_CHECKING:
    from collections.abc import Callable

KEY_FILE, CAGE_FILE = "server.key", "cage.db"


def make_server(directory: str) -> ServerKey:
    """A new server's key and an empty store; StateError where there is a server already."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    key = make_key_file(f"{directory}/{KEY_FILE}")
    with SqliteStore(directory, is_writer=True) as store:
        Intake(store, key, f"{directory}/{PUBLISHED}", get_now_ms)
    return key


def load_server_key(directory: str) -> ServerKey:
    """The key of the server in a directory."""
    return load_key_file(f"{directory}/{KEY_FILE}")


def get_now_ms() -> int:
    """Unix time."""
    return time.time_ns() // 1_000_000


async def serve(directory: str, listen: Listen, tell: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `tell` hears the address once it is open.

    StateError where it cannot listen; TamperError where the store is not what was signed.
    """
    key = load_server_key(directory)
    with (
        SqliteStore(directory, is_writer=True) as store,
        SqliteStore(directory, is_writer=False) as reader,
    ):
        intake = Intake(store, key, f"{directory}/{PUBLISHED}", get_now_ms)
        desk = Desk(intake)
        cage_store = CageStore(
            Path(directory) / CAGE_FILE, boot_id=read_boot_id(), now_ms=get_now_ms()
        )
        cage = Cage(
            App(desk, reader, key, get_caged_actor), ROUTES,
            find_key=lambda keyid: find_key(
                keyid, lambda host: find_newest_publics(reader, key, host)
            ),
            key=key.pair, keyid=key.origin, authorities=listen.authorities, store=cage_store,
        )  # fmt: skip
        desk.start()
        try:
            await _listen(cage, listen, tell)
        finally:
            await desk.close()
            cage_store.close()


async def _listen(cage: Cage, listen: Listen, tell: Callable[[str], None]) -> None:
    listener = Listener(cage, listen)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tell(listener.open())
    await listener.serve(stop)
