"""Trees against the vectors of github.com/transparency-dev/merkle, and against themselves."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from chainlite import merkle
from tests.chainlite.samples import make_tree

VECTORS = Path(__file__).parents[1] / "vectors/rfc6962.json"
PROOFS: list[dict[str, Any]] = json.loads(VECTORS.read_text())["proofs"]


def decode(text: str | None) -> bytes:
    return base64.b64decode(text or "")


@pytest.mark.parametrize("kind", ["inclusion", "consistency"])
def test_every_vector_is_judged_as_its_authors_say(kind: str) -> None:
    cases = [case for case in PROOFS if case["name"].startswith(kind)]
    assert len(cases) == 98
    for case in cases:
        proof = [decode(item) for item in case["proof"] or []]
        if kind == "inclusion":
            place = (case["leafIdx"], case["treeSize"])
            leaf, root = decode(case["leafHash"]), decode(case["root"])
            holds = merkle.is_included(leaf, *place, proof, root)
        else:
            roots = (decode(case["root1"]), decode(case["root2"]))
            holds = merkle.is_consistent(case["size1"], case["size2"], proof, *roots)
        assert holds is not case["wantErr"], case["name"]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 64, 65, 100])
def test_stored_subtrees_give_the_same_root_and_proofs_that_hold(size: int) -> None:
    leaves = [merkle.compute_leaf_hash(b"%d" % number) for number in range(size)]
    nodes = {(0, number): leaf for number, leaf in enumerate(leaves)}
    for index in range(size):
        for level in range(1, merkle.get_new_nodes(index) + 1):
            number = index >> level
            pair = (nodes[level - 1, 2 * number], nodes[level - 1, 2 * number + 1])
            nodes[level, number] = merkle.compute_node_hash(*pair)

    def read(level: int, number: int) -> bytes:
        return nodes[level, number]

    root = merkle.compute_root(leaves)
    assert merkle.compute_tree_root(size, read) == root
    for index, leaf in enumerate(leaves):
        proof = merkle.compute_inclusion(index, size, read)
        assert merkle.is_included(leaf, index, size, proof, root)
        assert not merkle.is_included(leaf, index + 1, size, proof, root)
        assert not merkle.is_included(leaf, index, size, (*proof, leaf), root)


def test_consistency_is_proven_for_every_pair_of_sizes_and_for_no_other_tree() -> None:
    leaves = [merkle.compute_leaf_hash(b"%d" % number) for number in range(41)]
    other = merkle.compute_root(leaves[:3] + leaves[4:5])
    for new in range(1, len(leaves) + 1):
        root, read = make_tree(leaves[:new])
        for old in range(1, new + 1):
            old_root = merkle.compute_root(leaves[:old])
            proof = merkle.compute_consistency(old, new, read)
            assert merkle.is_consistent(old, new, proof, old_root, root)
            assert not merkle.is_consistent(old, new, proof, other, root)
            if old > 1:
                assert not merkle.is_consistent(old - 1, new, proof, old_root, root)


def test_consistency_proofs_are_those_of_the_vectors() -> None:
    """The authors' tree of eight leaves, RFC 6962's own example."""
    data = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")
    data += ("606162636465666768696a6b6c6d6e6f",)
    _, read = make_tree([merkle.compute_leaf_hash(bytes.fromhex(text)) for text in data])
    cases = [c for c in PROOFS if c["name"].startswith("consistency") and not c["wantErr"]]
    compared = 0
    for case in cases:
        if 0 < case["size1"] <= case["size2"] == len(data):
            proof = tuple(decode(item) for item in case["proof"] or [])
            assert merkle.compute_consistency(case["size1"], len(data), read) == proof
            compared += 1
    assert compared >= 2


def test_the_empty_tree_is_the_hash_of_nothing() -> None:
    assert merkle.compute_root([]).hex().startswith("e3b0c44298fc1c14")
