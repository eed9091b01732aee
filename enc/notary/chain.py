"""One chain of LogBlocks while it grows: which segment closes a block, and when time does. Pure.

Not here: whether a segment holds (intake), what is durable (store), the bytes (chainlite.logblock).
`step` takes the chain, what happened and the time, and gives the chain after it and what is to be
done. Invariants: a block is closed with the segment that brings it to 512 events or more, or 60 s
after its first one, whichever comes first, and never empty; its time is later than that of the
block before. A clock that was set back closes a block early and never late.
"""

from __future__ import annotations

from chainlite import logblock
from chainlite.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import TypeAlias

    Event: TypeAlias = "Taken | TimeCame | Flush"
    Effect: TypeAlias = "Keep | Close"

NS_PER_MS = 1_000_000


class Taken(NamedTuple):
    """A verified segment, next of its run: what it adds to a block."""

    signed: logblock.SignedHeader
    event_count: int
    usage_before: tuple[int, ...]
    usage: tuple[int, ...]


class TimeCame(NamedTuple):
    """A look at the clock: at a chain's `due_ms`, or at any other time."""


class Flush(NamedTuple):
    """Someone wants what waits in a block now."""


class Keep(NamedTuple):
    """The segment waits in the open block: it must be durable, once."""

    taken: Taken


class Close(NamedTuple):
    """Sign this block over these segments; all that waited is in it."""

    block: logblock.LogBlock
    segments: tuple[logblock.SignedHeader, ...]


class LogState(NamedTuple):
    """The host's log as it was when the newest segment was verified."""

    size: int
    root: bytes


class Chain(NamedTuple):
    """The end of a chain, and the open block: its segments, events, and when its first one came."""

    notary: bytes
    host: bytes
    app: str
    height: int = 0
    previous: bytes = logblock.ZERO_HASH
    time: int = 0
    totals: tuple[int, ...] = logblock.ZERO_TOTALS
    log: LogState = LogState(0, logblock.ZERO_HASH)
    waiting: tuple[Taken, ...] = ()
    opened_ms: int = 0

    @property
    def due_ms(self) -> int | None:
        """When time closes the open block; None if nothing waits."""
        return self.opened_ms + logblock.OPEN_MS if self.waiting else None


def step(chain: Chain, event: Event, now_ms: int) -> tuple[Chain, tuple[Effect, ...]]:
    """The chain after the event, and what is to be done, in order.

    TamperError for a segment whose counters of usage fall: it is not taken.
    """
    if isinstance(event, Taken):
        logblock.add_usage(logblock.ZERO_TOTALS, event.usage_before, event.usage)
        return _take(chain, event, now_ms)
    if chain.waiting and (isinstance(event, Flush) or is_due(chain, now_ms)):
        return close(chain, now_ms)
    return chain, ()


def is_due(chain: Chain, now_ms: int) -> bool:
    """Whether the open block has waited long enough, or the clock no longer says how long."""
    return bool(chain.waiting) and not 0 <= now_ms - chain.opened_ms < logblock.OPEN_MS


def _take(chain: Chain, taken: Taken, now_ms: int) -> tuple[Chain, tuple[Effect, ...]]:
    opened_ms = chain.opened_ms if chain.waiting else now_ms
    chain = chain._replace(waiting=(*chain.waiting, taken), opened_ms=opened_ms)
    if sum(waiting.event_count for waiting in chain.waiting) >= logblock.EVENTS_CLOSE:
        chain, closing = close(chain, now_ms)
        return chain, (Keep(taken), *closing)
    return chain, (Keep(taken),)


def close(chain: Chain, now_ms: int) -> tuple[Chain, tuple[Effect, ...]]:
    """The chain after its open block was closed, and the block to sign."""
    assert chain.waiting, "no block is empty"
    segments = tuple([taken.signed for taken in chain.waiting])
    totals = chain.totals
    for taken in chain.waiting:
        totals = logblock.add_usage(totals, taken.usage_before, taken.usage)
    block = logblock.LogBlock(
        chain.notary,
        chain.host,
        chain.height,
        chain.previous,
        chain.log.size,
        chain.log.root,
        len(segments),
        sum(taken.event_count for taken in chain.waiting),
        logblock.compute_segments_root(segments),
        max(now_ms * NS_PER_MS, chain.time + 1),
        totals,
        chain.app,
    )
    after = chain._replace(
        height=chain.height + 1,
        previous=logblock.compute_block_hash(logblock.encode_block(block)),
        time=block.time,
        totals=totals,
        waiting=(),
        opened_ms=0,
    )
    return after, (Close(block, segments),)


def compute_time_ms(now_ms: int, floor_ms: int) -> int:
    """The time that the notary goes by: never before a window that it has closed."""
    return max(now_ms, floor_ms)
