"""How a node gets to know nodes that the chain does not name, and is let in by those that it does.

A registration that one validator admits, it tells the others; a newcomer asks a validator that
introduces. Not here: the exchange (chainlite.net.introducer), validators themselves (meeting), the
list of peers (registering). Invariant: a node is admitted because the chain names it, because it is
listed here, or because this node's owner has said that anybody is.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from chainlite.errors import DocklockError
from chainlite.net.introducer import Introducer, Introductions, ask_introducer
from chainlite.net.introductions import Directory
from docklock.chain.settings import ANYBODY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chainlite.net.mesh import Mesh
    from chainlite.net.peers_file import ListedPeer
    from chainlite.net.registration import Address, Registration
    from chainlite.net.tls import NodeCertificate
    from docklock.chain.settings import NodeSettings

LOOK_S = 1.0
ASK_AGAIN_S = 10.0
"""How often an introducer is asked while nobody is connected."""


class Introducing:
    """What one node tells and asks of others' registrations; belongs to its event loop."""

    def __init__(
        self,
        mesh: Mesh,
        mine: Registration,
        certificate: NodeCertificate,
        settings: NodeSettings,
        is_named: Callable[[bytes], bool],
        tell: Callable[[str], None],
    ) -> None:
        """`is_named` knows whom the chain names; `tell` hears why no introducer answers."""
        self._mesh, self._mine, self._certificate = mesh, mine, certificate
        self._settings, self._is_named, self._tell = settings, is_named, tell
        self._listed: set[bytes] = set()
        self._introductions = Introductions(mesh, mine.network, Directory(), self._admit)
        self._introducer: Introducer | None = None
        self._task: asyncio.Task[None] | None = None
        self._said = ""

    async def start(self, listed: Iterable[ListedPeer]) -> None:
        """Take those that are listed; serve and ask as the settings say. StateError."""
        self._introductions.take(self._mine)
        places = list(self._settings.introducers)
        for one in listed:
            self._mesh.add_peer(one.get_local())
            self.take(one.registration)
            places += one.introducer
        if self._settings.introduce is not None:
            self._introducer = Introducer(
                self._introductions, self._mine.network, self._certificate, self._settings.introduce
            )
            await self._introducer.start()
        if places:
            self._task = asyncio.get_running_loop().create_task(self._keep_asking(places))

    async def close(self) -> None:
        """Tell and ask no more."""
        if self._introducer is not None:
            await self._introducer.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def take(self, registration: Registration) -> bool:
        """Know a node because the owner says so, and tell the others; whether it is news."""
        self._listed.add(registration.node)
        return self._introductions.take(registration)

    def forget(self, node: bytes) -> None:
        """The owner no longer says so."""
        self._listed.discard(node)
        self._introductions.directory.remove(node)  # type: ignore[arg-type]

    def _admit(self, registration: Registration) -> bool:
        node = registration.node
        return self._settings.admit == ANYBODY or node in self._listed or self._is_named(node)

    async def _keep_asking(self, places: list[Address]) -> None:
        while True:
            known = self._mesh.registrations().values()
            if not known or self._mesh.peers():  # validators are met first: they show certificates
                await asyncio.sleep(LOOK_S)
                continue
            try:
                found = await ask_introducer(self._mine, self._certificate, list(known), places)
            except DocklockError as error:
                self._say(str(error))
            else:
                self._said = ""
                for registration in found:
                    self._introductions.take(registration)
            await asyncio.sleep(ASK_AGAIN_S if self._said else LOOK_S)

    def _say(self, why: str) -> None:
        if why != self._said:
            self._tell(why)
        self._said = why
