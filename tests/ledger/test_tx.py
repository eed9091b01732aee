"""Transactions: one signature, every byte covered, every operation provable alone."""

from __future__ import annotations

from random import Random

import pytest

from chainlite import merkle
from chainlite.errors import SpecError
from chainlite.keys import make_key_pair
from chainlite.ledger import operations as ops
from chainlite.ledger import tx as txs
from chainlite.ledger.block import TRANSACTION_LIMIT_BYTES
from chainlite.ledger.tx import decode_signed, decode_tx, is_tx_signed, sign_tx

KEY = make_key_pair(b"k" * 32)
CHAIN = b"\x07" * 32
ROOT = b"\x11" * 32
SAMPLES: tuple[ops.Operation, ...] = (
    ops.Anchor(5, ROOT, ROOT * 3),
    ops.Register("somebody", ROOT),
    ops.Rotate(ROOT, ROOT * 2),
    ops.Revoke(1, 2),
    ops.VotesEvidence(ROOT, b"votes"),
    ops.ForkEvidence(ROOT, b"fork"),
    ops.Available(ROOT, 5, ROOT),
    ops.NotaryBlock(ROOT, b"block", ROOT * 2, 9, ROOT),
    ops.NotaryBundle(ROOT, b"bundle", ROOT * 2),
    ops.MemberVote(ops.VALIDATOR, 1, ROOT, "somebody", "host:1", ROOT),
    ops.MemberVote(ops.ARCHIVE, 0, ROOT, "", "", bytes(32)),
    ops.ParameterVote(1, 2),
    ops.Statement(ROOT),
)


def test_every_operation_comes_back_and_is_canonical() -> None:
    made = sign_tx(KEY, CHAIN, 3, SAMPLES)
    again = decode_tx(made.encoded)
    assert again == made and again.operations == SAMPLES
    for operation in SAMPLES:
        claim, supplement = ops.encode_operation(operation)
        assert ops.decode_operation(claim, supplement) == operation
        with pytest.raises(SpecError):
            ops.decode_operation(claim + b"\0", supplement)
        with pytest.raises(SpecError):
            ops.decode_operation(claim[:-1], supplement)
        if not isinstance(operation, ops.VotesEvidence | ops.ForkEvidence):
            with pytest.raises(SpecError):
                ops.decode_operation(claim, supplement + b"\0")


def test_nobody_but_the_signer_can_change_a_bit(full: bool, seed: int) -> None:
    made = sign_tx(KEY, CHAIN, 3, SAMPLES[:8])
    rng, size = Random(seed), len(made.encoded)
    bits = range(8 * size) if full else sorted(rng.sample(range(8 * size), 800))
    for bit in bits:
        spoilt = bytearray(made.encoded)
        spoilt[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SpecError):
            decode_signed(bytes(spoilt), CHAIN)
    with pytest.raises(SpecError, match="another chain"):
        decode_signed(made.encoded, ROOT)
    assert decode_signed(made.encoded, CHAIN) == made


def test_each_operation_is_provable_alone(seed: int) -> None:
    for count in (1, 2, 3, 7, 64):
        made = sign_tx(KEY, CHAIN, 0, [ops.Revoke(number, 0) for number in range(count)])
        for place in range(count):
            proof = txs.prove_operation(made, place)
            assert txs.is_operation_included(proof, count, made.root)
            for wrong in (
                proof._replace(claim=proof.claim[:-1] + b"\x09"),
                proof._replace(supplement_hash=bytes(32)),
                proof._replace(place=place + 1),
                proof._replace(path=(*proof.path, bytes(32))),
            ):
                assert not txs.is_operation_included(wrong, count, made.root)


def test_a_transaction_is_a_leaf_under_receipts_root() -> None:
    made = [sign_tx(KEY, CHAIN, number, SAMPLES[:1]) for number in range(5)]
    root = txs.compute_receipts_root(made)
    assert txs.compute_receipts_root([]) == merkle.EMPTY_ROOT
    for number, tx in enumerate(made):
        leaf = merkle.compute_leaf_hash(txs.get_signed_envelope(tx))
        assert leaf == tx.hash
        assert merkle.is_included(leaf, number, 5, txs.prove_tx(made, number), root)


def test_limits_are_kept() -> None:
    with pytest.raises(SpecError, match="0 operations"):
        sign_tx(KEY, CHAIN, 0, [])
    large = ops.ForkEvidence(ROOT, bytes(TRANSACTION_LIMIT_BYTES))
    with pytest.raises(SpecError, match="bytes, not"):
        sign_tx(KEY, CHAIN, 0, [large])
    with pytest.raises(SpecError, match="above"):
        sign_tx(KEY, CHAIN, 0, [ops.Anchor(ops.LOG_SIZE_MAX + 1, ROOT)])
    with pytest.raises(SpecError, match="at most"):
        sign_tx(KEY, CHAIN, 0, [ops.Anchor(1, ROOT, bytes(31))])


def test_a_signature_of_another_key_does_not_count() -> None:
    made = sign_tx(KEY, CHAIN, 0, SAMPLES[:1])
    assert is_tx_signed(made)
    other = make_key_pair(b"o" * 32)
    assert not is_tx_signed(made._replace(key=other.public))
