"""Proof of history: a chain of SHA-256 ticks from the previous block's hash, anchors mixed in.

It proves that so many hashes were computed one after the other, after the previous block was known
and after these anchors were; it does not prove how long that took: faster hardware ticks faster.
The time of a block is its validators' word, the ticks are a lower bound of work beside it.
Not here: when a block is due (consensus), who checks that `poh` goes with the header (state).
Invariants: a tick is SHA-256(POH_TICK || state), a mixed one SHA-256(POH_TICK || state || anchor),
so neither passes for the other; each segment of SEGMENT_TICKS is checked by itself.
Source: Yakovenko, "Solana: a new architecture" (2017), section 4; README.md of this room.
"""

from __future__ import annotations

from chainlite import domains, merkle
from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.sha2 import sha256

if TYPE_CHECKING:
    from collections.abc import Sequence

TICKS_PER_MS = 1
TICKS_MAX = 131_072
"""In one block, beside its anchors: more time than this many ms leaves no more ticks."""
SEGMENT_TICKS = 256


class Segment(NamedTuple):
    """One piece to check: from a state, so many bare ticks, then one for each mixed in."""

    start: bytes
    ticks: int
    mixed: tuple[bytes, ...]
    end: bytes


def count_ticks(before_ms: int, now_ms: int) -> int:
    """How many bare ticks a block at `now_ms` has after one at `before_ms`."""
    assert before_ms < now_ms
    return min((now_ms - before_ms) * TICKS_PER_MS, TICKS_MAX)


def compute_seed(previous: bytes) -> bytes:
    """Where the ticks of the block after `previous` (a block hash) begin."""
    return sha256(domains.POH_TICK + previous).digest()


def compute_ends(previous: bytes, ticks: int, mixed: Sequence[bytes]) -> tuple[bytes, ...]:
    """The state after each segment, the last one shorter where it does not come out even."""
    state, ends = compute_seed(previous), []
    for first, count, piece in _split(ticks, mixed):
        state = run_ticks(state, first, piece)
        ends.append(state)
        assert count <= SEGMENT_TICKS
    return tuple(ends)


def run_ticks(state: bytes, ticks: int, mixed: Sequence[bytes]) -> bytes:
    """The state after bare ticks and then one tick for each hash that is mixed in."""
    tick, digest = domains.POH_TICK, sha256
    for _ in range(ticks):
        state = digest(tick + state).digest()
    for anchor in mixed:
        state = digest(tick + state + anchor).digest()
    return state


def split_segments(
    previous: bytes, ticks: int, mixed: Sequence[bytes], ends: Sequence[bytes]
) -> tuple[Segment, ...]:
    """The segments of a block, each to be checked by itself; SpecError for another number."""
    pieces = _split(ticks, mixed)
    if len(pieces) != len(ends):
        raise SpecError(f"poh: {len(ends)} segments, not {len(pieces)}")
    starts = (compute_seed(previous), *ends)
    return tuple([
        Segment(start, first, tuple(piece), end)
        for start, (first, _, piece), end in zip(starts, pieces, ends, strict=False)
    ])  # fmt: skip


def is_run(segment: Segment) -> bool:
    """Whether the segment's ticks lead to its end."""
    return run_ticks(segment.start, segment.ticks, segment.mixed) == segment.end


def compute_poh_root(ends: Sequence[bytes]) -> bytes:
    """RFC 6962 root over the ends of a block's segments."""
    return merkle.compute_root([merkle.compute_leaf_hash(end) for end in ends])


def _split(ticks: int, mixed: Sequence[bytes]) -> list[tuple[int, int, Sequence[bytes]]]:
    """For each segment: its bare ticks, all its ticks, and what is mixed in."""
    pieces = []
    for start in range(0, ticks + len(mixed), SEGMENT_TICKS):
        end = min(start + SEGMENT_TICKS, ticks + len(mixed))
        bare = max(0, min(end, ticks) - start)
        piece = mixed[max(0, start - ticks) : max(0, end - ticks)]
        pieces.append((bare, end - start, piece))
    return pieces
