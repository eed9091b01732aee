"""Hosts of a test's own with real recorders, and the batches that they send.

Not here: docklock.outbox, which makes them from the same stores.
"""

from __future__ import annotations

from chainlite import hostlog, segment
from chainlite.bpci.batch import encode_batch, encode_body
from chainlite.bundle import StoredSegment
from chainlite.ledger.offer import Item, Offer, decode_body, decode_offer
from docklock.evidence import container_store as store
from docklock.evidence.export import open_container
from docklock.paths import Paths
from tests.ledger.offered import offer_range


def make_batch(paths: Paths, start: int = 0, end: int | None = None) -> Offer:
    """The batch of a range: as the offer of it, with what the containers' files have beside it."""
    offer = decode_offer(offer_range(paths, start, end).data)
    return offer._replace(items=tuple([add_values(paths, item) for item in offer.items]))


def make_data(paths: Paths, start: int = 0, end: int | None = None) -> bytes:
    return encode_batch(make_batch(paths, start, end))


def add_values(paths: Paths, item: Item) -> Item:
    leaf = hostlog.decode_leaf(item.leaf)
    if not isinstance(leaf, hostlog.Segment):
        return item
    header = segment.decode_header(leaf.header)
    with open_container(paths, header.container.hex()) as db:
        assert db is not None
        row = store.find_segment(db, header.run, header.first_index)
    assert row is not None
    stored = StoredSegment(*row[5:10])
    body = decode_body(item.body)._replace(secret=stored.secret, packed=stored.body)
    return item._replace(body=encode_body(body))
