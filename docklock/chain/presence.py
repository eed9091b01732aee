"""What a node is to others while its process runs: settings, certificate, registration, mesh.

Not here: what it says there (process, arriving). Invariant: one process has one mesh at a time.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, NamedTuple

from chainlite.net.mesh import Mesh
from docklock.chain.node_key import ensure_certificate
from docklock.chain.registering import ensure_registration, read_settings

if TYPE_CHECKING:
    from chainlite.keys import GuardedKey
    from chainlite.net.registration import Registration
    from chainlite.net.tls import NodeCertificate
    from docklock.chain.directory import Chain, ChainDirectory
    from docklock.chain.settings import NodeSettings


class Presence(NamedTuple):
    """The parts, none of them started."""

    settings: NodeSettings
    certificate: NodeCertificate
    registration: Registration
    mesh: Mesh


def make_presence(directory: ChainDirectory, chain: Chain, key: GuardedKey) -> Presence:
    """Of the files of a directory, whose missing ones are made; within an event loop."""
    settings = read_settings(directory)
    certificate = ensure_certificate(directory, key.public)
    now_ms = get_now_ms()
    registration = ensure_registration(directory, chain, settings, key, certificate, now_ms)
    rng = random.SystemRandom()
    mesh = Mesh(registration.node, chain.id, certificate, settings.listen, rng)
    return Presence(settings, certificate, registration, mesh)


def get_now_ms() -> int:
    """Unix time."""
    return time.time_ns() // 1_000_000
