"""How a node that joins gets a state from its peers, and believes none of them.

Each that is up is asked for its newest snapshot's block; believed is what a quorum sealed, of the
validators to whom what is trusted (a genesis, a header checkpoint) leads by changes that are sealed
themselves. Manifest and chunks are then asked of all, and each is checked by itself. Not here: who
answers (serving), the file that it becomes (the composition root: docklock.chain), blocks after it
(following). Invariants: what is returned is the state under a header that is final, whole; who
sends what does not hold is blamed and not asked again; a peer that goes away or is silent costs its
turn and a bounded time; a question to each peer and the chunks that were checked are all that is
held.
Source: README.md of this room, "Snapshots".
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque

from chainlite.consensus import snapshot_wire
from chainlite.consensus.following import is_body_of
from chainlite.consensus.snapshot_wire import (
    LINKS_IN_ANSWER_MAX,
    WantSnapshot,
    decode_links,
    encode_want_snapshot,
)
from chainlite.consensus.wire import decode_blocks
from chainlite.errors import SpecError, StateError, TamperError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.ledger.header import encode_seals
from chainlite.ledger.snapshot import SnapshotImport
from chainlite.net.transport import Channel, Unanswered
from chainlite.proofs.light import check_sealed, follow_links
from chainlite.proofs.light_format import LINKS_MAX
from chainlite.proofs.trusted import check_fresh

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from chainlite.ledger.block import Block
    from chainlite.ledger.header import Seals
    from chainlite.net.transport import PeerId, Transport
    from chainlite.proofs.trusted import Trusted

SEARCH_S = 30.0
"""How long it looks for a peer whose snapshot can be believed;"""
GATHER_S = 1.0
"""once the first peer is up, others have so long to come up, too."""
ANSWER_S = 20.0
PAUSE_S = 0.25
"""Between two questions to a peer that did not answer the first."""
STRIKES_MAX = 4
"""Questions in a row that a peer leaves without an answer, until it is left alone."""
PEERS_ASKED_MAX = 16
FETCHERS_MAX = 8
"""Peers that are asked for chunks at once, one chunk each."""
ATTEMPT_S = 300.0
ATTEMPTS_MAX = 6
"""Snapshots that are begun; chunks that are alike are fetched once."""


class Taken(NamedTuple):
    """A final block, the seals of a quorum, as bytes, and the rows of the state after it."""

    block: Block
    seals: bytes
    rows: list[tuple[bytes, bytes]]


class NoSnapshot(StateError):
    """No peer has given a snapshot; the blocks are still to be had."""


class _Offer(NamedTuple):
    """A block that was believed, and who has a snapshot of it."""

    peer: PeerId
    block: Block
    seals: Seals


async def follow_changes(
    ask: Callable[[WantSnapshot], Awaitable[bytes]],
    trusted: Trusted,
    before: int,
    get_now_ms: Callable[[], int],
) -> Trusted:
    """What is trusted after the changes of validators before a height that a peer is asked for.

    `ask` has the peer's answer to a question. TamperError, SpecError: they do not hold.
    """
    for _ in range(LINKS_MAX // LINKS_IN_ANSWER_MAX):
        want = WantSnapshot(snapshot_wire.LINKS, trusted.height)
        links = [link for link in decode_links(await ask(want)) if link.header.height < before]
        trusted = follow_links(links, trusted, get_now_ms())
        if len(links) < LINKS_IN_ANSWER_MAX:
            return trusted
    raise SpecError(f"more than {LINKS_MAX} changes of the validators lead to its block")


class Joining:
    """One node's; belongs to its event loop. The transport is started and closed by its owner."""

    def __init__(
        self,
        transport: Transport,
        trusted: Trusted,
        get_now_ms: Callable[[], int],
        tell: Callable[[str], None],
    ) -> None:
        """`tell` hears in a line what is fetched, and who lied."""
        self._transport, self._trusted = transport, trusted
        self._get_now_ms, self._tell = get_now_ms, tell
        self._liars: set[PeerId] = set()
        self._failed: Counter[PeerId] = Counter()
        self._before: SnapshotImport | None = None

    async def run(self) -> Taken:
        """The state. NoSnapshot; SpecError where what is trusted is stale, with the remedy."""
        check_fresh(self._trusted, self._get_now_ms())
        for _ in range(ATTEMPTS_MAX):
            offer = await self._find_offer()
            taking = await self._fetch(offer)
            if taking is not None and not taking.missing:
                return Taken(offer.block, encode_seals(offer.seals), taking.rows)
            self._failed[offer.peer] += 1
            self._tell(f"the snapshot of block {offer.block.header.height} could not be had whole")
        raise NoSnapshot(f"{ATTEMPTS_MAX} snapshots were begun, and none could be had whole")

    # Whom to believe

    async def _find_offer(self) -> _Offer:
        """The newest block that is believed, of those who have not failed before if there are any.

        NoSnapshot after SEARCH_S.
        """
        loop = asyncio.get_running_loop()
        until, gathered = loop.time() + SEARCH_S, False
        while loop.time() < until:
            peers = self._list_peers()[:PEERS_ASKED_MAX]
            if peers and not gathered:
                gathered = True
                await asyncio.sleep(GATHER_S)
                continue
            found = await asyncio.gather(*map(self._ask_head, peers))
            offers = [offer for offer in found if offer is not None]
            if offers:
                return max(offers, key=self._rate)
            await asyncio.sleep(PAUSE_S)
        raise NoSnapshot(f"no peer has shown within {SEARCH_S:g} s a snapshot that can be believed")

    def _rate(self, offer: _Offer) -> tuple[int, int]:
        return -self._failed[offer.peer], offer.block.header.height

    def _list_peers(self) -> list[PeerId]:
        """Who is up and has not lied, those first who failed least."""
        up = self._transport.peers() - self._liars
        return sorted(up, key=lambda peer: (self._failed[peer], peer))

    async def _ask_head(self, peer: PeerId) -> _Offer | None:
        """The block of a peer's newest snapshot, if it is to be believed."""
        try:
            blocks = decode_blocks(await self._ask(peer, WantSnapshot(snapshot_wire.HEAD)))
            if len(blocks) != 1 or not is_body_of(blocks[0].block):
                raise SpecError("not one block with the transactions that its header names")
            offer = _Offer(peer, blocks[0].block, blocks[0].seals)
            if offer.block.header.height <= self._trusted.height:
                return None  # it is behind what is trusted already
            await self._check(offer)
        except Unanswered:
            return None
        except (SpecError, TamperError) as error:
            self._blame(peer, str(error))
            return None
        return offer

    async def _check(self, offer: _Offer) -> None:
        """TamperError or SpecError unless the block is final to who trusts what is trusted here."""
        header, seals, trusted = offer.block.header, offer.seals, self._trusted
        try:
            check_sealed(header, seals, trusted, self._get_now_ms())
        except TamperError:  # then the validators are others by now
            trusted = await follow_changes(
                lambda want: self._ask(offer.peer, want), trusted, header.height, self._get_now_ms
            )
            check_sealed(header, seals, trusted, self._get_now_ms())

    # What to fetch

    async def _fetch(self, offer: _Offer) -> SnapshotImport | None:
        """What could be had of a snapshot; None without its manifest."""
        taking = await self._ask_manifest(offer)
        if taking is None:
            return None
        kept = taking.adopt(self._before) if self._before is not None else 0
        self._before = taking
        height, count = offer.block.header.height, len(taking.missing)
        again = f", {kept} are here from before" if kept else ""
        self._tell(f"takes the state of block {height} in {count} chunks{again}")
        try:
            async with asyncio.timeout(ATTEMPT_S):
                await self._fetch_chunks(taking, height)
        except TimeoutError:
            self._tell(f"not all chunks came within {ATTEMPT_S:g} s")
        return taking

    async def _ask_manifest(self, offer: _Offer) -> SnapshotImport | None:
        want = WantSnapshot(snapshot_wire.MANIFEST, offer.block.header.height)
        try:
            return SnapshotImport(offer.block.header, await self._ask(offer.peer, want))
        except Unanswered:
            return None
        except SpecError as error:
            self._blame(offer.peer, str(error))
            return None

    async def _fetch_chunks(self, taking: SnapshotImport, height: int) -> None:
        """Until none is missing, or nobody is left who would answer."""
        todo = deque(taking.missing)
        fetchers: dict[asyncio.Task[bool], PeerId] = {}
        spent: set[PeerId] = set()
        try:
            while taking.missing:
                busy = spent.union(fetchers.values())
                idle = [peer for peer in self._list_peers() if peer not in busy]
                for peer in idle[: min(FETCHERS_MAX - len(fetchers), len(todo))]:
                    task = asyncio.ensure_future(self._fetch_from(peer, taking, height, todo))
                    fetchers[task] = peer
                if not fetchers:
                    return
                done, _ = await asyncio.wait(
                    fetchers, timeout=PAUSE_S, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    peer = fetchers.pop(task)
                    if not task.result():
                        spent.add(peer)
        finally:
            for task in fetchers:
                task.cancel()
            await asyncio.gather(*fetchers, return_exceptions=True)

    async def _fetch_from(
        self, peer: PeerId, taking: SnapshotImport, height: int, todo: deque[int]
    ) -> bool:
        """Chunk after chunk from one peer while any is to be had; whether it may be asked again."""
        strikes = 0
        while todo:
            number = todo.popleft()
            want = WantSnapshot(snapshot_wire.CHUNK, height, taking.depth, number)
            try:
                if taking.take(await self._ask(peer, want)) != number:
                    raise SpecError(f"another chunk than number {number}, which was asked for")
                strikes = 0
            except Unanswered:
                todo.append(number)
                strikes += 1
                if strikes == STRIKES_MAX:
                    return False
                await asyncio.sleep(PAUSE_S)
            except SpecError as error:
                todo.append(number)
                self._blame(peer, str(error))
                return False
        return True

    async def _ask(self, peer: PeerId, want: WantSnapshot) -> bytes:
        request = encode_want_snapshot(want)
        return await self._transport.request(peer, Channel.SYNC, request, ANSWER_S)

    def _blame(self, peer: PeerId, why: str) -> None:
        """It is not asked again, by this node and while it joins."""
        self._liars.add(peer)
        self._transport.blame(peer, why)
        self._tell(f"peer {peer.hex()[:16]} shows what does not hold: {why}")
