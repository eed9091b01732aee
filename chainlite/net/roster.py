"""Who may connect to a mesh: each node's registration, its certificate, and how it stands.

Not here: connections as such (connection) and when to dial (mesh). Invariants: a certificate is of
one node; a node has one, its newest registration's; a connection of an older one is closed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chainlite.errors import SpecError
from chainlite.net import tls
from chainlite.net.conduct import Conduct
from chainlite.net.registration import compute_certificate_hash, is_newer
from chainlite.net.transport import PEERS_MAX, Figures, PeerFigures, PeerId

if TYPE_CHECKING:
    from chainlite.net.connection import Connection
    from chainlite.net.registration import Registration


@dataclass(slots=True)
class Node:
    """What is known of one other node."""

    registration: Registration
    figures: PeerFigures
    conduct: Conduct = field(default_factory=Conduct)
    live: Connection | None = None
    dialler: asyncio.Task[None] | None = None
    is_wanted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while no connection is up."""
    nudge: asyncio.Event = field(default_factory=asyncio.Event)
    """Set to dial now instead of after the wait."""


class Roster:
    """All nodes of one network that this one knows, but itself."""

    def __init__(self, me: PeerId, network: bytes, own: tls.NodeCertificate) -> None:
        self._me, self._network = me, network
        self._by_certificate: dict[bytes, PeerId] = {}
        self.contexts = tls.Contexts(own)
        self.nodes: dict[PeerId, Node] = {}
        self.figures = Figures()

    def find(self, certificate: bytes) -> PeerId | None:
        """Whose certificate this is."""
        return self._by_certificate.get(compute_certificate_hash(certificate))

    def add(self, registration: Registration) -> Node | None:
        """The node, where its registration is news; SpecError if it cannot be taken."""
        peer, certificate = registration.node, registration.certificate
        node = self.nodes.get(peer)
        if peer == self._me or not is_newer(registration, node.registration if node else None):
            return None
        check_usable(registration, self._network)
        if self._by_certificate.get(compute_certificate_hash(certificate), peer) != peer:
            raise SpecError("registration: another node has this certificate")
        if node is None:
            if len(self.nodes) >= PEERS_MAX:
                raise SpecError(f"at most {PEERS_MAX} peers")
            figures = self.figures.peers[peer] = PeerFigures()
            node = self.nodes[peer] = Node(registration, figures)
            node.is_wanted.set()
        elif node.registration.certificate != certificate:
            self._forget(node)
        node.registration = registration
        self._by_certificate[compute_certificate_hash(certificate)] = peer
        self.contexts.add(certificate)
        return node

    def remove(self, peer: PeerId) -> Node | None:
        """Forget a node; the one that it was."""
        node = self.nodes.pop(peer, None)
        if node is not None:
            del self.figures.peers[peer]
            self._forget(node)
        return node

    def _forget(self, node: Node) -> None:
        if node.live is not None:
            node.live.close()
        del self._by_certificate[compute_certificate_hash(node.registration.certificate)]
        self.contexts.remove(node.registration.certificate)


def check_usable(registration: Registration, network: bytes) -> None:
    """SpecError if a registration is of another network, or its certificate none."""
    if registration.network != network:
        raise SpecError("registration: of another network")
    if not tls.is_certificate(registration.certificate):
        raise SpecError("registration: what it calls a certificate is none")
