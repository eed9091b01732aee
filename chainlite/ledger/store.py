"""The chain on disk: blocks with their seals, and what follows from them, in one SQLite file.

The blocks are what counts; state and indexes follow from them and are written when FLUSH_ROWS rows
have changed, so that a block costs one row and one fdatasync. What is newer is executed again when
the store is opened. Not here: the tables (store_tables), the rules (state), a whole check and a
repair (store_check). Invariants: one writer, one transaction per block, on disk before it is in the
ledger; a store that opens has the state root of its last block, recomputed; what contradicts itself
is a StoreDamage that names file, table and height, and never repaired silently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainlite import merkle
from chainlite.errors import SpecError, StateError, TamperError
from chainlite.ledger import operations as ops
from chainlite.ledger import records, state
from chainlite.ledger.genesis import decode_genesis
from chainlite.ledger.header import encode_seals
from chainlite.ledger.store_tables import AnchorPlace, SetChange, Tables, make_tables
from chainlite.ledger.tx import SIGNED_BYTES, decode_tx
from chainlite.ledger.tx_index import Place, TxIndex

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from chainlite.ledger.block import Block
    from chainlite.ledger.header import Seals
    from chainlite.ledger.state import Executed, Ledger

FLUSH_ROWS = 4_096
FLUSH_BLOCKS = 256
FLUSH_TXS = 4_096
"""Whichever is reached first: it bounds what an opening store executes again to some 0.1 s."""


class Store:
    """One file and its ledger. Made by `create`, `create_from_state` or `open_store`."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self._dirty: dict[bytes, bytes | None] = {}
        self._anchors: list[tuple[bytes, AnchorPlace]] = []
        self._waiting_txs = 0
        with tables.guard("tx_runs"):
            self._index = TxIndex(tables.db)
        self.ledger = self._load()

    @property
    def height(self) -> int:
        """That of the last block."""
        return self.ledger.height

    @property
    def base(self) -> int:
        """The height that it begins with, 0 unless it was made from a snapshot."""
        return self.tables.base

    @property
    def genesis(self) -> bytes:
        """The bytes that the chain begins with."""
        return self.tables.genesis

    def append(self, executed: Executed, seals: Seals) -> None:
        """The next block, sealed: on disk, then in the ledger. StateError if the disk is full."""
        self.write(executed, seals)
        self.ledger.commit(executed)

    def write(self, executed: Executed, seals: Seals) -> None:
        """The first half of `append`, which may be left to a thread: the disk only."""
        block, tables = executed.block, self.tables
        height = block.header.height
        assert executed.parent == self.ledger.head_hash
        flush = (
            len(self._dirty) >= FLUSH_ROWS
            or self._waiting_txs >= FLUSH_TXS
            or height - tables.flushed > FLUSH_BLOCKS
        )
        run = self._index.is_due(height)
        with tables.begin():
            if flush:
                tables.write_state(self._dirty, self._anchors, height - 1)
            if run:
                self._index.write_run(height - 1)
            tables.insert_block(block, encode_seals(seals))
            change = find_set_change(executed)
            if change is not None:
                tables.insert_set(*change)
        if flush:
            self._forget_flushed(height - 1)
        if run:
            self._index.forget(height - 1)
        self._note(executed)

    def get_block(self, height: int) -> tuple[Block, Seals | None]:
        """A block and its seals, which only the genesis lacks; StateError where it is not here."""
        return self.tables.get_block(height)

    def read_blocks(self, first: int, most: int) -> list[tuple[bytes, bytes]]:
        """Blocks and seals as bytes for a peer, from `first` on: at most `most` and 8 MiB."""
        return self.tables.read_blocks(first, most)

    def find_tx(self, digest: bytes) -> Place | None:
        """Where the transaction with this hash is, or None if no block here has it."""
        with self.tables.guard("tx_runs"):
            places = self._index.find(digest)
        for place in places:
            block, _ = self.get_block(place.height)
            if digest == _get_hashes(block)[place.position]:
                return place
        return None

    def find_anchor(self, host: bytes, leaf_index: int) -> AnchorPlace | None:
        """The first anchor of a host's log that has this leaf, or None if none has it yet."""
        found = self.tables.find_anchor(host, leaf_index)
        if found is not None:
            return found
        for sender, anchor in self._anchors:
            if sender == host and anchor.size > leaf_index:
                return anchor
        return None

    def prove_history(self, height: int, size: int) -> tuple[bytes, ...]:
        """The path from block `height` to the history_root of the block at height `size`."""
        if not 0 <= height < size <= self.height + 1:
            raise StateError(f"block {height} is not one of {size}, or not all are here")
        return merkle.compute_inclusion(height, size, self.tables.read_node)

    def compute_history_root(self, size: int) -> bytes:
        """The root over the hashes of the first `size` blocks; StateError if not all are here."""
        self._check_size(size)
        return merkle.compute_tree_root(size, self.tables.read_node)

    def prove_growth(self, old_size: int, size: int) -> tuple[bytes, ...]:
        """The proof that the first `old_size` blocks begin the first `size`; StateError."""
        if not 0 < old_size <= size:
            raise StateError(f"{old_size} blocks do not begin {size}")
        self._check_size(size)
        return merkle.compute_consistency(old_size, size, self.tables.read_node)

    def read_sets(self) -> list[SetChange]:
        """Each change of the validators after the block that the store begins with."""
        return self.tables.read_sets()

    def read_anchors(self) -> list[tuple[bytes, AnchorPlace]]:
        """Every host's anchors, in no order."""
        return self.tables.read_anchors() + self._anchors

    def close(self) -> None:
        """Write what follows from the blocks, so that the next opening is short, and close."""
        try:
            if self._dirty:
                height = self.height
                with self.tables.begin():
                    self.tables.write_state(self._dirty, self._anchors, height)
                self._forget_flushed(height)
        finally:
            self.tables.db.close()

    def _check_size(self, size: int) -> None:
        if not 0 <= size <= self.height + 1:
            raise StateError(f"{size} blocks are not here: the last one is {self.height}")

    def _load(self) -> Ledger:
        """The ledger of the state on disk, and the blocks after it executed again."""
        tables = self.tables
        base, last = tables.flushed, tables.get_last()
        if not tables.base <= base <= last:
            raise tables.name_damage("meta", -1, f"the state is of block {base}, not here")
        first = _make_genesis_block(tables) if tables.base == 0 else None
        if first is not None and tables.get_block(0) != (first, None):
            raise tables.name_damage("blocks", 0, "it is not what the genesis makes")
        try:
            ledger = state.restore(tables.genesis, tables.read_state(), tables.get_block(base)[0])
        except (TamperError, SpecError) as error:
            raise tables.name_damage("state", base, str(error)) from None
        for height in range(max(tables.base, self._index.last) + 1, base + 1):
            self._index.add(height, _get_hashes(tables.get_block(height)[0]))
        for block, _ in tables.iterate_blocks(base + 1, last):
            try:
                executed = ledger.check(block, decode_tx)
            except SpecError as error:
                raise tables.name_damage("blocks", block.header.height, str(error)) from None
            self._note(executed)
            ledger.commit(executed)
        return ledger

    def _note(self, executed: Executed) -> None:
        """What a block changed, for the next flush."""
        height = executed.block.header.height
        self._dirty.update(executed.values)
        self._waiting_txs += len(executed.txs)
        if height > self._index.last:
            self._index.add(height, [tx.hash for tx in executed.txs])
        self._anchors += list_anchors(executed)

    def _forget_flushed(self, height: int) -> None:
        self._dirty.clear()
        self._anchors.clear()
        self._waiting_txs = 0
        self.tables.flushed = height


def _make_genesis_block(tables: Tables) -> Block:
    try:
        return state.make_genesis_block(decode_genesis(tables.genesis))
    except SpecError as error:
        raise tables.name_damage("meta", -1, str(error)) from None


def find_set_change(executed: Executed) -> SetChange | None:
    """The change of validators that a block makes, if it makes one."""
    row = executed.changes.get(records.VALIDATORS_KEY)
    if not isinstance(row, records.Validators) or row.current == row.next:
        return None
    return SetChange(executed.block.header.height, row.current, row.next)


def list_anchors(executed: Executed) -> list[tuple[bytes, AnchorPlace]]:
    """The hosts that a block anchors, and where."""
    height = executed.block.header.height
    return [
        (tx.sender, AnchorPlace(operation.size, height, position, place))
        for position, tx in enumerate(executed.txs)
        for place, operation in enumerate(tx.operations)
        if isinstance(operation, ops.Anchor)
    ]


def create(path: Path, genesis: bytes) -> Store:
    """A new store of a chain that begins with this genesis; StateError if the file is there."""
    ledger = state.begin(genesis)
    block = state.make_genesis_block(decode_genesis(genesis))
    rows = [(key, records.encode_record(key, row)) for key, row in ledger.get_items()]
    return create_from_state(path, genesis, (block, b""), rows)


def create_from_state(
    path: Path, genesis: bytes, head: tuple[Block, bytes], rows: Iterable[tuple[bytes, bytes]]
) -> Store:
    """A new store that begins after `head`, a block and its seals' bytes, with the state's rows.

    TamperError unless the rows are those of the block; that it is sealed, the caller has checked.
    """
    values = sorted(rows)
    history = state.restore(genesis, values, head[0]).find(records.HISTORY_KEY)
    assert isinstance(history, records.History)
    make_tables(path, genesis, head, values, history)
    return Store(Tables(path))


def open_store(path: Path) -> Store:
    """The store of a file; StateError if there is none, StoreDamage if it contradicts itself."""
    tables, store = Tables(path), None
    try:
        store = Store(tables)
        return store
    finally:
        if store is None:
            tables.db.close()


def _get_hashes(block: Block) -> list[bytes]:
    """The hashes of a block's transactions, which need not be decoded for that."""
    return [merkle.compute_leaf_hash(data[:SIGNED_BYTES]) for data in block.transactions]
