"""A process that is known on a chain's mesh and answers nobody: it asks.

Not here: what is asked (chainlite.consensus.joining, chainlite.proofs.light_client), nodes that
follow or vote (process). Invariant: when it ends, however, all that it held open is closed.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from chainlite.proofs.light_client import LightClient
from docklock.chain.directory import hold_lock
from docklock.chain.introducing import Introducing
from docklock.chain.meeting import Meeting
from docklock.chain.node_key import load_node_key
from docklock.chain.presence import get_now_ms, make_presence
from docklock.chain.registering import read_listed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from chainlite.keys import GuardedKey
    from chainlite.net.mesh import Mesh
    from chainlite.proofs.trusted import Trusted
    from docklock.chain.directory import Chain, ChainDirectory


@asynccontextmanager
async def look_on(
    directory: ChainDirectory, chain: Chain, key: GuardedKey, warn: Callable[[str], None]
) -> AsyncIterator[Mesh]:
    """The mesh of a node of a directory, which meets those whom the genesis names."""
    settings, certificate, registration, mesh = make_presence(directory, chain, key)
    members = chain.genesis.members
    names = {member.public for member in members}
    introducing = Introducing(
        mesh, registration, certificate, settings._replace(introduce=None), names.__contains__, warn
    )
    meeting = Meeting(mesh, chain.id, lambda: members, warn)
    await mesh.start()
    try:
        await introducing.start(read_listed(directory, chain))
        meeting.look()
        yield mesh
    finally:
        await meeting.close()
        await introducing.close()
        await mesh.close()


@asynccontextmanager
async def read_lightly(
    directory: ChainDirectory, chain: Chain, trusted: Trusted, warn: Callable[[str], None]
) -> AsyncIterator[LightClient]:
    """A reader of the chain's blocks. StateError where another process has the directory."""
    lock = hold_lock(directory)
    try:
        key = load_node_key(directory)
        try:
            async with look_on(directory, chain, key, warn) as mesh:
                yield LightClient(mesh, trusted, get_now_ms)
        finally:
            key.erase()
    finally:
        os.close(lock)
