"""A transaction: operations of one sender under one signature, each provable alone.

The signature is over an envelope that names chain, sender, key, nonce and the root of the
operations; a block's receipts_root is over signed envelopes. Not here: operations as such
(operations), whether one applies (state), who keeps them (mempool). Invariants: the key stands in
the envelope, so a signature is checked without any state; what `decode_tx` accepts is canonical
and its operations are those under the root, so nobody but the signer can change a byte.
Source: RFC 6962 for the trees; layout: README.md of this room, "Transaction".
"""

from __future__ import annotations

import struct
from hashlib import sha256

from chainlite import domains, keys, merkle
from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.ledger.block import TRANSACTION_LIMIT_BYTES
from chainlite.ledger.operations import decode_operation, encode_operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chainlite.ledger.operations import Operation

VERSION = 1
OPERATIONS_MAX = 4096
"""In one transaction: so many that 256 KiB are full of the smallest before it is reached."""
_ENVELOPE = struct.Struct(">cH32s32s32sQI32s")
_FIXED = struct.Struct(">cH32s32s32sQI32s64s")
_SIZE = struct.Struct(">I")
ENVELOPE_BYTES = _ENVELOPE.size
SIGNED_BYTES = _FIXED.size
"""Envelope and signature: what a leaf under receipts_root is."""


class Tx(NamedTuple):
    """Made by `sign_tx` or `decode_tx`, so that what is derived always goes with the bytes.

    `sender` is compute_host_id of the sender's first key, `key` its present one. `leaves` are the
    hashes of the operations' leaves; `hash` names the transaction and is its leaf's hash under
    receipts_root.
    """

    chain_id: bytes
    sender: bytes
    key: bytes
    nonce: int
    root: bytes
    signature: bytes
    operations: tuple[Operation, ...]
    leaves: tuple[bytes, ...]
    hash: bytes
    encoded: bytes


class OperationProof(NamedTuple):
    """An operation in a transaction: its claim, the hash of its supplement, its place, a path."""

    claim: bytes
    supplement_hash: bytes
    place: int
    path: tuple[bytes, ...]


def sign_tx(
    key: keys.Signer, chain_id: bytes, nonce: int, operations: Sequence[Operation],
    sender: bytes = b"",
) -> Tx:  # fmt: skip
    """The transaction of these operations; without a `sender` it is the id of this very key.

    SpecError where it is above TRANSACTION_LIMIT_BYTES or has no operation.
    """
    encoded = [encode_operation(operation) for operation in operations]
    leaves = [compute_operation_leaf(*pair) for pair in encoded]
    sender = sender or keys.compute_host_id(key.public)
    root = merkle.compute_root(leaves)
    envelope = encode_envelope(chain_id, sender, key.public, nonce, len(encoded), root)
    parts = [envelope, keys.sign(key, domains.SIGN_TRANSACTION, envelope)]
    for claim, supplement in encoded:
        parts += (_SIZE.pack(len(claim)), claim, _SIZE.pack(len(supplement)), supplement)
    return decode_tx(b"".join(parts))


def encode_envelope(
    chain_id: bytes, sender: bytes, key: bytes, nonce: int, count: int, root: bytes
) -> bytes:
    """What a transaction's signature is over: these fields after tag and version."""
    head = (domains.TRANSACTION, VERSION, chain_id, sender, key, nonce, count, root)
    return _ENVELOPE.pack(*head)


def decode_tx(data: bytes) -> Tx:
    """The transaction that these bytes are; SpecError for any other bytes. Checks no signature."""
    size = len(data)
    if not SIGNED_BYTES <= size <= TRANSACTION_LIMIT_BYTES:
        raise SpecError(
            f"transaction: {size} bytes, not {SIGNED_BYTES} to {TRANSACTION_LIMIT_BYTES}"
        )
    tag, version, chain_id, sender, key, nonce, count, root, signature = _FIXED.unpack_from(data)
    if tag != domains.TRANSACTION or version != VERSION:
        raise SpecError(f"transaction: starts with {data[:3].hex()}, which is not known")
    if not 1 <= count <= OPERATIONS_MAX:
        raise SpecError(f"transaction: {count} operations, not 1 to {OPERATIONS_MAX}")
    operations, leaves = _read_operations(data, count)
    if (leaves[0] if count == 1 else merkle.compute_root(leaves)) != root:
        raise SpecError("transaction: its operations are not those under its root")
    digest = sha256(domains.LEAF + data[:SIGNED_BYTES]).digest()
    return Tx._make(
        (chain_id, sender, key, nonce, root, signature, operations, leaves, digest, data)
    )


def _read_operations(data: bytes, count: int) -> tuple[tuple[Operation, ...], tuple[bytes, ...]]:
    at, end = SIGNED_BYTES, len(data)
    operations, leaves = [], []
    for _ in range(count):
        pair = []
        for _ in range(2):
            if at + 4 > end:
                raise SpecError(f"transaction: ends early (byte {at} of {end})")
            size = _SIZE.unpack_from(data, at)[0]
            at += 4
            if at + size > end:
                raise SpecError(f"transaction: {size} bytes wanted (byte {at} of {end})")
            pair.append(data[at : at + size])
            at += size
        operations.append(decode_operation(*pair))
        leaves.append(compute_operation_leaf(*pair))
    if at != end:
        raise SpecError(f"transaction: {end - at} bytes too many")
    return tuple(operations), tuple(leaves)


def is_tx_signed(tx: Tx) -> bool:
    """Whether the key in the envelope signed it. Whether that is the sender's, the state knows."""
    envelope = tx.encoded[:ENVELOPE_BYTES]
    return keys.is_signed(tx.key, domains.SIGN_TRANSACTION, envelope, tx.signature)


def decode_signed(data: bytes, chain_id: bytes) -> Tx:
    """The transaction of these bytes, for this chain and signed; SpecError for any other bytes.

    Nearly all of its time libsodium has, without Python's lock: call it from a thread.
    """
    tx = decode_tx(data)
    if tx.chain_id != chain_id:
        raise SpecError("transaction: it is of another chain")
    if not is_tx_signed(tx):
        raise SpecError("transaction: its sender did not sign it")
    return tx


def get_signed_envelope(tx: Tx) -> bytes:
    """The leaf that a transaction has under receipts_root."""
    return tx.encoded[:SIGNED_BYTES]


def compute_receipts_root(txs: Sequence[Tx]) -> bytes:
    """RFC 6962 root over the signed envelopes of a block's transactions, in order."""
    return merkle.compute_root([tx.hash for tx in txs])


def compute_operation_leaf(claim: bytes, supplement: bytes) -> bytes:
    """The hash of an operation's leaf, which is its claim and SHA-256 of its supplement."""
    return sha256(domains.LEAF + claim + sha256(supplement).digest()).digest()


def prove_operation(tx: Tx, place: int) -> OperationProof:
    """The proof that the operation at `place` is in the transaction."""
    claim, supplement = encode_operation(tx.operations[place])
    path = compute_path(tx.leaves, place)
    return OperationProof(claim, sha256(supplement).digest(), place, path)


def is_operation_included(proof: OperationProof, count: int, root: bytes) -> bool:
    """Whether the claim is one of the `count` operations under an envelope's root."""
    leaf = sha256(domains.LEAF + proof.claim + proof.supplement_hash).digest()
    return merkle.is_included(leaf, proof.place, count, proof.path, root)


def prove_tx(txs: Sequence[Tx], index: int) -> tuple[bytes, ...]:
    """The path from a transaction's signed envelope to the receipts_root of its block."""
    return compute_path([tx.hash for tx in txs], index)


def compute_path(hashes: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The inclusion proof of the leaf at `index`, all leaves' hashes given."""

    def read(level: int, number: int) -> bytes:
        return merkle.compute_root(hashes[number << level : (number + 1) << level])

    return merkle.compute_inclusion(index, len(hashes), read)
