"""LogBlocks that a host hands a server, and what they are worth beside what the server holds.

The server has verified each segment when it came, so a LogBlock is checked against those: its
notary's signature, its place in its chain, and that its segments, and the state of the host's log
that it names, are the very ones that are held.
Not here: a LogBlock's own rules (chainlite.logblock), who keeps it (intake), HTTP (handing).
Invariants: nothing is kept of what does not hold; a block that its notary signed and that
contradicts what is held, or an earlier block of its, is told apart from one that is just not it.
Layout: README.md of this room.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from chainlite import domains, hostlog, keys, logblock, merkle
from chainlite.bpci.rows import get_header, make_reader
from chainlite.bpci.store import Bundle, LogBlock, Notarised, StoreDamage
from chainlite.bpci.verification import LOGBLOCK
from chainlite.codec import Reader, encode_bytes, encode_text, encode_u32
from chainlite.errors import SpecError, StateError, TamperError
from chainlite.receipt import APP_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chainlite.bpci.store import Host, Store
    from chainlite.logblock import ChainEnd, SignedHeader

BLOCKS_MAX = 256
HANDED_LIMIT_BYTES = 4 << 20
"""One that is full of the smallest segments has 160 KB."""
_LEAF = struct.Struct(">Q")


class HandedBlock(NamedTuple):
    """A LogBlock, its notary's signature, its body (logblock.encode_segments).

    Or a PoE bundle, or a LogBlock that is only shown: their bodies are empty.
    """

    block: bytes
    signature: bytes
    body: bytes


class Handed(NamedTuple):
    """Blocks of one chain in order, perhaps none: then it asks how far the chain is held."""

    public: bytes
    app: str
    blocks: tuple[HandedBlock, ...]


class Contradiction(TamperError):
    """A notary has signed what cannot be true; `leaf_index` is in the host's log.

    `kind` is the alert's; `proof` convicts without what is held, where it is not empty.
    """

    def __init__(self, why: str, leaf_index: int, kind: str = LOGBLOCK, proof: bytes = b"") -> None:
        super().__init__(why)
        self.leaf_index, self.kind, self.proof = leaf_index, kind, proof


class NotYet(StateError):
    """It does not begin where its chain stands, or speaks of what is not held yet."""


def encode_handed(handed: Handed) -> bytes:
    """The notary's public key 32, app, u32 count, then each block: bytes, signature 64, bytes."""
    parts = [handed.public, encode_text(handed.app), encode_u32(len(handed.blocks))]
    for one in handed.blocks:
        parts += (encode_bytes(one.block), one.signature, encode_bytes(one.body))
    return b"".join(parts)


def decode_handed(
    data: bytes,
    limit: int = logblock.BLOCK_LIMIT_BYTES,
    body_limit: int = logblock.BODY_LIMIT_BYTES,
) -> Handed:
    """What these bytes say; SpecError for any other bytes. Nothing is verified."""
    r = Reader(data, "handed in")
    public, app = r.read_fixed(keys.PUBLIC_BYTES), r.read_text(APP_LIMIT)
    blocks = tuple([
        HandedBlock(
            r.read_bytes(limit),
            r.read_fixed(keys.SIGNATURE_BYTES),
            r.read_bytes(body_limit),
        )
        for _ in range(r.read_u32(limit=BLOCKS_MAX))
    ])  # fmt: skip
    r.finish()
    return Handed(public, app, blocks)


class Judged(NamedTuple):
    """What is new: rows of blocks, how far runs are notarised with them, rows of bundles."""

    blocks: tuple[LogBlock, ...] = ()
    runs: tuple[Notarised, ...] = ()
    bundles: tuple[Bundle, ...] = ()

    def measure(self) -> int:
        """The bytes that are stored of it, as quotas count them."""
        return sum(map(measure_block, self.blocks)) + sum(map(measure_bundle, self.bundles))


def judge_handed(store: Store, host: Host, handed: Handed) -> Judged:
    """The rows of what is new and holds.

    SpecError: it does not read, or is not this host's, or not signed by its notary. NotYet.
    Contradiction: it is signed, and cannot be true.
    """
    judging = _Judging(store, host, handed.public, handed.app)
    for one in handed.blocks:
        judging.take(one)
    return Judged(tuple(judging.blocks), tuple(judging.runs.values()))


class _Judging:
    """Blocks of one chain, one after the other."""

    def __init__(self, store: Store, host: Host, public: bytes, app: str) -> None:
        self._store, self._host, self._public, self._app = store, host, public, app
        self._read = make_reader(store, host.host, {})
        last = store.find_newest_block(host.host, public, app)
        self._end = open_chain(host.host, public, app, last)
        self.blocks: list[LogBlock] = []
        self.runs: dict[logblock.RunKey, Notarised] = {}

    def take(self, one: HandedBlock) -> None:
        block = logblock.decode_block(one.block)
        ours = (logblock.compute_notary_id(self._public), self._host.host, self._app)
        if (block.notary, block.host, block.app) != ours:
            raise SpecError("LogBlock: of another notary, host or app than it is handed in as")
        if not keys.is_signed(self._public, domains.SIGN_LOGBLOCK, one.block, one.signature):
            raise SpecError("LogBlock: not signed by its notary")
        if block.height < self._end.height:
            self._compare(one, block)
            return
        if block.height > self._end.height:
            raise NotYet(f"its chain is held up to height {self._end.height}, not {block.height}")
        if block.log_size > self._host.size:
            raise NotYet(
                f"{self._host.size} leaves of the host's log are held, not {block.log_size}"
            )
        if merkle.compute_tree_root(block.log_size, self._read) != block.log_root:
            why = (
                f"LogBlock {block.height} is of another history of the host's log than the one held"
            )
            raise Contradiction(why, block.log_size - 1)
        segments = logblock.decode_segments(one.body)
        if logblock.compute_segments_root(segments) != block.root:
            raise SpecError("LogBlock: it comes with other segments than are under its root")
        places = [self._find(signed, block) for signed in segments]
        self._remember_runs(segments)
        try:
            self._end.take(one.block, one.signature, segments, b"")
        except TamperError as error:
            why = f"LogBlock {block.height} is signed, but {error}"
            raise Contradiction(why, block.log_size - 1) from None
        self._keep(one, block, segments, places)

    def _compare(self, one: HandedBlock, block: logblock.LogBlock) -> None:
        """A block of a height that is held: the same, or the notary has signed two."""
        at = block.height - self._end.height + len(self.blocks)
        held = (
            self.blocks[at] if at >= 0
            else self._store.find_block(self._host.host, self._public, self._app, block.height)
        )  # fmt: skip
        if held is None:
            raise StoreDamage(f"LogBlock {block.height} is missing")
        if held.block != one.block:
            why = f"its notary has signed another LogBlock {block.height} than the one held"
            raise Contradiction(why, block.log_size - 1)

    def _find(self, signed: SignedHeader, block: logblock.LogBlock) -> int:
        """The leaf of a segment, which is held just so."""
        header = get_header(hostlog.encode_segment(hostlog.Segment(*signed)))
        found = self._store.find_segments(
            self._host.host, header.container, header.run, header.first_index, 1
        )
        if found:
            place = found[0].leaf_index
            if self._read_leaf(place) == hostlog.encode_segment(hostlog.Segment(*signed)):
                return place
        why = (
            f"LogBlock {block.height} has a segment of container {header.container.hex()[:12]} "
            f"from receipt {header.first_index} on that is not in the host's log"
        )
        raise Contradiction(why, block.log_size - 1)

    def _remember_runs(self, segments: Sequence[SignedHeader]) -> None:
        """How far the runs of these segments are notarised in this chain."""
        for signed in segments:
            header = get_header(hostlog.encode_segment(hostlog.Segment(*signed)))
            name = (header.container, header.run)
            if name in self._end.runs:
                continue
            found = self._store.find_notarised(self._host.host, self._public, self._app, *name)
            if found is not None:
                self._end.runs[name] = make_run_end(self._read_leaf(found.leaf_index))

    def _read_leaf(self, place: int) -> bytes:
        """The bytes of a leaf that is held."""
        leaves = self._store.read_leaves(self._host.host, place, 1)
        if not leaves or leaves[0].leaf_index != place:
            raise StoreDamage(f"leaf {place} is missing")
        return leaves[0].data

    def _keep(
        self, one: HandedBlock, block: logblock.LogBlock, segments: Sequence[SignedHeader],
        places: list[int],
    ) -> None:  # fmt: skip
        chain = (self._host.host, self._public, self._app)
        leaves = encode_leaves(places)
        self.blocks.append(LogBlock(*chain, block.height, one.block, one.signature, leaves))
        for signed, place in zip(segments, places, strict=True):
            header = get_header(hostlog.encode_segment(hostlog.Segment(*signed)))
            self.runs[header.container, header.run] = Notarised(
                *chain, header.container, header.run, place
            )


def measure_block(row: LogBlock) -> int:
    """The bytes of it that are stored, as quotas count them."""
    return len(row.block) + len(row.signature) + len(row.leaves)


def measure_bundle(row: Bundle) -> int:
    """The bytes of it that are stored, as quotas count them."""
    return len(row.bundle) + len(row.signature)


def open_chain(host: bytes, public: bytes, app: str, last: LogBlock | None) -> ChainEnd:
    """What the next block must be after this one; runs are for the caller to put in."""
    end = logblock.ChainEnd(logblock.compute_notary_id(public), host, app)
    if last is not None:
        block = logblock.decode_block(last.block)
        end.height, end.previous = block.height + 1, logblock.compute_block_hash(last.block)
        end.time, end.totals = block.time, block.totals
    return end


def make_run_end(leaf: bytes) -> logblock.RunEnd:
    """How far a run is after the segment of a leaf."""
    header = get_header(leaf)
    count = header.first_index + header.event_count
    return logblock.RunEnd(count, header.head, header.epoch, header.usage)


def encode_leaves(places: Iterable[int]) -> bytes:
    """Indexes of leaves, u64 each."""
    return b"".join([_LEAF.pack(place) for place in places])


def decode_leaves(data: bytes) -> list[int]:
    """The indexes of `encode_leaves`; TamperError for other bytes."""
    if len(data) % _LEAF.size:
        raise TamperError("its leaves are cut")
    return [place for (place,) in _LEAF.iter_unpack(data)]
