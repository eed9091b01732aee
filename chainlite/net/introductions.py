"""What a newcomer asks and is told: registrations, each signed by its node. Pure.

Not here: the exchange (introducer). Invariants: bytes have one form; what is read is signed and of
this network; of two registrations of a node the newer is kept.
Layout: README.md of this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainlite import codec, domains
from chainlite.errors import PeerError, SpecError
from chainlite.net.registration import (
    REGISTRATION_BYTES_MAX,
    decode_registration,
    encode_registration,
    is_newer,
)
from chainlite.net.transport import PEERS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chainlite.net.registration import Registration
    from chainlite.net.transport import PeerId

VERSION = 1
TOLD_MAX = 256
"""Registrations in one message."""
INTRODUCTION_BYTES_MAX = 1024 * 1024
DIRECTORY_MAX = PEERS_MAX + 1


def encode_introduction(registrations: Iterable[Registration]) -> bytes:
    """The message that tells these; at most TOLD_MAX."""
    encoded = [codec.encode_bytes(encode_registration(one)) for one in registrations]
    assert len(encoded) <= TOLD_MAX
    head = codec.encode_head(domains.INTRODUCTION, VERSION)
    return head + len(encoded).to_bytes(2, "big") + b"".join(encoded)


def decode_introduction(data: bytes, network: bytes) -> tuple[Registration, ...]:
    """The registrations of a message; PeerError if one of them does not hold."""
    try:
        r = codec.Reader(data, "introduction")
        r.read_head(domains.INTRODUCTION, VERSION)
        count = r.read_u16(limit=TOLD_MAX)
        found = tuple(
            decode_registration(r.read_bytes(REGISTRATION_BYTES_MAX), network) for _ in range(count)
        )
        r.finish()
    except SpecError as error:
        raise PeerError(str(error)) from None
    return found


class Directory:
    """The newest registration of each node, as the node signed it."""

    def __init__(self) -> None:
        self._known: dict[PeerId, Registration] = {}

    def add(self, registration: Registration) -> bool:
        """Keep it if it is news; False if it is not, or if there is no room."""
        old = self._known.get(registration.node)
        if not is_newer(registration, old) or (not old and len(self._known) >= DIRECTORY_MAX):
            return False
        self._known[registration.node] = registration
        return True

    def remove(self, node: PeerId) -> None:
        """Forget a node."""
        self._known.pop(node, None)

    def get_all(self) -> tuple[Registration, ...]:
        """All, by node."""
        return tuple(self._known[node] for node in sorted(self._known))

    def get_pages(self) -> list[tuple[Registration, ...]]:
        """All, in parts that a message may have."""
        pages, size = [list["Registration"]()], 0
        for one in self.get_all():
            size += len(encode_registration(one)) + 4
            if len(pages[-1]) == TOLD_MAX or size > INTRODUCTION_BYTES_MAX:
                pages.append([])
                size = len(encode_registration(one)) + 4
            pages[-1].append(one)
        return [tuple(page) for page in pages]
