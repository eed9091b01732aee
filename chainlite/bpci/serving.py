"""A server as a process: its directory, its cage, its listener. The composition root.

A directory has `server.key`, the store, the cage's store, the checkpoint and the number of acts
that were published, and the socket for the operator's orders. It is served inside the cage alone:
there is no way to start it without.
Not here: options (docklock.cli.bpci), what is answered (app), sockets (listening).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from chainlite.bpci.app import ROUTES, App
from chainlite.bpci.app import get_now_ms as get_now_ms
from chainlite.bpci.at_rest import ServerKey, load_key_file, make_key_file
from chainlite.bpci.backup import KEY_FILE
from chainlite.bpci.desk import Desk
from chainlite.bpci.identity import Identities
from chainlite.bpci.intake import Intake
from chainlite.bpci.listening import Listen as Listen
from chainlite.bpci.listening import Listener
from chainlite.bpci.order_socket import take_orders
from chainlite.bpci.ordering import carry_out, erase_forever
from chainlite.bpci.own_log import PUBLISHED
from chainlite.bpci.reading import Reading, Room
from chainlite.bpci.sqlite_store import SqliteStore
from chainlite.cage.middleware import Cage
from chainlite.cage.store import CageStore, read_boot_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from chainlite.bpci.office import Office
    from chainlite.bpci.orders import Order
    from chainlite.proofs.light_client import LightClient

CAGE_FILE = "cage.db"


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


async def serve(
    directory: str, listen: Listen, tell: Callable[[str], None], chain: LightClient | None = None
) -> None:
    """Serve until SIGTERM or SIGINT; `tell` hears the address once it is open.

    `chain` reads the chain whose blocks are shown, if there is one.
    StateError where it cannot listen; TamperError where the store is not what was signed.
    """
    key = load_server_key(directory)
    with (
        SqliteStore(directory, is_writer=True) as store,
        SqliteStore(directory, is_writer=False) as reader,
        SqliteStore(directory, is_writer=False) as auditors,
    ):
        intake = Intake(store, key, f"{directory}/{PUBLISHED}", get_now_ms)
        desk = Desk(intake)
        cage_store = CageStore(
            Path(directory) / CAGE_FILE, boot_id=read_boot_id(), now_ms=get_now_ms()
        )
        identities, room = Identities(reader, key, intake.access), Room(auditors)
        auditing = Reading(room, key, identities.authenticate, get_now_ms, intake.access)
        app = App(desk, reader, key, identities.authenticate, auditing, chain)
        cage = Cage(
            app, ROUTES,
            find_key=identities.find_key, key=key.pair, keyid=key.origin,
            authorities=listen.authorities, store=cage_store,
        )  # fmt: skip
        desk.start()
        try:
            await _run(cage, listen, tell, directory, desk, app.office)
        finally:
            room.close()
            await desk.close()
            cage_store.close()


async def _run(
    cage: Cage, listen: Listen, tell: Callable[[str], None], directory: str, desk: Desk,
    office: Office,
) -> None:  # fmt: skip
    """Serve callers, take the operator's orders, and erase what is due."""

    async def do(order: Order) -> dict[str, object]:
        return await carry_out(desk, office, order, get_now_ms())

    async with take_orders(directory, do):
        erasing = asyncio.create_task(erase_forever(desk, office, get_now_ms))
        try:
            await _listen(cage, listen, tell)
        finally:
            erasing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await erasing


async def _listen(cage: Cage, listen: Listen, tell: Callable[[str], None]) -> None:
    listener = Listener(cage, listen)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tell(listener.open())
    await listener.serve(stop)
