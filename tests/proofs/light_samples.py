"""A small chain in memory with anchors in it, and light proofs of them.

Not here: a chain as nodes make it (tests/ledger, tests/sim): headers here are true where a light
proof looks, and zeros elsewhere.
"""

from __future__ import annotations

from typing import NamedTuple

from chainlite import domains, hostlog, keys, merkle
from chainlite.consensus.validators import ValidatorSet
from chainlite.ledger import operations as ops
from chainlite.ledger import tx
from chainlite.ledger.genesis import Genesis, Member, Parameters
from chainlite.ledger.header import (
    Header,
    Seals,
    compute_header_hash,
    compute_seal_digest,
    encode_commit,
    encode_header,
)
from chainlite.ledger.state import make_genesis_block
from chainlite.proofs import light_make
from chainlite.proofs.light_format import Event, LightProof
from chainlite.proofs.trusted import trust_genesis
from tests.chainlite.samples import make_key
from tests.chainlite.test_proof import HOST, Made

START_MS = 1_795_000_000_000
NOW_MS = START_MS + 3_600_000
ZERO = bytes(32)
PAIRS = {pair.public: pair for pair in (make_key(number) for number in range(100, 116))}
KEYS = tuple(sorted(PAIRS))


def make_genesis(size: int = 4, name: str = "test") -> Genesis:
    members = tuple(Member(key, f"op{n}", f"127.0.0.1:{n}", ZERO) for n, key in enumerate(KEYS))
    return Genesis(name, START_MS, Parameters(), members[:size])


class Sealed(NamedTuple):
    """A block, who was to seal it, and the seals of them all."""

    header: Header
    hash: bytes
    txs: tuple[tx.Tx, ...]
    validators: ValidatorSet
    seals: Seals


class Chain:
    """Headers that follow each other, from a genesis on."""

    def __init__(self, size: int = 4, name: str = "test") -> None:
        self.genesis = make_genesis(size, name)
        self.trusted = trust_genesis(self.genesis)
        self.chain_id = self.trusted.chain_id
        self.validators = self.trusted.validators
        self.hashes = [make_genesis_block(self.genesis).hash]
        self.blocks: list[Sealed] = []

    def add(
        self,
        txs: tuple[tx.Tx, ...] = (),
        after: ValidatorSet | None = None,
        sealed_in: int = 0,
        by: ValidatorSet | None = None,
    ) -> Sealed:
        """The next block; `after` are the validators from the next height on."""
        height, after = len(self.hashes), after or self.validators
        header = Header(
            height, self.hashes[-1], self.get_history_root(height), b"\x01" * 32,
            tx.compute_receipts_root(txs), b"\x02" * 32, after.digest,
            START_MS + 1000 * height, self.validators.get_proposer(ZERO, height),
        )  # fmt: skip
        block_hash = compute_header_hash(encode_header(header))
        seals = self.seal(header, by or self.validators, sealed_in)
        made = Sealed(header, block_hash, txs, self.validators, seals)
        self.blocks.append(made)
        self.hashes.append(block_hash)
        self.validators = after
        return made

    def seal(self, header: Header, validators: ValidatorSet, sealed_in: int = 0) -> Seals:
        block_hash = compute_header_hash(encode_header(header))
        digest = compute_seal_digest(self.chain_id, block_hash, sealed_in)
        message = encode_commit(self.chain_id, header.height, sealed_in, digest)
        signatures = tuple(
            keys.sign(PAIRS[key], domains.SIGN_COMMIT, message) for key in validators.keys
        )
        return Seals(sealed_in, validators.encode_bitmap(validators.keys), signatures)

    def get_history_root(self, height: int) -> bytes:
        return merkle.compute_root([merkle.compute_leaf_hash(one) for one in self.hashes[:height]])

    def get_history_path(self, height: int, newer: int) -> tuple[bytes, ...]:
        leaves = [merkle.compute_leaf_hash(one) for one in self.hashes[:newer]]
        return tx.compute_path(leaves, height)

    def make_anchors(
        self, count: int, log: tuple[int, bytes], host: keys.KeyPair = HOST
    ) -> tuple[tx.Tx, ...]:
        """Anchors of as many hosts; that of `host`, in the middle, is of this log."""
        made = [
            tx.sign_tx(PAIRS[KEYS[n % 16]], self.chain_id, n, (ops.Anchor(n + 1, ZERO),))
            for n in range(count - 1)
        ]
        anchor = ops.Anchor(*log, proof=b"\x07" * 640)
        made.insert(count // 2, tx.sign_tx(host, self.chain_id, 7, (anchor,)))
        return tuple(made)


def get_log(made: Made) -> tuple[int, bytes]:
    """The (size, root) of the log in which the sample's segment lies."""
    parts = made.parts
    leaf = hostlog.encode_segment(hostlog.Segment(parts.header, parts.signature))
    root = merkle.compute_root_of_path(
        merkle.compute_leaf_hash(leaf), parts.leaf_index, made.log_size, parts.log_proof
    )
    assert root is not None
    return made.log_size, root


def seal_final(block: Sealed) -> light_make.Finality:
    return light_make.Finality(seals=light_make.trim_seals(block.seals, block.validators))


def make_light(
    chain: Chain, made: Made, finality: light_make.Finality | None = None, txs: int = 5,
    *, is_event: bool = True,
) -> LightProof:  # fmt: skip
    """A proof in the chain's next block, sealed by its validators if no finality is given."""
    block = chain.add(chain.make_anchors(txs, get_log(made)))
    event = get_event(made) if is_event else None
    return light_make.make_light_proof(
        chain.chain_id, block.txs, (txs // 2, 0), block.header, finality or seal_final(block), event
    )


def get_event(made: Made) -> Event:
    return light_make.make_event_of_proof(made.parts, made.parts.log_proof)
