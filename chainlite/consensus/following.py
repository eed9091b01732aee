"""How a node that is behind gets the blocks it lacks, and how it leads others.

Not here: which block is final (qbft's upon_new_block judges each one), snapshots of the state
(serving, joining). A status is a hint: it leads to a question, and only sealed blocks
count. Invariants: blocks are asked of one peer at a time; a peer whose answer does not go on from
here is not asked again for a while; a block that a quorum sealed, and that is not the one here, or
does not follow from the state here, halts the node.
Source: README.md of this room, "Laggards".
"""

from __future__ import annotations

import asyncio

from chainlite import domains
from chainlite.consensus.events import Received
from chainlite.consensus.messages import NewBlock
from chainlite.consensus.serving import Serving
from chainlite.consensus.wire import (
    BLOCKS_LIMIT_BYTES,
    BLOCKS_MAX,
    Status,
    WantBlocks,
    decode_blocks,
    decode_status,
    decode_want,
    encode_blocks,
    encode_status,
    encode_want,
)
from chainlite.errors import PeerError, SpecError, StateError
from chainlite.lean import TYPE_CHECKING
from chainlite.ledger.header import is_sealed
from chainlite.ledger.tx import compute_receipts_root, decode_tx
from chainlite.net.transport import Channel, Unanswered
from chainlite.proofs.poh import compute_poh_root

if TYPE_CHECKING:
    from collections.abc import Callable

    from chainlite.consensus.node import Node
    from chainlite.ledger.block import Block
    from chainlite.ledger.tx import Tx
    from chainlite.net.transport import PeerId

ANSWER_S = 10.0
AVOID_S = 5.0
"""How long a peer that led nowhere is not asked."""
SUSPECTS_MAX = 16


class Following:
    """The SYNC channel of one node; belongs to its event loop."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._statuses: dict[PeerId, Status] = {}
        self._avoided: dict[PeerId, float] = {}
        self._task: asyncio.Task[None] | None = None
        self._later: asyncio.TimerHandle | None = None
        self._suspects: set[asyncio.Task[None]] = set()
        self._serving = Serving(node.store)

    def start(self) -> None:
        """Listen, and tell whoever comes how far this node is."""
        transport = self._node.transport
        transport.listen(Channel.SYNC, self._upon_status, self._upon_want)
        transport.watch(self._upon_up, self._upon_down)

    async def close(self) -> None:
        """Ask no more."""
        self._serving.close()
        if self._later is not None:
            self._later.cancel()
        tasks = [*self._suspects, *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def get_best_height(self) -> int:
        """The greatest height that a peer that is up has told of; a hint."""
        return max((status.height for status in self._statuses.values()), default=0)

    def get_heights(self) -> dict[bytes, int]:
        """What the peers that are up have told of theirs; hints."""
        return {peer: status.height for peer, status in self._statuses.items()}

    def tell(self) -> None:
        """Tell all that are up how far this node is."""
        node = self._node
        status = Status(node.height, node.ledger.head_hash)
        node.transport.broadcast(Channel.SYNC, encode_status(status))

    def _upon_up(self, peer: PeerId) -> None:
        node = self._node
        status = Status(node.height, node.ledger.head_hash)
        node.transport.send(peer, Channel.SYNC, encode_status(status))

    def _upon_down(self, peer: PeerId) -> None:
        self._statuses.pop(peer, None)

    def _upon_status(self, peer: PeerId, _: Channel, payload: bytes) -> None:
        try:
            status = decode_status(payload)
        except SpecError as error:
            raise PeerError(str(error)) from None
        self._statuses[peer] = status
        if status.height > self._node.height + 1:
            self.catch_up()
        elif status.height == self._node.height + 1:
            # Most often the votes for it are on their way: asked only if they do not come.
            if self._later is None:
                delay_s = self._node.get_base_timeout_ms() / 1000
                self._later = asyncio.get_running_loop().call_later(delay_s, self._look_again)
        elif status.height <= self._node.store.base:
            return  # what came before this store, nobody can compare
        elif status.block_hash != self._node.get_hash(status.height):
            self._suspect(peer, status)

    async def _upon_want(self, peer: PeerId, _: Channel, payload: bytes) -> bytes:
        if payload[:1] == domains.WANT_SNAPSHOT:
            return await self._serving.answer(peer, payload)
        start, tables = max(decode_want(payload).start, 1), self._node.store.tables
        if start < tables.base:
            raise StateError(f"block {start} is not here: {tables.say_base()}")
        found: list[tuple[bytes, bytes]] = []
        size = 0
        for block, seals in self._node.store.read_blocks(start, BLOCKS_MAX):
            size += len(block) + len(seals)
            if found and size > BLOCKS_LIMIT_BYTES:
                break
            found.append((block, seals))
        return encode_blocks(found)

    def _look_again(self) -> None:
        self._later = None
        self.catch_up()

    def catch_up(self) -> None:
        """Ask for what is missing, if anything is and nobody is asked already."""
        if self._task is None and not self._node.halted and self._choose() is not None:
            self._task = asyncio.ensure_future(self._follow())
            self._task.add_done_callback(self._upon_end)

    def _upon_end(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled():
            task.result()
            self.catch_up()

    def _choose(self) -> PeerId | None:
        """The peer that has told of the greatest height above this node's."""
        now = asyncio.get_running_loop().time()
        ahead = [
            (status.height, peer)
            for peer, status in self._statuses.items()
            if status.height > self._node.height and self._avoided.get(peer, 0) <= now
        ]
        return max(ahead)[1] if ahead else None

    async def _follow(self) -> None:
        while (peer := self._choose()) is not None and not self._node.halted:
            before = self._node.height
            try:
                for block in await self._ask(peer, before + 1):
                    self._take(block)
                    await asyncio.sleep(0)
            except (PeerError, SpecError, Unanswered):
                pass
            if self._node.height == before:
                self._avoided[peer] = asyncio.get_running_loop().time() + AVOID_S

    async def _ask(self, peer: PeerId, start: int) -> list[NewBlock]:
        request = encode_want(WantBlocks(start))
        transport = self._node.transport
        return decode_blocks(await transport.request(peer, Channel.SYNC, request, ANSWER_S))

    def _take(self, message: NewBlock) -> None:
        """Go one block further; halt where a quorum sealed what cannot follow here."""
        node, block = self._node, message.block
        if block.header.height != node.height + 1:
            return
        node.feed(Received(message))
        if node.height >= block.header.height or node.waits_for or node.halted:
            return
        sealed = is_sealed(
            message.seals, node.validators, node.ledger.chain_id, node.height + 1, block.hash
        )
        if sealed and is_body_of(block):
            node.halt(
                f"block {node.height + 1} ({block.hash.hex()}) is sealed by a quorum and does not "
                f"follow from the state here: {node.get_fault(block)}"
            )
        raise PeerError("a block that is not final here")

    def _suspect(self, peer: PeerId, status: Status) -> None:
        """A peer names another block at a final height: let it show the seals."""
        if len(self._suspects) < SUSPECTS_MAX:
            task = asyncio.ensure_future(self._examine(peer, status))
            self._suspects.add(task)
            task.add_done_callback(self._suspects.discard)

    async def _examine(self, peer: PeerId, status: Status) -> None:
        node = self._node
        try:
            blocks = await self._ask(peer, status.height)
        except (SpecError, Unanswered):
            return
        for message in blocks[:1]:
            block = message.block
            validators = node.find_validators(block.header.height)
            if (
                block.header.height == status.height
                and block.hash != node.get_hash(status.height)
                and validators is not None
                and is_sealed(
                    message.seals, validators, node.ledger.chain_id, status.height, block.hash
                )
            ):
                node.halt(
                    f"two blocks of height {status.height} are sealed by a quorum: "
                    f"{block.hash.hex()} and {node.get_hash(status.height).hex()}: "
                    "more than a third of the validators has lied"
                )


def is_body_of(block: Block, find: Callable[[bytes], Tx | None] | None = None) -> bool:
    """Whether the transactions and ticks are those that the header commits to.

    `find` knows transactions, by their bytes, that were decoded before.
    """
    known = find or _find_none
    try:
        txs = [known(data) or decode_tx(data) for data in block.transactions]
        receipts_root = compute_receipts_root(txs)
    except SpecError:
        return False
    header = block.header
    return (receipts_root, compute_poh_root(block.poh)) == (header.receipts_root, header.poh_root)


def _find_none(_: bytes) -> None:
    """Nothing was decoded before."""
