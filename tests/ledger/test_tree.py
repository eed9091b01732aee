"""The authenticated map: one root for one set of rows, proofs of what it has and what not."""

from __future__ import annotations

from hashlib import sha256
from random import Random

import pytest

from chainlite import domains
from chainlite.errors import SpecError
from chainlite.ledger import tree


def apply(node: tree.Node, changes: dict[bytes, bytes | None]) -> tree.Node:
    listed = []
    for key, value in changes.items():
        path = tree.compute_path(key)
        listed.append((path, None if value is None else tree.make_leaf(path, value)))
    return tree.update(node, listed)


def test_any_history_of_the_same_rows_has_the_same_tree(full: bool, seed: int) -> None:
    rng = Random(seed)
    for _ in range(300 if full else 30):
        node: tree.Node = None
        rows: dict[bytes, bytes] = {}
        pool = [rng.randbytes(2) for _ in range(rng.randrange(1, 60))]
        for _ in range(rng.randrange(1, 12)):
            changes: dict[bytes, bytes | None] = {}
            for key in rng.sample(pool, rng.randrange(1, len(pool) + 1)):
                changes[key] = None if rng.random() < 0.4 else rng.randbytes(3)
            before = tree.get_root(node)
            after = apply(node, changes)
            assert tree.get_root(node) == before, "a fork changed what it was made of"
            node = after
            for key, value in changes.items():
                rows.pop(key, None)
                if value is not None:
                    rows[key] = value
            assert node == tree.build(rows.items())
        assert apply(node, dict.fromkeys(rows)) is None


def test_what_is_there_and_what_is_not_is_proven_and_nothing_else(seed: int) -> None:
    rng = Random(seed)
    for count in (0, 1, 2, 3, 50, 300):
        rows = {b"k%d" % number: b"v%d" % number for number in range(count)}
        node = tree.build(rows.items())
        root = tree.get_root(node)
        for key, value in list(rows.items())[:60]:
            proof = tree.prove(node, key)
            assert tree.is_proven(root, key, value, proof)
            assert tree.decode_proof(tree.encode_proof(proof)) == proof
            assert not tree.is_proven(root, key, value + b"x", proof)
            assert not tree.is_proven(root, key, None, proof)
            assert not tree.is_proven(root, key + b"x", value, proof)
            # A leaf of this very key cannot stand for another that hides it.
            leaf = tree.make_leaf(tree.compute_path(key), value)
            assert leaf is not None
            claim = (tree.OTHER, leaf[1].to_bytes(32, "big"), leaf[2], proof.siblings)
            assert not tree.is_proven(root, key, None, tree.Proof(*claim))
        ends = set()
        for number in range(60):
            key = b"absent%d" % number
            proof = tree.prove(node, key)
            ends.add(proof.end)
            assert tree.is_proven(root, key, None, proof)
            assert not tree.is_proven(root, key, b"", proof)
            assert tree.decode_proof(tree.encode_proof(proof)) == proof
            for at in range(len(proof.siblings)):
                spoilt = list(proof.siblings)
                spoilt[at] = rng.randbytes(32)
                changed = proof._replace(siblings=tuple(spoilt))
                assert not tree.is_proven(root, key, None, changed)
        assert count != 300 or ends == {tree.NOTHING, tree.OTHER}


def test_a_proof_cut_short_or_made_longer_proves_nothing() -> None:
    rows = {b"k%d" % number: b"v" for number in range(40)}
    node = tree.build(rows.items())
    root, proof = tree.get_root(node), tree.prove(node, b"k7")
    for siblings in (
        proof.siblings[1:], proof.siblings[:-1], (*proof.siblings, tree.EMPTY),
        proof.siblings * 60,
    ):  # fmt: skip
        assert not tree.is_proven(root, b"k7", b"v", proof._replace(siblings=siblings))


def test_a_proof_that_is_not_canonical_is_refused() -> None:
    node = tree.build([(b"a", b"1"), (b"b", b"2"), (b"c", b"3")])
    data = tree.encode_proof(tree.prove(node, b"a"))
    for spoilt in (data + b"\0", data[:-1], b"\x00" + data[1:], data[:3] + b"\x03" + data[4:]):
        with pytest.raises(SpecError):
            tree.decode_proof(spoilt)


def test_a_leaf_that_stands_where_it_does_not_belong_hides_nothing() -> None:
    """Under a root that nobody who keeps the rules makes: the proof is refused all the same."""
    keys = [b"k%d" % number for number in range(20)]
    left = next(key for key in keys if tree.compute_path(key) >> 255 == 0)
    right = next(key for key in keys if tree.compute_path(key) >> 255 == 1)
    leaf = tree.make_leaf(tree.compute_path(right), b"v")
    assert leaf is not None
    root = sha256(domains.STATE_NODE + leaf[0] + tree.EMPTY).digest()
    claim = tree.Proof(tree.OTHER, leaf[1].to_bytes(32, "big"), leaf[2], (tree.EMPTY,))
    assert not tree.is_proven(root, left, None, claim)
