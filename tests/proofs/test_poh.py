"""Ticks: sequential, tied to the block before, with the anchors in them, checked in pieces."""

from __future__ import annotations

from random import Random

import pytest

from chainlite.errors import SpecError
from chainlite.proofs import poh
from chainlite.sha2 import sha256

PREVIOUS = b"\x01" * 32


def are_run(ticks: int, mixed: list[bytes], ends: tuple[bytes, ...]) -> bool:
    return all(map(poh.is_run, poh.split_segments(PREVIOUS, ticks, mixed, ends)))


def test_pieces_give_what_one_run_gives(seed: int) -> None:
    rng = Random(seed)
    for ticks, count in ((1, 0), (255, 1), (256, 0), (256, 1), (0, 3), (700, 600), (513, 2)):
        mixed = [rng.randbytes(32) for _ in range(count)]
        ends = poh.compute_ends(PREVIOUS, ticks, mixed)
        state = sha256(b"\x12" + PREVIOUS).digest()
        for _ in range(ticks):
            state = sha256(b"\x12" + state).digest()
        for one in mixed:
            state = sha256(b"\x12" + state + one).digest()
        assert ends[-1] == state
        assert len(ends) == (ticks + count + 255) // 256
        assert are_run(ticks, mixed, ends)


def test_another_block_tick_anchor_or_order_is_refused(seed: int) -> None:
    rng = Random(seed)
    mixed = [rng.randbytes(32) for _ in range(300)]
    ends = poh.compute_ends(PREVIOUS, 600, mixed)
    segments = poh.split_segments(PREVIOUS, 600, mixed, ends)
    assert all(map(poh.is_run, segments)) and len(segments) == 4
    assert not all(map(poh.is_run, poh.split_segments(bytes(32), 600, mixed, ends)))
    assert not are_run(601, mixed[:-1], ends)
    assert not are_run(600, [mixed[1], mixed[0], *mixed[2:]], ends)
    for at in range(4):
        spoilt = (*ends[:at], bytes(32), *ends[at + 1 :])
        assert not are_run(600, mixed, spoilt)
        assert poh.compute_poh_root(spoilt) != poh.compute_poh_root(ends)
    for wrong in (ends[:-1], (*ends, bytes(32)), ()):
        with pytest.raises(SpecError, match="segments, not 4"):
            poh.split_segments(PREVIOUS, 600, mixed, wrong)


def test_ticks_follow_the_blocks_time_up_to_a_limit() -> None:
    assert poh.count_ticks(1000, 1007) == 7
    assert poh.count_ticks(0, 10**9) == poh.TICKS_MAX
