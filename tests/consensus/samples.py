"""Validators, blocks and votes for the tests of this room."""

from __future__ import annotations

from chainlite import keys, merkle
from chainlite.consensus import messages
from chainlite.consensus.validators import ValidatorSet
from chainlite.ledger.block import Block, make_block
from chainlite.ledger.header import Header, compute_seal_digest

CHAIN = b"c" * 32
ZERO = bytes(32)


def make_keys(count: int) -> list[keys.KeyPair]:
    pairs = [keys.make_key_pair(bytes([number]) * 32) for number in range(count)]
    return sorted(pairs, key=lambda pair: pair.public)


def make_set(pairs: list[keys.KeyPair]) -> ValidatorSet:
    return ValidatorSet(pair.public for pair in pairs)


def make_genesis(validators: ValidatorSet) -> Block:
    header = Header(0, ZERO, ZERO, ZERO, ZERO, ZERO, validators.digest, 1_000, ZERO)
    return make_block(header, [], [])


def make_child(parent: Block, proposer: bytes, *transactions: bytes) -> Block:
    header = parent.header._replace(
        height=parent.header.height + 1,
        previous=parent.hash,
        receipts_root=merkle.compute_root([merkle.compute_leaf_hash(tx) for tx in transactions]),
        timestamp_ms=parent.header.timestamp_ms + 1,
        proposer=proposer,
    )
    return make_block(header, transactions, [])


def sign_votes(
    pairs: list[keys.KeyPair], kind: int, block: Block, round: int
) -> tuple[messages.Vote, ...]:
    digest = compute_seal_digest(CHAIN, block.hash, round)
    return tuple(
        messages.sign_vote(pair, CHAIN, kind, block.header.height, round, digest) for pair in pairs
    )
