"""A ledger small enough to simulate: anchors of hosts that grow, and changes of the validators.

Not here: the real one (chainlite.ledger.state). Invariants: `extend` is pure, so that its verdict
may be remembered by bytes; it judges what a ledger judges and no more (roots and transactions):
height, previous hash, time and proposer are for qbft to check, and a qbft that forgets is caught.
A change is a named one of the plan, each at most once: as if a quorum's vote stood behind it.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from chainlite.consensus.validators import NO_PROPOSER, ValidatorSet
from chainlite.ledger.block import Block, make_block
from chainlite.ledger.header import Header, compute_header_hash, encode_header

HOSTS = 4
EPOCH_MS = 1_700_000_000_000
CHAIN_ID = b"\x5a" * 32
ZERO = bytes(32)
TRANSACTIONS_MAX = 6
WAITING_MAX = 50


class Ledger(NamedTuple):
    """What follows from the blocks so far. `validators` decide the next height."""

    header: Header
    hash: bytes
    validators: ValidatorSet
    joining: tuple[bytes, ...]
    sizes: tuple[int, ...]
    changes: tuple[bytes, ...]

    @property
    def height(self) -> int:
        return self.header.height + 1


def make_genesis(keys: tuple[bytes, ...], changes: tuple[bytes, ...]) -> Ledger:
    """Before height 1: these validators, and the changes that may still be made."""
    validators = ValidatorSet(keys)
    header = Header(
        0, ZERO, ZERO, ZERO, ZERO, ZERO, validators.digest, EPOCH_MS - 60_000, NO_PROPOSER
    )
    block_hash = compute_header_hash(encode_header(header))
    return Ledger(header, block_hash, validators, (), (0,) * HOSTS, changes)


def encode_anchor(host: int, size: int) -> bytes:
    return b"a%d:%d" % (host, size)


def _apply(ledger: Ledger, transactions: tuple[bytes, ...]) -> Ledger | None:
    """Sizes, changes and the next sets after these transactions; None if one does not apply."""
    sizes, changes = list(ledger.sizes), list(ledger.changes)
    keys, joining = [*ledger.validators.keys, *ledger.joining], []
    for transaction in transactions:
        if transaction[:1] in (b"+", b"-"):
            if transaction not in changes:
                return None
            changes.remove(transaction)
            if transaction[:1] == b"+":
                joining.append(transaction[1:])
            elif transaction[1:] in keys:
                keys.remove(transaction[1:])
            continue
        host, size = (int(part) for part in transaction[1:].split(b":"))
        if size <= sizes[host]:
            return None
        sizes[host] = size
    return ledger._replace(
        sizes=tuple(sizes),
        changes=tuple(changes),
        validators=ValidatorSet(keys),
        joining=tuple(joining),
    )


def _commit(after: Ledger, transactions: tuple[bytes, ...]) -> tuple[bytes, bytes]:
    """The roots of state and receipts."""
    state = repr((after.sizes, after.changes, after.joining)).encode() + after.validators.digest
    return hashlib.sha256(state).digest(), hashlib.sha256(repr(transactions).encode()).digest()


def choose(ledger: Ledger, pending: list[bytes]) -> tuple[bytes, ...]:
    """The first of these transactions that apply, one after the other."""
    chosen: tuple[bytes, ...] = ()
    for transaction in pending:
        if len(chosen) < TRANSACTIONS_MAX and _apply(ledger, (*chosen, transaction)) is not None:
            chosen = (*chosen, transaction)
    return chosen


class Pool:
    """One node's transactions that wait."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: list[bytes] = []

    @property
    def is_ready(self) -> bool:
        return bool(choose(self._ledger, self._waiting))

    def admit(self, transaction: bytes, _now_ms: int) -> None:
        self._waiting = [*self._waiting[1 - WAITING_MAX :], transaction]

    def take(self) -> list[bytes]:
        return self._waiting

    def upon_block(self, ledger: Ledger, block: Block) -> None:
        self._ledger = ledger
        self._waiting = [t for t in self._waiting if t not in block.transactions]


def build(ledger: Ledger, waiting: list[bytes], timestamp_ms: int, proposer: bytes) -> Block:
    """The next block, with what applies of these transactions."""
    transactions = choose(ledger, waiting)
    after = _apply(ledger, transactions)
    assert after is not None
    state_root, receipts_root = _commit(after, transactions)
    history = hashlib.sha256(ledger.header.history_root + ledger.hash).digest()
    header = Header(
        ledger.height,
        ledger.hash,
        history,
        state_root,
        receipts_root,
        ZERO,
        after.validators.digest,
        max(timestamp_ms, ledger.header.timestamp_ms + 1),
        proposer,
    )
    return make_block(header, transactions, ())


def extend(ledger: Ledger, block: Block) -> Ledger | None:
    """The ledger after a block; None if its transactions or roots are not right."""
    try:
        after = _apply(ledger, block.transactions)
    except (ValueError, IndexError):
        return None
    if after is None:
        return None
    header = block.header
    history = hashlib.sha256(ledger.header.history_root + ledger.hash).digest()
    roots = (header.history_root, header.state_root, header.receipts_root, header.next_validators)
    if roots != (history, *_commit(after, block.transactions), after.validators.digest):
        return None
    return after._replace(header=header, hash=block.hash)
