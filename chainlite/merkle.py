"""RFC 6962 Merkle trees over SHA-256: roots, inclusion and consistency proofs.

Not here: who stores leaves (docklock.evidence) and who signs roots (checkpoint). All functions
are pure; the hash reader of the proofs is the caller's. Invariant: a leaf hash is
SHA-256(0x00 || bytes), a node SHA-256(0x01 || left || right), so neither passes for the other.
Source: RFC 6962 section 2.1; RFC 9162 section 2.1.3 and 2.1.4 for the checks.
"""

from __future__ import annotations

from chainlite.domains import LEAF, NODE
from chainlite.lean import TYPE_CHECKING
from chainlite.sha2 import sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()


def compute_leaf_hash(data: bytes) -> bytes:
    """SHA-256 of 0x00 and the leaf's bytes."""
    return sha256(LEAF + data).digest()


def compute_node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256 of 0x01 and the two children."""
    return sha256(NODE + left + right).digest()


def compute_root(leaf_hashes: Sequence[bytes]) -> bytes:
    """The root over leaf hashes; SHA-256 of nothing for none."""
    if not leaf_hashes:
        return EMPTY_ROOT
    level = list(leaf_hashes)
    digest, node = sha256, NODE
    while len(level) > 1:
        paired = iter(level)
        above = [
            digest(node + left + right).digest()
            for left, right in zip(paired, paired, strict=False)
        ]
        if len(level) & 1:
            above.append(level[-1])
        level = above
    return level[0]


def get_new_nodes(leaf_index: int) -> int:
    """How many complete subtrees above level 0 the leaf at this index completes."""
    count = 0
    number = leaf_index + 1
    while number & 1 == 0:
        number >>= 1
        count += 1
    return count


def compute_range_root(start: int, end: int, read: Callable[[int, int], bytes]) -> bytes:
    """Root over leaves [start, end), as RFC 6962 splits them.

    `read(level, number)` gives the hash of the complete subtree over leaves
    [number << level, (number + 1) << level).
    """
    size = end - start
    level = size.bit_length() - 1
    if size == 1 << level and start % size == 0:
        return read(level, start >> level)
    split = 1 << (size - 1).bit_length() - 1
    left = compute_range_root(start, start + split, read)
    return compute_node_hash(left, compute_range_root(start + split, end, read))


def add_leaf(frontier: list[bytes], size: int, data: bytes) -> list[bytes]:
    """The leaf at index `size` joins the complete subtrees of the first `size` leaves.

    The hashes of the subtrees that it completes, from its own leaf hash upwards.
    """
    value = compute_leaf_hash(data)
    made = [value]
    while size & 1:
        value = compute_node_hash(frontier.pop(), value)
        made.append(value)
        size >>= 1
    frontier.append(value)
    return made


def compute_frontier_root(frontier: Sequence[bytes]) -> bytes:
    """The root over complete subtrees, the largest first."""
    if not frontier:
        return EMPTY_ROOT
    value = frontier[-1]
    for left in reversed(frontier[:-1]):
        value = compute_node_hash(left, value)
    return value


def compute_tree_root(tree_size: int, read: Callable[[int, int], bytes]) -> bytes:
    """Root of a tree whose complete subtrees `read` gives."""
    return compute_range_root(0, tree_size, read) if tree_size else EMPTY_ROOT


def compute_inclusion(
    leaf_index: int, tree_size: int, read: Callable[[int, int], bytes]
) -> tuple[bytes, ...]:
    """The inclusion proof of one leaf, nearest sibling first."""
    assert 0 <= leaf_index < tree_size
    start, end, path = 0, tree_size, list[bytes]()
    while end - start > 1:
        middle = start + (1 << (end - start - 1).bit_length() - 1)
        if leaf_index < middle:
            path.append(compute_range_root(middle, end, read))
            end = middle
        else:
            path.append(compute_range_root(start, middle, read))
            start = middle
    return tuple(reversed(path))


def compute_consistency(
    old_size: int, new_size: int, read: Callable[[int, int], bytes]
) -> tuple[bytes, ...]:
    """The proof that the first `old_size` leaves are a prefix of a tree (RFC 6962, 2.1.2)."""
    assert 0 < old_size <= new_size
    start, end, path = 0, new_size, list[bytes]()
    while end != old_size:
        middle = start + (1 << (end - start - 1).bit_length() - 1)
        if old_size <= middle:
            path.append(compute_range_root(middle, end, read))
            end = middle
        else:
            path.append(compute_range_root(start, middle, read))
            start = middle
    if start:
        path.append(compute_range_root(start, end, read))
    return tuple(reversed(path))


def is_included(
    leaf_hash: bytes, leaf_index: int, tree_size: int, proof: Sequence[bytes], root: bytes
) -> bool:
    """Whether the proof shows the leaf at this index under the root (RFC 9162, 2.1.3.2)."""
    return compute_root_of_path(leaf_hash, leaf_index, tree_size, proof) == root


def compute_root_of_path(
    leaf_hash: bytes, leaf_index: int, tree_size: int, proof: Sequence[bytes]
) -> bytes | None:
    """The root that an inclusion proof leads to; None if no proof has this shape."""
    if not 0 <= leaf_index < tree_size or len(leaf_hash) != HASH_BYTES:
        return None
    number, last, value = leaf_index, tree_size - 1, leaf_hash
    for sibling in proof:
        if last == 0 or len(sibling) != HASH_BYTES:
            return None
        if number & 1 or number == last:
            value = compute_node_hash(sibling, value)
            while number & 1 == 0 and number:
                number, last = number >> 1, last >> 1
        else:
            value = compute_node_hash(value, sibling)
        number, last = number >> 1, last >> 1
    return value if last == 0 else None


def is_consistent(
    old_size: int, new_size: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> bool:
    """Whether the proof shows the old tree as a prefix of the new one (RFC 9162, 2.1.4.2).

    An empty old tree is a prefix of any and needs no proof; as in the sources, it is refused.
    """
    if 0 < old_size == new_size:
        return not proof and old_root == new_root
    found = compute_proven_roots(old_size, new_size, proof, old_root)
    return found == (old_root, new_root)


def compute_proven_roots(
    old_size: int, new_size: int, proof: Sequence[bytes], old_root: bytes
) -> tuple[bytes, bytes] | None:
    """Both roots that a consistency proof leads to; None if no proof has this shape.

    `old_root` is what it begins with where the old tree is complete: a proof leaves that out.
    """
    if not 0 < old_size < new_size or not proof or any(len(p) != HASH_BYTES for p in proof):
        return None
    path = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    number, last = old_size - 1, new_size - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return None
        if number & 1 or number == last:
            old, new = compute_node_hash(sibling, old), compute_node_hash(sibling, new)
            while number & 1 == 0 and number:
                number, last = number >> 1, last >> 1
        else:
            new = compute_node_hash(new, sibling)
        number, last = number >> 1, last >> 1
    return (old, new) if last == 0 else None
