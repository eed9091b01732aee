"""How a node meets validators of which it knows key, address and certificate hash from the chain.

A genesis, and a vote on a new validator, name the SHA-256 of its certificate; a mesh wants the
certificate itself. Any server shows its own in a TLS handshake before it asks who we are, and the
hash says whether it is the one. So a genesis file is enough to begin; nothing is believed that the
chain did not name. Not here: those that the chain does not name (registering, introductions), TLS
between nodes (chainlite.net). Invariant: a peer is added only with the certificate whose hash the
chain holds, or by a registration that it signed itself.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

from chainlite.errors import DocklockError, SpecError
from chainlite.net.registration import Registration, compute_certificate_hash
from chainlite.net.transport import PeerId
from docklock.chain.settings import parse_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chainlite.ledger.genesis import Member
    from chainlite.net.registration import Address
    from chainlite.net.transport import Transport

CONNECT_S = 2.0
AGAIN_S = 1.0
"""Between two rounds of asking those that did not answer."""
AGAIN_MAX_S = 10.0
AT_ONCE_MAX = 16


class Meeting:
    """Adds to a transport the members that it does not know yet; belongs to one event loop."""

    def __init__(
        self,
        transport: Transport,
        network: bytes,
        find_members: Callable[[], Iterable[Member]],
        tell: Callable[[str], None],
    ) -> None:
        """`find_members` is asked before each round; `tell` is told what went wrong, once each."""
        self._transport, self._network = transport, network
        self._find_members, self._tell = find_members, tell
        self._told: set[tuple[bytes, str]] = set()
        self._task: asyncio.Task[None] | None = None

    def look(self) -> None:
        """Meet whom the chain names now; nothing happens while that is being done."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._meet_all())

    async def close(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _list_unknown(self) -> list[Member]:
        known = self._transport.registrations()
        return [
            member
            for member in self._find_members()
            if member.public != self._transport.me and PeerId(member.public) not in known
        ]

    async def _meet_all(self) -> None:
        wait_s = AGAIN_S
        while unknown := self._list_unknown():
            for start in range(0, len(unknown), AT_ONCE_MAX):
                batch = unknown[start : start + AT_ONCE_MAX]
                await asyncio.gather(*map(self._meet, batch))
            if self._list_unknown():
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, AGAIN_MAX_S)

    async def _meet(self, member: Member) -> None:
        why = ""
        try:
            address = parse_address(member.address)
            certificate = await fetch_certificate(address)
            if compute_certificate_hash(certificate) == member.certificate:
                self._transport.add_peer(
                    Registration(
                        self._network,
                        PeerId(member.public),
                        0,
                        certificate,
                        (address,),
                        member.operator,
                    )
                )
                return
            why = "shows another certificate than the chain names"
        except SpecError as error:
            why = str(error)
        except (OSError, DocklockError):
            return  # it is not there yet: asked again
        if (member.public, why) not in self._told:
            self._told.add((member.public, why))
            self._tell(f"validator {member.public.hex()[:16]} at {member.address}: {why}")


async def fetch_certificate(address: Address) -> bytes:
    """The certificate (DER) that whoever listens there shows, and whose key it has. OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # its hash decides, and the chain has that
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
    except TimeoutError:
        raise ConnectionError(f"no answer within {CONNECT_S} s") from None
    try:
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()
    if not found:
        raise ConnectionError("no certificate was shown")
    return bytes(found)
