"""An authenticated map: a compact sparse Merkle tree over the hashes of its keys.

A key lies at the path SHA-256(STATE_KEY || key), bit by bit from the highest. A subtree of one key
is that key's leaf, an empty one is EMPTY, any other is the hash of its halves. So a set of rows has
one shape and one root, whatever its history, and a path is about log2 of the rows long.
Nodes are tuples and never change: `update` gives a new tree that shares what is equal, so a fork of
the state costs what it changes, and dropping it costs nothing.
Not here: what the rows mean (records), values (whoever calls keeps them), disks (store).
Invariants: `update` gives the tree that `build` gives of all rows (tests/ledger/test_tree.py); a
leaf names its whole path and a hash of its value, so a leaf is no node and stands nowhere else.
Source: Dahlberg, Pulls, Peeters, "Efficient Sparse Merkle Trees" (2016); Diem's JellyfishMerkle for
the leaf that stands for its subtree.
"""

from __future__ import annotations

from bisect import bisect_left
from hashlib import sha256

from chainlite import domains
from chainlite.codec import Reader, encode_bytes, encode_head
from chainlite.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TypeAlias

    # A leaf: (hash, path, hash of the value). A branch: (hash, left, right, None). Empty: None.
    Node: TypeAlias = tuple[Any, ...] | None
    # A key's path, and its new leaf, or None where it is taken out.
    Change: TypeAlias = tuple[int, Node]

VERSION = 1
PATH_BITS = 256
HASH_BYTES = 32
EMPTY = bytes(HASH_BYTES)
VALUE_LIMIT_BYTES = 1 << 20
NOTHING, OTHER, FOUND = 0, 1, 2


class Proof(NamedTuple):
    """What stands at the end of a key's path, and the hashes beside it, from the root down.

    FOUND: the key itself, with the value that the verifier has. OTHER: the leaf (`path`,
    `value_hash`, else EMPTY) of another key, which is alone below here. NOTHING: no leaf.
    """

    end: int
    path: bytes
    value_hash: bytes
    siblings: tuple[bytes, ...]


def compute_path(key: bytes) -> int:
    """Where a key lies."""
    return int.from_bytes(sha256(domains.STATE_KEY + key).digest(), "big")


def compute_value_hash(value: bytes) -> bytes:
    """What a leaf names its value by."""
    return sha256(domains.STATE_VALUE + value).digest()


def make_leaf(path: int, value: bytes) -> Node:
    """The leaf of a row."""
    value_hash = sha256(domains.STATE_VALUE + value).digest()
    digest = sha256(domains.STATE_LEAF + path.to_bytes(32, "big") + value_hash).digest()
    return (digest, path, value_hash)


def get_root(node: Node) -> bytes:
    """The hash of a tree or a subtree."""
    return node[0] if node else EMPTY


def build(rows: Iterable[tuple[bytes, bytes]]) -> Node:
    """The tree of distinct keys with their values."""
    return update(
        None, [(path := compute_path(key), make_leaf(path, value)) for key, value in rows]
    )


def update(node: Node, changes: list[Change]) -> Node:
    """The tree after these changes, of distinct paths in any order; the old one stays as it was."""
    changes.sort(key=_get_path)
    paths = [path for path, _ in changes]
    return _update(node, changes, paths, 0, len(changes), 0, 1 << PATH_BITS - 1)


def build_at(leaves: list[Change], depth: int) -> Node:
    """The subtree of sorted leaves that share their first `depth` bits."""
    if not leaves:
        return None
    paths = [path for path, _ in leaves]
    bit = 1 << PATH_BITS - 1 - depth if depth < PATH_BITS else 0
    prefix = paths[0] >> PATH_BITS - depth << PATH_BITS - depth
    return _update(None, leaves, paths, 0, len(leaves), prefix, bit)


def _get_path(change: Change) -> int:
    return change[0]


def _update(
    node: Node, changes: list[Change], paths: list[int], start: int, end: int, prefix: int, bit: int
) -> Node:
    """The subtree under `prefix` after changes[start:end]; `bit` is the one that its halves split.

    The recursion ends where one change meets no more than one leaf: 256 deep at the most.
    """
    left: Node = None
    right: Node = None
    if node is None or len(node) == 3:
        if end - start == 1 and (node is None or node[1] == paths[start]):
            only: Node = changes[start][1]
            return only
        if node is not None:
            at = bisect_left(paths, node[1], start, end)
            if at == end or paths[at] != node[1]:
                changes = [*changes[start:at], (node[1], node), *changes[at:end]]
                paths = [*paths[start:at], node[1], *paths[at:end]]
                start, end = 0, len(paths)
    else:
        left, right = node[1], node[2]
    middle = bisect_left(paths, prefix | bit, start, end)
    half = bit >> 1
    if middle > start:
        left = _update(left, changes, paths, start, middle, prefix, half)
    if end > middle:
        right = _update(right, changes, paths, middle, end, prefix | bit, half)
    if right is None and (left is None or len(left) == 3):
        return left
    if left is None and right is not None and len(right) == 3:
        return right
    hashes = (left[0] if left else EMPTY) + (right[0] if right else EMPTY)
    return (sha256(domains.STATE_NODE + hashes).digest(), left, right, None)


def prove(node: Node, key: bytes) -> Proof:
    """The proof of what the tree has at a key: its value, or that it has none."""
    path, siblings = compute_path(key), list[bytes]()
    bit = 1 << PATH_BITS - 1
    while node is not None and len(node) == 4:
        _, left, right, _ = node
        node, beside = (right, left) if path & bit else (left, right)
        siblings.append(get_root(beside))
        bit >>= 1
    if node is None:
        return Proof(NOTHING, EMPTY, EMPTY, tuple(siblings))
    if node[1] == path:
        return Proof(FOUND, EMPTY, EMPTY, tuple(siblings))
    return Proof(OTHER, node[1].to_bytes(32, "big"), node[2], tuple(siblings))


def is_proven(root: bytes, key: bytes, value: bytes | None, proof: Proof) -> bool:
    """Whether the proof shows that a tree with this root has this value, or none, at the key.

    Stands alone: a verifier needs the root, from a sealed header, and nothing else.
    """
    path, depth = compute_path(key), len(proof.siblings)
    if depth > PATH_BITS or (value is not None) != (proof.end == FOUND):
        return False
    if value is not None:
        digest = get_root(make_leaf(path, value))
    elif proof.end == NOTHING:
        digest = EMPTY
    else:
        other = int.from_bytes(proof.path, "big")
        if other == path or (other ^ path) >> PATH_BITS - depth:
            return False
        digest = sha256(domains.STATE_LEAF + proof.path + proof.value_hash).digest()
    for number in range(depth - 1, -1, -1):
        beside = proof.siblings[number]
        pair = beside + digest if path >> PATH_BITS - 1 - number & 1 else digest + beside
        digest = sha256(domains.STATE_NODE + pair).digest()
    return digest == root


def encode_proof(proof: Proof) -> bytes:
    """Tag, version, end u8, path and value hash where a leaf is named, then the siblings."""
    head = encode_head(domains.STATE_PROOF, VERSION) + bytes((proof.end,))
    named = proof.path + proof.value_hash if proof.end == OTHER else b""
    return head + named + encode_bytes(b"".join(proof.siblings))


def decode_proof(data: bytes) -> Proof:
    """The proof that these bytes are; SpecError for any other bytes."""
    r = Reader(data, "state proof")
    r.read_head(domains.STATE_PROOF, VERSION)
    end = r.read_u8(limit=FOUND)
    named = (r.read_fixed(32), r.read_fixed(32)) if end == OTHER else (EMPTY, EMPTY)
    joined = r.read_bytes(PATH_BITS * HASH_BYTES)
    if len(joined) % HASH_BYTES:
        r.refuse("the siblings are not whole hashes")
    r.finish()
    siblings = [joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES)]
    return Proof(end, *named, tuple(siblings))
