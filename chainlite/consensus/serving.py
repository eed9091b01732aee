"""What a node answers those who join with a snapshot: its block, what leads there, the chunks.

A snapshot is a copy of pointers, taken when somebody asks. A few are kept while they are asked for,
so that who fetches slowly finds the same height while the chain goes on. Not here: who asks
(joining), the bytes (snapshot_wire, chainlite.ledger.snapshot). Invariants: KEPT_MAX snapshots at
the most, none that nobody has asked for in LIFE_S; one that is being fetched is not replaced before
it is LIFE_S old; one question is answered at a time, and between two of them the node goes on.
Source: README.md of this room, "Snapshots".
"""

from __future__ import annotations

import asyncio
from collections import Counter

from chainlite.consensus import snapshot_wire
from chainlite.consensus.snapshot_wire import (
    LINKS_IN_ANSWER_MAX,
    decode_want_snapshot,
    encode_links,
)
from chainlite.consensus.wire import encode_blocks
from chainlite.errors import PeerError, SpecError, StateError
from chainlite.lean import TYPE_CHECKING
from chainlite.ledger.header import encode_seals
from chainlite.ledger.snapshot import Snapshot
from chainlite.proofs.light_make import trim_seals
from chainlite.proofs.light_source import get_links

if TYPE_CHECKING:
    from chainlite.consensus.snapshot_wire import WantSnapshot
    from chainlite.ledger.store import Store
    from chainlite.net.transport import PeerId
    from chainlite.proofs.light_format import Link

KEPT_MAX = 2
FRESH_S = 60.0
"""A snapshot so young is offered instead of a new one;"""
IDLE_S = 30.0
"""one that was not asked for so long makes room for another;"""
LIFE_S = 600.0
"""so old, it makes room in any case, and goes if nobody asks for it."""
PEER_ASKS_MAX = 4
ASKS_MAX = 64
"""Questions of one peer, and of all, that wait for their answer; more are refused."""


class _Kept:
    """A snapshot at hand, its block with a quorum's seals, and when it was taken and asked for."""

    __slots__ = ("asked_s", "head", "snapshot", "taken_s")

    def __init__(self, store: Store, now_s: float) -> None:
        ledger = store.ledger
        block, seals = store.get_block(ledger.height)
        assert seals is not None, "only the genesis has no seals"
        assert block.hash == ledger.head_hash
        trimmed = trim_seals(seals, ledger.get_validators(ledger.height))
        self.head = (block.encoded, encode_seals(trimmed))
        self.snapshot = Snapshot(ledger)
        self.taken_s = self.asked_s = now_s

    @property
    def height(self) -> int:
        """That of its block."""
        return self.snapshot.head.height


class Serving:
    """The snapshots of one store; belongs to its node's event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: list[_Kept] = []
        self._asks: Counter[PeerId] = Counter()
        self._turn = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Keep none."""
        if self._timer is not None:
            self._timer.cancel()
        self._kept.clear()

    @property
    def heights(self) -> tuple[int, ...]:
        """Of the snapshots at hand, the oldest first."""
        return tuple([kept.height for kept in self._kept])

    async def answer(self, peer: PeerId, payload: bytes) -> bytes:
        """The answer to a question; PeerError for none, StateError for what is not here."""
        try:
            want = decode_want_snapshot(payload)
        except SpecError as error:
            raise PeerError(str(error)) from None
        if self._asks[peer] >= PEER_ASKS_MAX or self._asks.total() >= ASKS_MAX:
            raise StateError("too many questions about snapshots at once")
        self._asks[peer] += 1
        try:
            async with self._turn:
                await asyncio.sleep(0)  # the node first
                return await self._answer(want)
        finally:
            self._asks[peer] -= 1
            self._asks += Counter()  # forgets who has none

    async def _answer(self, want: WantSnapshot) -> bytes:
        if want.kind == snapshot_wire.HEAD:
            return encode_blocks([self._offer().head])
        if want.kind == snapshot_wire.LINKS:
            return encode_links(self._find_links(want.height))
        kept = self._find(want.height)
        if want.kind == snapshot_wire.MANIFEST:
            return kept.snapshot.manifest
        if want.depth != kept.snapshot.depth:
            raise StateError(f"the snapshot of block {want.height} has other chunks here")
        for _ in kept.snapshot.sort():
            await asyncio.sleep(0)
        return kept.snapshot.encode_chunk(want.number)

    def _find_links(self, height: int) -> tuple[Link, ...]:
        store = self._store
        if height < store.base:
            raise StateError(store.tables.say_base())
        return get_links(store, height, store.height + 1, LINKS_IN_ANSWER_MAX)

    def _offer(self) -> _Kept:
        """The newest at hand if it is fresh, or there is no room; else one of the last block."""
        now = asyncio.get_running_loop().time()
        newest = self._kept[-1] if self._kept else None
        if newest is not None:
            is_fresh = now - newest.taken_s < FRESH_S or newest.height == self._store.height
            if is_fresh or not self._make_room(now):
                newest.asked_s = now
                return newest
        return self._take(now)

    def _find(self, height: int) -> _Kept:
        """That of a height: at hand, or taken now if that is the last block's."""
        now = asyncio.get_running_loop().time()
        for kept in self._kept:
            if kept.height == height:
                kept.asked_s = now
                return kept
        if height != self._store.height or not self._make_room(now):
            raise StateError(f"no snapshot of block {height} is at hand")
        return self._take(now)

    def _make_room(self, now: float) -> bool:
        """Whether one more may be kept; the oldest goes for it if nobody fetches that."""
        if len(self._kept) < KEPT_MAX:
            return True
        for kept in self._kept:
            if now - kept.asked_s >= IDLE_S or now - kept.taken_s >= LIFE_S:
                self._kept.remove(kept)
                return True
        return False

    def _take(self, now: float) -> _Kept:
        if not self._store.height:
            raise StateError("no block above the genesis is here yet")
        kept = _Kept(self._store, now)
        self._kept.append(kept)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LIFE_S, self._look)
        return kept

    def _look(self) -> None:
        """Let go of what nobody asks for any more."""
        loop = asyncio.get_running_loop()
        self._kept = [kept for kept in self._kept if loop.time() - kept.asked_s < LIFE_S]
        self._timer = loop.call_later(LIFE_S, self._look) if self._kept else None
