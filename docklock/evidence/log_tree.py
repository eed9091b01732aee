"""Which of several copies of a log's leaf hashes are those under a signed checkpoint. Pure.

A chunk is the 256 leaves of one tile. Not here: reading the copies (log_check). Invariant: what is
called authentic gives the checkpoint's root; nothing else decides.
"""

from __future__ import annotations

from hashlib import sha256
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from chainlite import merkle, tile
from chainlite.domains import NODE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chainlite.checkpoint import Checkpoint

CHOICES_MAX = 4096
"""Combinations of candidates that are tried before a checkpoint counts as not reached."""

Hashes = tuple[bytes | None, ...]
"""The leaf hashes of a chunk as one copy has them; None for one that it has lost."""


class Chunk(NamedTuple):
    """The copies of one chunk's leaf hashes, the most trusted first.

    `root` is that of the only copy of a full chunk, where it is known already; else empty.
    """

    copies: tuple[Hashes, ...]
    root: bytes


class Authentic(NamedTuple):
    """Leaf hashes that give a signed root, chunk by chunk, and the root of each chunk."""

    chunks: tuple[tuple[bytes, ...], ...] = ()
    roots: tuple[bytes, ...] = ()

    @property
    def full_roots(self) -> tuple[bytes, ...]:
        """The roots of the full chunks: the hashes of level 1's tiles."""
        is_partial = bool(self.chunks) and len(self.chunks[-1]) < tile.WIDTH
        return self.roots[:-1] if is_partial else self.roots

    def compute_root(self, size: int) -> bytes:
        """The root of the first `size` leaves."""
        if not size:
            return merkle.EMPTY_ROOT
        whole, rest = divmod(size, tile.WIDTH)
        roots = self.roots[:whole]
        if rest:
            roots += (merkle.compute_root(self.chunks[whole][:rest]),)
        return merkle.compute_root(roots)


def find_authentic(chunks: Sequence[Chunk], state: Checkpoint) -> Authentic | None:
    """The leaf hashes under the checkpoint, chunk by chunk; None if the copies do not give it."""
    count = -(-state.size // tile.WIDTH)
    if count > len(chunks):
        return None
    candidates = list[list[tuple[bytes, ...]]]()
    choices = 1
    for number in range(count):
        width = min(tile.WIDTH, state.size - number * tile.WIDTH)
        found = get_candidates(chunks[number], width)
        if not found:
            return None
        candidates.append(found)
        choices *= len(found)
        if choices > CHOICES_MAX:
            return None
    roots = [
        [chunks[number].root]
        if chunks[number].root and len(found) == 1 and len(found[0]) == tile.WIDTH
        else [merkle.compute_root(one) for one in found]
        for number, found in enumerate(candidates)
    ]
    if choices == 1:
        picked = [one[0] for one in roots]
        if merkle.compute_root(picked) != state.root:
            return None
        return Authentic(tuple([one[0] for one in candidates]), tuple(picked))
    for chosen in product(*[range(len(found)) for found in candidates]):
        picked = [roots[number][one] for number, one in enumerate(chosen)]
        if merkle.compute_root(picked) == state.root:
            found = [candidates[number][one] for number, one in enumerate(chosen)]
            return Authentic(tuple(found), tuple(picked))
    return None


def get_candidates(chunk: Chunk, width: int) -> list[tuple[bytes, ...]]:
    """What the first `width` hashes of a chunk may be: each whole copy, then a mixture of all."""
    found = list[tuple[bytes, ...]]()
    for copy in chunk.copies:
        whole = tuple([value for value in copy[:width] if value is not None])
        if len(whole) == width and whole not in found:
            found.append(whole)
    if len(chunk.copies) == 1:
        return found
    mixed = _mix(chunk, width)
    if mixed and mixed not in found:
        found.append(mixed)
    return found


def _mix(chunk: Chunk, width: int) -> tuple[bytes, ...]:
    """At each place what most copies say, the first of those that are even; empty without one."""
    mixed = list[bytes]()
    for at in range(width):
        said = [copy[at] for copy in chunk.copies if at < len(copy)]
        values = [value for value in said if value is not None]
        if not values:
            return ()
        mixed.append(max(values, key=values.count))
    return tuple(mixed)


def compute_levels(hashes: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    """All complete nodes above these leaf hashes, level by level; level 0 is what was given."""
    levels = [tuple(hashes)]
    digest, node = sha256, NODE
    while len(levels[-1]) > 1:
        below = iter(levels[-1])
        pairs = zip(below, below, strict=False)
        levels.append(tuple([digest(node + left + right).digest() for left, right in pairs]))
    return levels
