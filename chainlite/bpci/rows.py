"""The rows that follow from a host's leaves, and trees read from rows. Pure.

Written by the intake, computed again by the audit: what differs then was changed in the store.
Not here: the rows as such (store). Invariant: a row says of its leaf only what the leaf says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainlite import hostlog, merkle, segment
from chainlite.bpci.store import Leaf, Segment, StoreDamage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chainlite.bpci.store import Store

INTEGER_MAX = 2**63 - 1
"""What a database holds: a time beyond is a liar's, and is kept as this in the columns."""


def make_leaf_row(host: bytes, index: int, data: bytes, hashes: Sequence[bytes]) -> Leaf:
    """The row of a leaf that decodes."""
    return Leaf(host, index, data[0], _get_container(data), data, b"".join(hashes))


def make_segment_row(leaf: Leaf, box: bytes, erased: int = 0) -> Segment | None:
    """The row of a segment's leaf; None for a leaf of another kind."""
    if leaf.kind != hostlog.SEGMENT_KIND:
        return None
    header = get_header(leaf.data)
    return Segment(
        leaf.host, leaf.leaf_index, header.container, header.run, header.first_index,
        header.event_count, min(header.time_first, INTEGER_MAX), min(header.time_last, INTEGER_MAX),
        box, erased,
    )  # fmt: skip


def get_header(data: bytes) -> segment.Header:
    """The header in a segment's leaf."""
    leaf = hostlog.decode_leaf(data)
    assert isinstance(leaf, hostlog.Segment), "its kind says so"
    return segment.decode_header(leaf.header)


def _get_container(data: bytes) -> bytes:
    leaf = hostlog.decode_leaf(data)
    if isinstance(leaf, hostlog.Segment):
        return segment.decode_header(leaf.header).container
    if isinstance(leaf, hostlog.Start):
        return segment.decode_genesis(leaf.genesis).container
    if isinstance(leaf, hostlog.Exit):
        return leaf.container
    if isinstance(leaf, hostlog.Operation) and leaf.container != hostlog.NO_CONTAINER:
        return leaf.container
    return b""


def make_reader(
    store: Store, host: bytes, staged: Mapping[int, bytes]
) -> Callable[[int, int], bytes]:
    """What gives the hashes of a host's tree: from `staged` rows by leaf, else from the store."""

    def read(level: int, number: int) -> bytes:
        last = ((number + 1) << level) - 1
        hashes = staged.get(last) or store.find_hashes(host, last)
        found = hashes[level * merkle.HASH_BYTES : (level + 1) * merkle.HASH_BYTES]
        if len(found) != merkle.HASH_BYTES:
            raise StoreDamage(f"the hash of level {level} at leaf {last} is missing")
        return found

    return read


def read_frontier(size: int, read: Callable[[int, int], bytes]) -> list[bytes]:
    """The complete subtrees of a tree of this size, the largest first."""
    found, start = [], 0
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            found.append(read(level, start >> level))
            start += 1 << level
    return found
