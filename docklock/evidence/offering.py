"""This host's log as others are handed it, range by range: leaves, and the bodies of segments.

Validators are offered it without values; servers get it with them. Not here: what an offer and a
batch are (chainlite.ledger.offer, chainlite.bpci.batch), to whom they go and what became of them
(docklock.submitter, submitted; docklock.outbox). A range is one moment of the log. Invariants:
values and their salts are in no offer, whatever class they are of; what the container's file has
not, though the log names it, is a TamperError; at most one range is in memory.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from chainlite import bundle, hostlog, redaction, segment
from chainlite.bpci import batch
from chainlite.errors import StateError, TamperError
from chainlite.ledger.offer import (
    LEAVES_MAX,
    OFFER_LIMIT_BYTES,
    Body,
    Item,
    Offer,
    encode_body,
    encode_head_of,
    encode_item,
    join_offer,
)
from docklock.evidence import container_store as store
from docklock.evidence.export import open_container

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from docklock.evidence.database import sqlite3
    from docklock.evidence.host_log import HostLog
    from docklock.paths import Paths

STORES_MAX = 64
"""Containers' files that are open at once."""
LEAVES_STEP = 256
RECEIPTS_MAX = 1 << 14
"""An offer that has so many is full: others wait while a node verifies it (50 ms)."""
PROOF_LIMIT_BYTES = 1 + bundle.PROOF_MAX * 32


class Kind(NamedTuple):
    """What a range becomes. `fill_bytes` is where it is full, `limit_bytes` what one leaf may take.

    `take` gives what goes out of a segment as it is stored.
    """

    fill_bytes: int
    limit_bytes: int
    encode_head: Callable[[Offer], bytes]
    encode_body: Callable[[Body], bytes]
    take: Callable[[bundle.StoredSegment], bundle.StoredSegment]


def _take_bare(stored: bundle.StoredSegment) -> bundle.StoredSegment:
    return redaction.remove_values(stored)._replace(secret=b"")


OFFER = Kind(OFFER_LIMIT_BYTES, OFFER_LIMIT_BYTES, encode_head_of, encode_body, _take_bare)
BATCH = Kind(
    batch.BATCH_FILL_BYTES,
    batch.BATCH_LIMIT_BYTES,
    batch.encode_head_of_batch,
    batch.encode_body,
    lambda stored: stored,
)


class MadeOffer(NamedTuple):
    """A range's bytes, and the leaves and receipts that are in it."""

    data: bytes
    start: int
    end: int
    root: bytes
    receipts: int


def make_offer(
    paths: Paths, log: HostLog, start: int, end: int | None = None,
    limit_bytes: int = OFFER_LIMIT_BYTES,
) -> MadeOffer | None:  # fmt: skip
    """As many leaves from `start` on, up to `end` (None: all), as an offer holds; None for none.

    StateError where one leaf alone is too large; TamperError where its body is not there.
    """
    kind = OFFER._replace(fill_bytes=limit_bytes, limit_bytes=limit_bytes)
    return make_range(paths, log, kind, start, end)


def make_range(
    paths: Paths, log: HostLog, kind: Kind, start: int, end: int | None = None
) -> MadeOffer | None:
    """As make_offer, for a range of any kind."""
    with log.read(), ExitStack() as stack:
        size = log.get_size()
        end = min(size if end is None else end, size)
        if start >= end:
            return None
        head = Offer(log.read_host(), start, log.get_note(), (), _get_later_keys(log, start), ())
        taken = len(kind.encode_head(head)) + PROOF_LIMIT_BYTES
        stores = _Stores(paths, stack)
        items: list[bytes] = []
        receipts = 0
        for index, leaf in _iterate(log, start, min(end, start + LEAVES_MAX)):
            item, count = _make_item(stores, kind, index, leaf)
            encoded = encode_item(item)
            taken += len(encoded)
            if taken > (kind.fill_bytes if items else kind.limit_bytes):
                break
            items.append(encoded)
            receipts += count
            if receipts >= RECEIPTS_MAX:
                break
        if not items:
            raise StateError(f"leaf {start} of the host's log is too large to be sent")
        end = start + len(items)
        proof = log.get_consistency(end, size) if end < size else ()
        head = head._replace(proof=proof, later_keys=_get_later_keys(log, end))
        data = join_offer(kind.encode_head(head), items, len(items))
        return MadeOffer(data, start, end, log.compute_root(end), receipts)


def _get_later_keys(log: HostLog, first: int) -> tuple[bytes, ...]:
    return tuple([data for index, data in log.get_key_leaves() if index >= first])


def _iterate(log: HostLog, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    for first in range(start, end, LEAVES_STEP):
        yield from enumerate(log.read_leaves(first, min(LEAVES_STEP, end - first)), first)


def _make_item(stores: _Stores, kind: Kind, index: int, leaf: bytes) -> tuple[Item, int]:
    """What goes out of a leaf, and how many receipts that is."""
    if leaf[0] != hostlog.SEGMENT_KIND:
        return Item(leaf), 0
    logged = hostlog.decode_leaf(leaf)
    assert isinstance(logged, hostlog.Segment), "its kind says so"
    header = segment.decode_header(logged.header)
    db = stores.get(header.container.hex())
    row = None if db is None else store.find_segment(db, header.run, header.first_index)
    if db is None or row is None or (row.header, row.signature) != logged:
        raise TamperError(
            f"leaf {index} of the host's log: container {header.container.hex()[:12]} has no such "
            f"segment of run {header.run} from receipt {header.first_index} on"
        )
    before = store.get_header_before(db, header.run, header.first_index)
    epoch = segment.decode_header(before).epoch if before else 0
    certificates = tuple([
        one.certificate + one.signature
        for one in store.iterate_epochs(db, header.run, epoch)
        if one.epoch <= header.epoch
    ])  # fmt: skip
    stored = kind.take(bundle.StoredSegment(*row[5:10]))
    body = Body(certificates, stored.leaf_tags, stored.body, stored.secret)
    return Item(leaf, kind.encode_body(body)), header.event_count


class _Stores:
    """Containers' files, opened when first asked for; the one not asked for longest is closed."""

    def __init__(self, paths: Paths, stack: ExitStack) -> None:
        self._paths, self._stack = paths, stack
        self._open: dict[str, tuple[ExitStack, sqlite3.Connection | None]] = {}

    def get(self, container: str) -> sqlite3.Connection | None:
        """The container's file; None if it has none."""
        found = self._open.pop(container, None)
        if found is None:
            if len(self._open) >= STORES_MAX:
                self._open.pop(next(iter(self._open)))[0].close()
            inner = self._stack.enter_context(ExitStack())
            found = inner, inner.enter_context(open_container(self._paths, container))
        self._open[container] = found
        return found[1]
