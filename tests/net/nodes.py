"""Nodes on loopback for the tests of this room: keys, certificates, and what reached them."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from chainlite import keys
from chainlite.net import tls
from chainlite.net.mesh import Mesh
from chainlite.net.registration import Address, Registration, sign_registration
from chainlite.net.transport import Channel, PeerId, Transport
from chainlite.net.zenoh import ZenohTransport
from chainlite.net.zenoh_session import Settings

NETWORK = hashlib.sha256(b"test network").digest()
HOST = "127.0.0.1"
WAIT_S = 20.0


class Listening(Transport, Protocol):
    @property
    def port(self) -> int: ...


class Identity:
    """Who a node is, over several of its lives."""

    def __init__(self, directory: Path, number: int) -> None:
        self.number = number
        self.key = keys.make_key_pair(hashlib.sha256(b"node %d" % number).digest())
        self.peer = PeerId(self.key.public)
        path = directory / f"node-{number}.pem"
        if path.exists():
            self.certificate = tls.load_certificate(path)
        else:
            self.certificate = tls.make_certificate(path, self.peer)
        self.serial = 0

    def register(self, *ports: int) -> Registration:
        self.serial += 1
        addresses = tuple(Address(HOST, port) for port in ports)
        unsigned = Registration(
            NETWORK, self.peer, self.serial, self.certificate.der, addresses, f"op{self.number}"
        )
        return sign_registration(unsigned, self.key)


def find_port() -> int:
    """A port that is free now: Zenoh does not say which one it was given."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class ZenohNode(ZenohTransport):
    """One that knows its port."""

    def __init__(self, identity: Identity, port: int) -> None:
        settings = Settings(
            identity.peer, NETWORK, identity.key, identity.certificate, (HOST, port)
        )
        super().__init__(settings, random.Random(port * 1000 + identity.number))
        self.port = port


class Recorded:
    """What a transport delivered, and waiting for it."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.messages: list[tuple[PeerId, Channel, bytes]] = []
        self.ups: list[PeerId] = []
        self.downs: list[PeerId] = []
        self._changed = asyncio.Event()
        for channel in Channel:
            transport.listen(channel, self._upon_message)
        transport.watch(self._upon_up, self._upon_down)

    def _upon_message(self, peer: PeerId, channel: Channel, payload: bytes) -> None:
        self.messages.append((peer, channel, payload))
        self._changed.set()

    def _upon_up(self, peer: PeerId) -> None:
        self.ups.append(peer)
        self._changed.set()

    def _upon_down(self, peer: PeerId) -> None:
        self.downs.append(peer)
        self._changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until it holds; looked at after every delivery."""
        async with asyncio.timeout(WAIT_S):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def until_up(self, *peers: PeerId) -> None:
        await self.until(lambda: self.transport.peers() >= set(peers))


def make_mesh(identity: Identity, port: int = 0, *, seed: int = 1) -> Mesh:
    rng = random.Random(seed * 1000 + identity.number)
    return Mesh(identity.peer, NETWORK, identity.certificate, (HOST, port), rng)


Make = Callable[[Identity, int], Listening]


def make_zenoh(identity: Identity, port: int) -> ZenohNode:
    return ZenohNode(identity, port or find_port())


MAKERS: dict[str, Make] = {"mesh": make_mesh, "zenoh": make_zenoh}
"""By name, so that another process can make the same."""
