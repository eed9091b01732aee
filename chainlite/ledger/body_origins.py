"""Bodies as gossip keeps them alike on all nodes (an OriginStore of chainlite.net.origins).

An item's body is what an offer brings with a segment's leaf, so who fetches from a peer verifies
what who was offered it verified. Not here: verifying and keeping (availability), what is exchanged
(chainlite.net.gossip). Invariant: what two came to bring at once is kept once.
"""

from __future__ import annotations

import asyncio
import os
from hashlib import sha256
from typing import TYPE_CHECKING

from chainlite import checkpoint
from chainlite.errors import PeerError, SpecError, StateError
from chainlite.ledger import offer
from chainlite.ledger.availability import parse_origin
from chainlite.ledger.bodies import read_keys
from chainlite.ledger.body_file import sync_directory
from chainlite.net.origins import NO_KEYS, NOTHING, Held, Item, LogKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chainlite.ledger.availability import Availability

AGAIN_S = 0.5
"""How long what the keeper cannot take now waits."""
FORKS_MAX = 4096
KEYS_KEPT_MAX = 4096


class BodyOrigins:
    """The hosts' logs by their origins. One event loop, that of `availability`."""

    def __init__(
        self,
        availability: Availability,
        find_publics: Callable[[bytes], tuple[bytes, ...]],
        forks: str,
    ) -> None:
        """`find_publics` gives the keys that the chain's state has of a host, the first one first;
        none of a host that is not registered. `forks` is the directory of evidence."""
        self._availability, self._find_publics = availability, find_publics
        self._forks = forks
        self._keys: dict[bytes, tuple[tuple[bytes, ...], tuple[bytes, ...]]] = {}

    def get_origins(self) -> list[str]:
        """Of every host that something is held of."""
        return [checkpoint.get_origin(host) for host in self._availability.get_hosts()]

    def get_keys(self, origin: str) -> LogKeys:
        """Those that the log's records say, and those that only the chain has yet."""
        host = parse_origin(origin)
        if host is None:
            return NO_KEYS
        registered = self._find_publics(host)
        leaves = self._availability.get_held(host).key_leaves
        if not registered:
            return NO_KEYS
        known = self._read_keys(host, leaves) if leaves else ()
        publics = (*known, *[one for one in registered if one not in known])
        return LogKeys(publics, leaves[1:])

    def _read_keys(self, host: bytes, leaves: tuple[bytes, ...]) -> tuple[bytes, ...]:
        found = self._keys.get(host)
        if found is None or found[0] != leaves:
            if len(self._keys) >= KEYS_KEPT_MAX:
                self._keys.clear()
            found = self._keys[host] = leaves, read_keys(host, list(leaves)).publics
        return found[1]

    def get_held(self, origin: str) -> Held:
        """How far a log is held."""
        host = parse_origin(origin)
        if host is None:
            return NOTHING
        held = self._availability.get_held(host)
        return Held(held.size, held.note)

    def get_hash(self, origin: str, level: int, number: int) -> bytes:
        """Hash of the complete subtree over leaves [number << level, (number + 1) << level)."""
        return self._availability.reader.get_hash(_get_host(origin), level, number)

    def read(self, origin: str, start: int, end: int, bytes_max: int) -> list[Item]:
        """Items from `start` on, before `end`: one, and more while they fit into `bytes_max`."""
        found = self._availability.reader.read(_get_host(origin), start, end, bytes_max)
        return [Item(*item) for item in found]

    async def append(self, origin: str, start: int, items: Sequence[Item], note: bytes) -> None:
        """Keep items that follow the first `start`, durably, as far as they are not held.

        PeerError if a body is not what its leaf commits to: then nothing of them is kept. Where the
        keeper is busy or being started again, it waits.
        """
        host = _get_host(origin)
        while True:
            size = self._availability.get_held(host).size
            rest = [offer.Item(*item) for item in items[max(0, size - start) :]]
            if size < start or not rest:
                return
            try:
                ack = await self._availability.append(host, size, rest, note)
            except SpecError as error:
                raise PeerError(str(error)) from None
            except StateError:
                await asyncio.sleep(AGAIN_S)
                continue
            if ack.size != size:
                return  # these, or what another brought meanwhile

    def keep_fork(self, data: bytes) -> None:
        """Keep evidence that a log has signed two histories; each once, of so many."""
        os.makedirs(self._forks, mode=0o700, exist_ok=True)
        path = f"{self._forks}/{sha256(data).hexdigest()}.fork"
        if os.path.exists(path) or len(os.listdir(self._forks)) >= FORKS_MAX:
            return
        with open(f"{path}.part", "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(f"{path}.part", path)
        sync_directory(self._forks)


def _get_host(origin: str) -> bytes:
    host = parse_origin(origin)
    if host is None:
        raise SpecError(f"{origin[:128]!r} is no host's origin")
    return host
