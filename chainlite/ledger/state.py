"""The ledger: the state after the last block, what the next block would make of it, and the step.

Not here: the rules of each operation (rules, votes, notarised_rules), disks (store), whether the
clock agrees with a block and who sealed it (chainlite.consensus). Invariants: a block that `check`
passes has the roots that its header says; `propose` makes only blocks that `check` passes; the
same blocks give the same state root, from genesis or from any state restored
(tests/ledger/test_state.py). No floats, no clock, no order but that of bytes.
Source: CHAIN.md, "Transactions, mempool, state"; README.md of this room.
"""

from __future__ import annotations

from chainlite import keys, merkle
from chainlite.consensus.validators import NO_PROPOSER, ValidatorSet
from chainlite.errors import SpecError, TamperError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.ledger import operations as ops
from chainlite.ledger import records, tree, votes
from chainlite.ledger.block import Block, make_block
from chainlite.ledger.genesis import compute_chain_id, decode_genesis
from chainlite.ledger.header import Header
from chainlite.ledger.order import arrange, check_order
from chainlite.ledger.rules import apply_tx, get_nonce, is_member
from chainlite.ledger.tx import Tx, compute_receipts_root, decode_tx, is_tx_signed
from chainlite.ledger.view import Refused, View
from chainlite.proofs import poh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from chainlite.ledger.genesis import Genesis, Parameters
    from chainlite.ledger.records import Record
    from chainlite.ledger.tree import Node


class InvalidBlock(SpecError):
    """A block breaks a rule, and which."""


class Executed(NamedTuple):
    """What a block makes of the state before it; made by `check` and `propose`, for `commit`.

    `changes` are the rows it sets, None where one goes; `values` the same as bytes, for a store.
    `refused` are candidates that `propose` left out because they will never apply.
    """

    block: Block
    txs: tuple[Tx, ...]
    changes: dict[bytes, Record | None]
    values: dict[bytes, bytes | None]
    node: Node
    parent: bytes
    refused: tuple[Tx, ...] = ()


class Ledger:
    """The state after `head`, whose hash is `head_hash`; one owner, who commits block by block."""

    __slots__ = ("_node", "_rows", "chain_id", "head", "head_hash")

    def __init__(self, chain_id: bytes, rows: dict[bytes, Record], node: Node, head: Block) -> None:
        """For `begin` and `restore`."""
        self.chain_id = chain_id
        self._rows = rows
        self._node = node
        self.head: Header = head.header
        self.head_hash: bytes = head.hash

    @property
    def height(self) -> int:
        """That of the last block."""
        return self.head.height

    @property
    def state_root(self) -> bytes:
        """The root of the state after the last block."""
        return tree.get_root(self._node)

    @property
    def node(self) -> Node:
        """The tree of the state after the last block: it never changes, so a snapshot keeps it."""
        return self._node

    @property
    def parameters(self) -> Parameters:
        """Those that hold in the next block."""
        return self._look().parameters

    def find(self, key: bytes) -> Record | None:
        """The row at a key (records)."""
        return self._rows.get(key)

    def get_items(self) -> Iterable[tuple[bytes, Record]]:
        """All rows."""
        return self._rows.items()

    def find_nonce(self, sender: bytes, key: bytes) -> int | None:
        """The nonce of a sender's next transaction; None if nobody with this key may send one."""
        host = self._rows.get(records.HOST + sender)
        if isinstance(host, records.Host):
            return host.nonce if host.key == key and host.status == records.ACTIVE else None
        view = self._look()
        if keys.compute_host_id(key) != sender or not is_member(view, key):
            return None
        return get_nonce(view, sender)

    def prove(self, key: bytes) -> tuple[bytes | None, tree.Proof]:
        """The value at a key, None if there is none, and the proof under the state root."""
        record = self._rows.get(key)
        value = None if record is None else records.encode_record(key, record)
        return value, tree.prove(self._node, key)

    def get_validators(self, height: int) -> ValidatorSet:
        """The validators of the last block's height, or of the next."""
        found = self._rows[records.VALIDATORS_KEY]
        assert isinstance(found, records.Validators)
        if height == self.height:
            return found.current
        if height == self.height + 1:
            return found.next
        raise ValueError(f"the state of height {self.height} has no validators of {height}")

    def propose(
        self, previous: Header, timestamp_ms: int, proposer: bytes, candidates: Iterable[Tx]
    ) -> tuple[Block, Executed]:
        """The next block: of these transactions all that apply and fit, in a block's order.

        The candidates' signatures were checked before. `previous` is the head.
        """
        assert previous == self.head and timestamp_ms > previous.timestamp_ms
        view = self._open(timestamp_ms)
        txs, refused = [], []
        for tx in arrange(candidates):
            try:
                if tx.chain_id != self.chain_id:
                    raise Refused("it is of another chain")
                apply_tx(view, tx)
            except Refused as why:
                if not why.later:
                    refused.append(tx)
                continue
            txs.append(tx)
        ticks = poh.count_ticks(previous.timestamp_ms, timestamp_ms)
        ends = poh.compute_ends(self.head_hash, ticks, get_mixed(txs))
        node, values = self._close(view)
        header = self._make_header(view, txs, ends, node, proposer)
        block = make_block(header, [tx.encoded for tx in txs], ends)
        made = (block, tuple(txs), view.changes, values, node, self.head_hash, tuple(refused))
        return block, Executed(*made)

    def check(self, block: Block, find_checked: Callable[[bytes], Tx | None]) -> Executed:
        """What a block makes of this state; InvalidBlock says which rule it breaks.

        `find_checked` knows transactions, by their bytes, whose signature was checked. Whether
        the block's time is now, and its seals, are the consensus's to check.
        """
        header = block.header
        self._check_place(header)
        txs = tuple([self._take_tx(data, find_checked) for data in block.transactions])
        check_order(txs)
        view = self._open(header.timestamp_ms)
        for number, tx in enumerate(txs):
            try:
                apply_tx(view, tx)
            except Refused as why:
                raise InvalidBlock(f"block: transaction {number} does not apply: {why}") from None
        node, values = self._close(view)
        expected = self._make_header(view, txs, block.poh, node, header.proposer)
        if header != expected:
            wrong = [
                name
                for name, one, other in zip(Header._fields, header, expected, strict=True)
                if one != other
            ]
            raise InvalidBlock(f"block: {', '.join(wrong)}: not what its transactions make")
        ticks = poh.count_ticks(self.head.timestamp_ms, header.timestamp_ms)
        segments = poh.split_segments(self.head_hash, ticks, get_mixed(txs), block.poh)
        if not all(map(poh.is_run, segments)):
            raise InvalidBlock("block: a segment of ticks does not lead to its end")
        return Executed(block, txs, view.changes, values, node, self.head_hash)

    def commit(self, executed: Executed) -> None:
        """Take the step that `check` or `propose` of the present state made."""
        assert executed.parent == self.head_hash
        rows = self._rows
        for key, record in executed.changes.items():
            if record is None:
                rows.pop(key, None)
            else:
                rows[key] = record
        self._node = executed.node
        self.head, self.head_hash = executed.block.header, executed.block.hash

    def _check_place(self, header: Header) -> None:
        if header.height != self.height + 1 or header.previous != self.head_hash:
            raise InvalidBlock(f"block: it does not follow block {self.height}")
        if header.timestamp_ms <= self.head.timestamp_ms:
            raise InvalidBlock("block: its time is not after that of the block before")
        if header.proposer not in self.get_validators(header.height):
            raise InvalidBlock("block: its proposer is no validator of its height")

    def _take_tx(self, data: bytes, find_checked: Callable[[bytes], Tx | None]) -> Tx:
        tx = find_checked(data)
        if tx is not None:
            known = True
        else:
            tx, known = decode_tx(data), False
        if tx.chain_id != self.chain_id:
            raise InvalidBlock("block: a transaction of another chain")
        if not known and not is_tx_signed(tx):
            raise InvalidBlock("block: a transaction that its sender did not sign")
        return tx

    def _look(self) -> View:
        """A view to read the present state by."""
        return View(self._rows, self.chain_id, self.height, self.head.timestamp_ms)

    def _open(self, timestamp_ms: int) -> View:
        """The view of the next block: the head is in its history, its validators are in place."""
        view = View(self._rows, self.chain_id, self.height + 1, timestamp_ms)
        history = view.get(records.HISTORY_KEY, records.History)
        view.put(records.HISTORY_KEY, records.append_history(history, self.head_hash))
        votes.begin_block(view)
        view.keep()
        return view

    def _close(self, view: View) -> tuple[Node, dict[bytes, bytes | None]]:
        """The tree with a view's changes, and their bytes."""
        values: dict[bytes, bytes | None] = {}
        changes: list[tree.Change] = []
        for key, record in view.changes.items():
            path = tree.compute_path(key)
            if record is None:
                values[key] = None
                changes.append((path, None))
            else:
                value = values[key] = records.encode_record(key, record)
                changes.append((path, tree.make_leaf(path, value)))
        return tree.update(self._node, changes), values

    def _make_header(
        self, view: View, txs: Sequence[Tx], ends: Sequence[bytes], node: Node, proposer: bytes
    ) -> Header:
        return Header(
            view.height,
            self.head_hash,
            records.compute_history_root(view.get(records.HISTORY_KEY, records.History)),
            tree.get_root(node),
            compute_receipts_root(txs),
            poh.compute_poh_root(ends),
            view.validators.next.digest,
            view.timestamp_ms,
            proposer,
        )


def get_mixed(txs: Sequence[Tx]) -> list[bytes]:
    """What a block mixes into its ticks: the leaf of each anchor, in order."""
    return [
        leaf
        for tx in txs
        for operation, leaf in zip(tx.operations, tx.leaves, strict=True)
        if isinstance(operation, ops.Anchor)
    ]


def begin(genesis_bytes: bytes) -> Ledger:
    """The ledger after its genesis; SpecError where the bytes are none."""
    genesis = decode_genesis(genesis_bytes)
    rows = _make_rows(genesis)
    node = tree.build([(key, records.encode_record(key, row)) for key, row in rows.items()])
    return Ledger(compute_chain_id(genesis_bytes), rows, node, make_genesis_block(genesis))


def make_genesis_block(genesis: Genesis) -> Block:
    """The block of height 0, which nobody seals: the genesis determines its hash."""
    rows = _make_rows(genesis)
    root = tree.get_root(
        tree.build([(key, records.encode_record(key, row)) for key, row in rows.items()])
    )
    validators = ValidatorSet(member.public for member in genesis.members)
    empty = merkle.EMPTY_ROOT
    header = Header(
        0, bytes(32), empty, root, empty, empty, validators.digest, genesis.time_ms, NO_PROPOSER
    )
    return make_block(header, (), ())


def restore(genesis_bytes: bytes, values: Iterable[tuple[bytes, bytes]], head: Block) -> Ledger:
    """The ledger of a state's rows after the block `head`; TamperError if its root is another."""
    rows: dict[bytes, Record] = {}
    changes: list[tree.Change] = []
    for key, value in values:
        try:
            rows[key] = records.decode_record(key, value)
        except SpecError as error:
            raise TamperError(str(error)) from None
        path = tree.compute_path(key)
        changes.append((path, tree.make_leaf(path, value)))
    node = tree.update(None, changes)
    if tree.get_root(node) != head.header.state_root:
        raise TamperError(f"the state's rows are not those of block {head.header.height}")
    return Ledger(compute_chain_id(genesis_bytes), rows, node, head)


def _make_rows(genesis: Genesis) -> dict[bytes, Record]:
    validators = ValidatorSet(member.public for member in genesis.members)
    return {
        records.VALIDATORS_KEY: records.Validators(validators, validators, genesis.members, ()),
        records.PARAMETERS_KEY: genesis.parameters,
        records.PROPOSALS_KEY: (),
        records.HISTORY_KEY: records.History(0, ()),
        records.ARCHIVES_KEY: (),
        records.COUNTS_KEY: records.Counts(0),
    }
