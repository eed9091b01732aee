"""A LogBlock: a notary's signed group of verified segment headers of one app on one host.

Not here: how segments are verified and when a block is closed (enc.notary), files of blocks
(notarised), what usage is worth (economy). Invariants: blocks of one (notary, host, app) are one
chain, each naming the one before; a block's root is RFC 6962's over the leaves that these segments
have in the host's log; it is closed with the first segment that brings it to EVENTS_CLOSE events;
segments of a run follow each other without a hole; its totals are those of the block before and
what its segments add; its time is later than that of the block before.
Layout: README.md of this room, "LogBlock".
"""

from __future__ import annotations

import struct

from chainlite import codec, domains, hostlog, keys, merkle, segment
from chainlite.codec import Reader
from chainlite.errors import SpecError, TamperError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.receipt import APP_LIMIT
from chainlite.sha2 import sha256

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    RunKey: TypeAlias = tuple[bytes, int]

VERSION = 1
EVENTS_CLOSE = 512
"""A block is closed at the first segment with which it has so many events, or more."""
OPEN_MS = 60_000
"""And at the latest so long after its first segment."""
SEGMENTS_MAX = EVENTS_CLOSE
EVENTS_MAX = EVENTS_CLOSE - 1 + segment.EVENTS_MAX
SIGNED_HEADER_BYTES = segment.HEADER_BYTES + keys.SIGNATURE_BYTES
COUNTERS = 5
TOTAL_BYTES = 16
"""Totals are sums of u64 counters over runs: 128 bits cannot overflow."""
ZERO_TOTALS = (0,) * COUNTERS
ZERO_HASH = bytes(32)
_FIXED = struct.Struct(">32s32sQ32sQ32sIQ32sQ")
BLOCK_LIMIT_BYTES = 3 + _FIXED.size + COUNTERS * TOTAL_BYTES + 4 + APP_LIMIT
BODY_LIMIT_BYTES = SEGMENTS_MAX * SIGNED_HEADER_BYTES


class LogBlock(NamedTuple):
    """What a notary signs. `previous` is the hash of block `height` - 1, zeros for height 0.

    The segments' headers are leaves of the host's log of `log_size` leaves under `log_root`.
    `totals` is what all runs of the app on this host used since height 0, counters as in a receipt.
    `time` is the notary's, in ns.
    """

    notary: bytes
    host: bytes
    height: int
    previous: bytes
    log_size: int
    log_root: bytes
    segment_count: int
    event_count: int
    root: bytes
    time: int
    totals: tuple[int, ...]
    app: str


class SignedHeader(NamedTuple):
    """A segment's header and the signature of its epoch's key, as in the host's log."""

    header: bytes
    signature: bytes


class RunEnd(NamedTuple):
    """How far a run is notarised: receipts, the chain hash after them, its epoch, its usage."""

    event_count: int
    head: bytes
    epoch: int
    usage: tuple[int, ...]


NO_RECEIPTS = RunEnd(0, b"", 0, ZERO_TOTALS)


def compute_notary_id(public: bytes) -> bytes:
    """A notary's id: SHA-256 over a tag and its public key. Its hex is its fingerprint."""
    return sha256(domains.NOTARY_ID + public).digest()


def get_notary_name(notary: bytes) -> str:
    """The name of a notary's key in `NAME+HASH+BASE64`."""
    return f"docklock/notary/{notary.hex()}"


def encode_block(block: LogBlock) -> bytes:
    """The canonical bytes of a block."""
    fixed = codec.encode_head(domains.LOGBLOCK, VERSION) + _FIXED.pack(*block[:10])
    return fixed + encode_totals(block.totals) + codec.encode_text(block.app)


def decode_block(data: bytes) -> LogBlock:
    """The block of these bytes; SpecError if they are not its canonical form."""
    r = Reader(data, "LogBlock")
    r.read_head(domains.LOGBLOCK, VERSION)
    fixed = _FIXED.unpack(r.read_fixed(_FIXED.size))
    totals = read_totals(r)
    block = LogBlock._make((*fixed, totals, r.read_text(APP_LIMIT)))
    r.finish()
    if not 1 <= block.segment_count <= SEGMENTS_MAX:
        raise SpecError(f"LogBlock: {block.segment_count} segments, not 1 to {SEGMENTS_MAX}")
    if not block.segment_count <= block.event_count <= EVENTS_MAX:
        raise SpecError(f"LogBlock: {block.event_count} events in {block.segment_count} segments")
    if (block.height == 0) != (block.previous == ZERO_HASH):
        raise SpecError("LogBlock: only the first block, at height 0, has none before it")
    return block


def encode_totals(totals: tuple[int, ...]) -> bytes:
    """Five 128-bit counters."""
    return b"".join([value.to_bytes(TOTAL_BYTES, "big") for value in totals])


def read_totals(reader: Reader) -> tuple[int, ...]:
    """Five 128-bit counters."""
    return tuple([int.from_bytes(reader.read_fixed(TOTAL_BYTES), "big") for _ in range(COUNTERS)])


def compute_block_hash(block: bytes) -> bytes:
    """What the next block and a PoE bundle name: SHA-256(tag || block), without its signature."""
    return sha256(domains.LOGBLOCK_HASH + block).digest()


def sign_block(block: bytes, key: keys.Signer) -> bytes:
    """The notary's signature over a block's bytes."""
    return keys.sign(key, domains.SIGN_LOGBLOCK, block)


def compute_segments_root(segments: Sequence[SignedHeader]) -> bytes:
    """RFC 6962 root over the leaves that these segments have in their host's log."""
    return merkle.compute_root(
        [
            merkle.compute_leaf_hash(hostlog.encode_segment(hostlog.Segment(*signed)))
            for signed in segments
        ]
    )


def encode_segments(segments: Sequence[SignedHeader]) -> bytes:
    """The body of a block: header and signature of each segment."""
    return b"".join([signed.header + signed.signature for signed in segments])


def decode_segments(data: bytes) -> tuple[SignedHeader, ...]:
    """The segments of a block's body; SpecError if it is not whole. Headers are not decoded."""
    count, rest = divmod(len(data), SIGNED_HEADER_BYTES)
    if rest or not 1 <= count <= SEGMENTS_MAX:
        raise SpecError(f"LogBlock: {len(data)} bytes are not 1 to {SEGMENTS_MAX} segments")
    size, middle = SIGNED_HEADER_BYTES, segment.HEADER_BYTES
    starts = range(0, len(data), size)
    return tuple([SignedHeader(data[at : at + middle], data[at + middle : at + size])
                  for at in starts])  # fmt: skip


def add_usage(
    totals: tuple[int, ...], before: tuple[int, ...], now: tuple[int, ...]
) -> tuple[int, ...]:
    """Totals with what a run used between two of its counters, which never fall.

    TamperError where one does: a host that counts backwards would be paid twice.
    """
    if any(new < old for old, new in zip(before, now, strict=True)):
        raise TamperError("a counter of usage falls")
    return tuple([total + new - old for total, old, new in zip(totals, before, now, strict=True)])


class ChainEnd:
    """Follows the blocks of one (notary, host, app), from height 0 on: what the next must be."""

    __slots__ = ("app", "height", "host", "notary", "previous", "runs", "time", "totals")

    def __init__(self, notary: bytes, host: bytes, app: str) -> None:
        self.notary, self.host, self.app = notary, host, app
        self.height, self.previous, self.time = 0, ZERO_HASH, 0
        self.totals = ZERO_TOTALS
        self.runs: dict[RunKey, RunEnd] = {}

    def take(
        self, data: bytes, signature: bytes, segments: Sequence[SignedHeader], public: bytes
    ) -> tuple[LogBlock, tuple[segment.Header, ...]]:
        """The next block, checked; TamperError names what is wrong, SpecError what does not read.

        Not checked here: the segments' own signatures, which need their epochs' certificates; and
        with an empty `public` the notary's, for a block that a later one which was checked names.
        """
        block = decode_block(data)
        if public and not keys.is_signed(public, domains.SIGN_LOGBLOCK, data, signature):
            raise TamperError("it is not signed by its notary")
        if (block.notary, block.host, block.app) != (self.notary, self.host, self.app):
            raise TamperError("it is of another chain")
        if (block.height, block.previous) != (self.height, self.previous):
            raise TamperError(f"it is not block {self.height} of its chain")
        if block.time <= self.time:
            raise TamperError("its time is not later than that of the block before")
        if compute_segments_root(segments) != block.root:
            raise TamperError("its segments are not those under its root")
        headers = tuple([segment.decode_header(signed.header) for signed in segments])
        runs, totals = self._follow(block, headers)
        if totals != block.totals:
            raise TamperError("its totals are not what its segments add up to")
        self.runs |= runs
        self.height, self.previous = block.height + 1, compute_block_hash(data)
        self.time, self.totals = block.time, totals
        return block, headers

    def _follow(
        self, block: LogBlock, headers: tuple[segment.Header, ...]
    ) -> tuple[dict[RunKey, RunEnd], tuple[int, ...]]:
        """Ends of the block's runs and totals after it; each segment continues its run."""
        counts = [header.event_count for header in headers]
        if (len(headers), sum(counts)) != (block.segment_count, block.event_count):
            raise TamperError("it counts other segments or events")
        if sum(counts[:-1]) >= EVENTS_CLOSE:
            raise TamperError(f"it goes on after {EVENTS_CLOSE} events")
        runs: dict[RunKey, RunEnd] = {}
        totals = self.totals
        for header in headers:
            key = (header.container, header.run)
            before = runs.get(key) or self.runs.get(key, NO_RECEIPTS)
            if header.host != self.host:
                raise TamperError("a segment is of another host")
            if header.first_index != before.event_count or header.epoch < before.epoch:
                raise TamperError(
                    f"receipts of container {header.container.hex()[:12]} run {header.run} do not "
                    f"follow those before: {header.first_index}, not {before.event_count}"
                )
            totals = add_usage(totals, before.usage, header.usage)
            end = header.first_index + header.event_count
            runs[key] = RunEnd(end, header.head, header.epoch, header.usage)
        return runs, totals
