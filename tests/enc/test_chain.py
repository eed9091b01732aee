"""When a LogBlock is closed: at 512 events or more, or after 60 s, for any order of segments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainlite import logblock
from chainlite.errors import TamperError
from enc.notary import chain as chains
from tests.chainlite.notary_samples import HOST, NOTARY

Steps = list[tuple[int, int]]
"""Milliseconds that pass, and events of the segment that comes then (0: a look at the clock)."""
STEPS = st.lists(
    st.tuples(st.integers(-70_000, 70_000), st.sampled_from([0, 1, 2, 511, 512, 1024]))
)


def make_taken(number: int, events: int) -> chains.Taken:
    """A segment that uses one of each counter; its header is not looked at here."""
    signed = logblock.SignedHeader(number.to_bytes(8, "big") * 30 + b"\0", bytes(64))
    return chains.Taken(signed, events, (number,) * 5, (number + 1,) * 5)


@given(STEPS)
def test_blocks_are_full_or_their_time_has_come_and_nothing_is_lost_or_twice(steps: Steps) -> None:
    chain, now_ms, blocks, kept = chains.Chain(NOTARY, HOST, "web"), 10**9, [], 0
    for passed, events in steps:
        now_ms += passed
        opened_ms, was_waiting = chain.opened_ms, len(chain.waiting)
        event = make_taken(kept, events) if events else chains.TimeCame()
        chain, effects = chains.step(chain, event, now_ms)
        if events:
            assert effects[0] == chains.Keep(event)
            kept += 1
        for effect in effects:
            if isinstance(effect, chains.Close):
                blocks.append(effect)
                is_due = not 0 <= now_ms - opened_ms < logblock.OPEN_MS
                assert effect.block.event_count >= logblock.EVENTS_CLOSE or is_due
                assert not chain.waiting
        if not events and was_waiting:
            assert not chain.waiting or 0 <= now_ms - opened_ms < logblock.OPEN_MS
    chain, effects = chains.step(chain, chains.Flush(), now_ms)
    blocks += [effect for effect in effects if isinstance(effect, chains.Close)]
    assert not chain.waiting
    assert [signed for close in blocks for signed in close.segments] == [
        make_taken(number, 1).signed for number in range(kept)
    ]
    previous, time = logblock.ZERO_HASH, 0
    for height, (block, segments) in enumerate(blocks):
        assert (block.height, block.previous) == (height, previous)
        assert block.time > time and block.segment_count == len(segments) <= logblock.SEGMENTS_MAX
        assert block.event_count <= logblock.EVENTS_MAX
        encoded = logblock.encode_block(block)
        assert logblock.decode_block(encoded) == block
        previous, time = logblock.compute_block_hash(encoded), block.time
    if blocks:
        assert blocks[-1].block.totals == (kept,) * 5


def test_an_idle_chain_asks_for_its_timer_and_an_empty_one_for_none() -> None:
    chain = chains.Chain(NOTARY, HOST, "web")
    assert chain.due_ms is None and chains.step(chain, chains.Flush(), 5) == (chain, ())
    chain, _ = chains.step(chain, make_taken(0, 511), 1000)
    assert chain.due_ms == 61_000
    chain, effects = chains.step(chain, chains.TimeCame(), 60_999)
    assert effects == ()
    chain, effects = chains.step(chain, chains.TimeCame(), 61_000)
    assert len(effects) == 1 and chain.due_ms is None


def test_a_counter_that_falls_is_not_taken() -> None:
    chain = chains.Chain(NOTARY, HOST, "web")
    taken = make_taken(5, 1)._replace(usage=(6, 6, 6, 6, 4))
    with pytest.raises(TamperError, match="falls"):
        chains.step(chain, taken, 1)
