"""The real ledger and mempool in the simulator, with toychain's questions.

Not here: their rules (chainlite.ledger). A Ledger here never changes: a block is committed to a
copy, so nodes may share it as they share toychain's. Invariants: anchors are of a host's log that
grows, with true consistency proofs; the chain's id is the simulator's, not the genesis's, so that
all keys and liars are those of any other run.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import NamedTuple

from chainlite import keys, merkle
from chainlite.consensus.equivocation import Equivocation, encode_equivocation
from chainlite.consensus.validators import ValidatorSet
from chainlite.errors import DocklockError, SpecError
from chainlite.keys import KeyPair
from chainlite.ledger import operations, records
from chainlite.ledger.block import Block
from chainlite.ledger.genesis import Genesis, Member, Parameters, encode_genesis
from chainlite.ledger.header import Header
from chainlite.ledger.mempool import Mempool
from chainlite.ledger.state import Ledger as State
from chainlite.ledger.state import begin, make_genesis_block
from chainlite.ledger.tx import Tx, decode_tx, is_tx_signed, sign_tx
from tests.sim.toychain import CHAIN_ID, EPOCH_MS, HOSTS

HOST_KEYS = tuple(keys.make_key_pair(bytes([number + 200]) * 32) for number in range(HOSTS))
STEP_LEAVES = 3
"""By so many leaves a host's log grows from one anchor to the next."""
LOG_LEAVES = tuple(hashlib.sha256(b"leaf %d" % number).digest() for number in range(400))
CERTIFICATE = bytes(32)


class Ledger(NamedTuple):
    """What follows from the blocks so far. `validators` decide the next height."""

    state: State
    header: Header
    hash: bytes
    validators: ValidatorSet

    @property
    def height(self) -> int:
        return self.header.height + 1


def _freeze(state: State) -> Ledger:
    return Ledger(state, state.head, state.head_hash, state.get_validators(state.height + 1))


@lru_cache(maxsize=64)
def make_genesis(publics: tuple[bytes, ...]) -> Ledger:
    """Before height 1: these validators."""
    members = tuple(Member(key, "sim", "sim:1", CERTIFICATE) for key in sorted(publics))
    genesis = Genesis("sim", EPOCH_MS - 2_000, Parameters(), members)
    rows = dict(begin(encode_genesis(genesis)).get_items())
    node = begin(encode_genesis(genesis)).node
    return _freeze(State(CHAIN_ID, rows, node, make_genesis_block(genesis)))


def extend(ledger: Ledger, block: Block) -> Ledger | None:
    """The ledger after a block; None if it refuses it."""
    try:
        executed = ledger.state.check(block, lambda _: None)
    except SpecError:
        return None
    after = State(CHAIN_ID, dict(ledger.state.get_items()), ledger.state.node, block)
    after.head, after.head_hash = ledger.header, ledger.hash
    after.commit(executed)
    return _freeze(after)


def build(ledger: Ledger, waiting: list[Tx], timestamp_ms: int, proposer: bytes) -> Block:
    """The next block, with what applies of these transactions."""
    time_ms = max(timestamp_ms, ledger.header.timestamp_ms + 1)
    return ledger.state.propose(ledger.header, time_ms, proposer, waiting)[0]


def make_transaction(host: int, number: int) -> bytes:
    """The number-th of a host: it registers, then it anchors, each time some leaves more."""
    key = HOST_KEYS[host]
    if number == 0:
        return sign_tx(key, CHAIN_ID, 0, [operations.Register("sim", CERTIFICATE)]).encoded
    before, size = (number - 1) * STEP_LEAVES, number * STEP_LEAVES
    proof = merkle.compute_consistency(before, size, _read) if before else ()
    root = merkle.compute_tree_root(size, _read)
    anchor = operations.Anchor(size, root, b"".join(proof))
    return sign_tx(key, CHAIN_ID, number, [anchor]).encoded


@lru_cache(maxsize=4096)
def _read(level: int, number: int) -> bytes:
    """The node of the hosts' logs' tree: its leaves are the same for all hosts."""
    if level == 0:
        return merkle.compute_leaf_hash(LOG_LEAVES[number])
    return merkle.compute_node_hash(_read(level - 1, 2 * number), _read(level - 1, 2 * number + 1))


class Pool:
    """One node's mempool, the real one."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._mempool = Mempool(lambda sender, key: self._ledger.state.find_nonce(sender, key))

    @property
    def is_ready(self) -> bool:
        return self._mempool.is_ready()

    def admit(self, data: bytes, now_ms: int) -> None:
        """A transaction from a client, or from another node; what is refused is forgotten."""
        tx = decode_tx(data)
        if not is_tx_signed(tx):
            return
        try:
            self._mempool.admit(tx, now_ms)
        except DocklockError:
            return

    def accuse(self, key: KeyPair, evidence: Equivocation, now_ms: int) -> bytes:
        """A validator's transaction that shows two votes of another."""
        sender = keys.compute_host_id(key.public)
        nonce = self._mempool.get_free_nonce(sender, key.public)
        operation = operations.VotesEvidence(evidence.signer, encode_equivocation(evidence))
        encoded = sign_tx(key, CHAIN_ID, nonce, [operation]).encoded
        self.admit(encoded, now_ms)
        return encoded

    def take(self) -> list[Tx]:
        return self._mempool.take(self._ledger.state.parameters.registrations_per_block)

    def upon_block(self, ledger: Ledger, block: Block) -> None:
        self._ledger = ledger
        self._mempool.remove_committed(decode_tx(data) for data in block.transactions)


def find_lost_anchor(ledger: Ledger, blocks: list[Block]) -> str | None:
    """An anchor of these blocks that the state after them does not have, if any."""
    for block in blocks:
        for tx in (decode_tx(data) for data in block.transactions):
            host = ledger.state.find(records.HOST + tx.sender)
            for operation in tx.operations:
                if not isinstance(operation, operations.Anchor):
                    continue
                if not isinstance(host, records.Host) or host.size < operation.size:
                    return f"{operation.size} leaves of {tx.sender.hex()[:8]}"
    return None
