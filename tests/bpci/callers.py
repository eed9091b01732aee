"""A caged server over ASGI itself, and hosts that call it: no sockets."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Self

from chainlite import keys
from chainlite.bpci import batch
from chainlite.bpci.actor import make_keyid
from chainlite.bpci.app import ROUTES, App
from chainlite.bpci.desk import Desk
from chainlite.bpci.identity import Identities
from chainlite.bpci.reading import Reading, Room
from chainlite.bpci.serving import get_now_ms
from chainlite.bpci.sqlite_store import SqliteStore
from chainlite.cage.client import Answer, Caller
from chainlite.cage.middleware import Cage
from chainlite.cage.store import CageStore
from docklock.evidence import keyring
from docklock.paths import Paths
from tests.bpci.servers import KEY, Server
from tests.cage.callers import Reply, call, make_scope
from tests.evidence.test_key_changes import load_key

NAME = "bpci.example"
NONCES = (f"nonce-of-test-{number:08}" for number in itertools.count())


class Served:
    """A server with its desk running, for `async with`."""

    def __init__(self, directory: Path) -> None:
        self.server = Server(directory)
        self.desk = Desk(self.server.intake)
        self.reader = SqliteStore(str(directory), is_writer=False)
        self.cage_store = CageStore(
            directory / "cage.db", boot_id="boot", now_ms=time.time_ns() // 10**6
        )
        self.identities = Identities(self.reader, KEY, self.server.intake.access)
        self.auditors = SqliteStore(str(directory), is_writer=False)
        self.room = Room(self.auditors)
        access = self.server.intake.access
        auditing = Reading(self.room, KEY, self.identities.authenticate, get_now_ms, access)
        self.app = App(self.desk, self.reader, KEY, self.identities.authenticate, auditing)
        self.cage = Cage(
            self.app, ROUTES, find_key=self.identities.find_key, key=KEY.pair,
            keyid=KEY.origin, authorities={NAME}, store=self.cage_store,
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        self.desk.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.desk.close()
        self.room.close()
        self.auditors.close()
        self.reader.close()
        self.server.store.close()
        self.cage_store.close()

    async def call(
        self, caller: Caller, method: str, target: str, body: bytes = b"",
        fields: dict[str, str] | None = None,
    ) -> Answer:  # fmt: skip
        """What the caller believes of the answer."""
        prepared = caller.prepare(
            method, f"https://{NAME}{target}", body, fields or {},
            created_s=int(time.time()), nonce=next(NONCES),
        )  # fmt: skip
        pairs = [(name.encode(), value.encode()) for name, value in prepared.fields.items()]
        sized = [(b"content-length", str(len(body)).encode())] if body else []
        reply = await call(self.cage, make_scope(method, prepared.target, pairs + sized), body)
        return caller.check(prepared, *reply)

    async def post(self, caller: Caller, data: bytes) -> Answer:
        fields = {"content-encoding": "zstd", "content-type": "application/octet-stream"}
        return await self.call(caller, "POST", "/v1/receipts", batch.compress(data), fields)

    async def get(self, target: str) -> Reply:
        """An open route."""
        return await call(self.cage, make_scope("GET", target, [(b"host", NAME.encode())]), b"")


def make_caller(paths: Paths) -> Caller:
    """The host, with its newest key."""
    key = load_key(paths)
    host = keys.compute_host_id(keyring.ensure_host_key(paths).enrolled)
    return Caller(key, make_keyid(host, key.public), KEY.pair.public, KEY.origin)
