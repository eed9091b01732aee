"""A node in a test's own process, on a directory that `docklock chain init` made, of real parts.

For tests that need what a process does not show (listening), or does not do (odd_validator). It
votes at once. Not here: chain start itself (docklock.chain.process).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Self

from chainlite.consensus.node import Node, Parts
from chainlite.consensus.wal import VoteLog
from chainlite.ledger import records
from chainlite.net.mesh import Mesh
from chainlite.net.transport import PeerId
from docklock.chain.directory import ChainDirectory, read_chain
from docklock.chain.meeting import Meeting
from docklock.chain.node_key import ensure_certificate, load_node_key
from docklock.chain.presence import get_now_ms
from docklock.chain.registering import read_settings
from docklock.chain.stores import open_or_create


class OwnNode:
    """Use with `async with`. The classes are those of its mesh and its node."""

    def __init__(
        self,
        directory: ChainDirectory,
        mesh_class: type[Mesh] = Mesh,
        node_class: type[Node] = Node,
        get_now_ms: Callable[[], int] = get_now_ms,
    ) -> None:
        chain = read_chain(directory)
        self.chain_id = chain.id
        self.key = load_node_key(directory)
        self._store = open_or_create(directory, chain)
        self._log = VoteLog(Path(directory.votes), self.chain_id)
        listen = read_settings(directory).listen
        certificate = ensure_certificate(directory, self.key.public)
        me = PeerId(self.key.public)
        self.mesh = mesh_class(me, self.chain_id, certificate, listen, random.SystemRandom())
        self.node = node_class(Parts(self._store, self.mesh, self._log), self.key, get_now_ms)
        self._meeting = Meeting(self.mesh, self.chain_id, self._list_members, lambda _: None)

    async def __aenter__(self) -> Self:
        await self.mesh.start()
        self.node.start()
        self._meeting.look()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.node.close()
        await self._meeting.close()
        await self.node.following.close()
        await self.mesh.close()
        self._log.close()
        self._store.close()
        self.key.erase()

    def _list_members(self) -> tuple[records.Member, ...]:
        row = self.node.ledger.find(records.VALIDATORS_KEY)
        assert isinstance(row, records.Validators)
        return row.members
