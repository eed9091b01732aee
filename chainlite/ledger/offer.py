"""What a host offers a validator: leaves of its log from one index on, with the bodies of segments.

Leaves come in order and whole: starts with genesis and first certificate, headers with signatures,
exits, key records. Each segment brings the certificates since the run's last segment, and its body
without values. The note shows that the host says so: its log of `note` size continues what is here,
by `proof`, and its newest key is the last of what the node knows, these leaves and `later_keys`.
Not here: whether it holds (bodies). Invariants: what `decode_offer` accepts is what `encode_offer`
writes; nothing in it has room for a value or a secret of which salts follow.
Layout: README.md of this room, "Bodies".
"""

from __future__ import annotations

from chainlite import domains, hostlog, segment
from chainlite.bundle import encode_proof, read_proof
from chainlite.codec import Reader, encode_bytes, encode_head, encode_u32, encode_u64
from chainlite.hostkeys import KEYS_MAX
from chainlite.keys import SIGNATURE_BYTES
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.note import NOTE_LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

VERSION = 1
OFFER_LIMIT_BYTES = (4 << 20) - (64 << 10)
"""Below what a transport carries in one message."""
BODY_LIMIT_BYTES = OFFER_LIMIT_BYTES
LEAVES_MAX = 1 << 16
CERTIFICATES_MAX = 1024
CERTIFICATE_BYTES = segment.CERTIFICATE_BYTES + SIGNATURE_BYTES
KEY_LEAF_LIMIT_BYTES = 1024
LEAF_TAGS_LIMIT_BYTES = segment.EVENTS_MAX * segment.LEAF_TAG_BYTES


class Item(NamedTuple):
    """A leaf, and for a segment's leaf what an encoded Body says of it; else that is empty."""

    leaf: bytes
    body: bytes = b""


class Body(NamedTuple):
    """What comes with a segment: certificates with their signatures, in order from the epoch after
    that of the run's last segment, the first bytes of each receipt's leaf hash, the packed frames.

    `secret` is as in bundle.StoredSegment. In an offer there is none, and no value. `is_erased`:
    nothing is left but the certificates; never of one that came in an offer or a batch."""

    certificates: tuple[bytes, ...]
    leaf_tags: bytes
    packed: bytes
    secret: bytes = b""
    is_erased: bool = False


class Offer(NamedTuple):
    """Leaves from index `start` on of the log of `host`, and what shows that the host says so."""

    host: bytes
    start: int
    note: bytes
    proof: tuple[bytes, ...]
    later_keys: tuple[bytes, ...]
    items: tuple[Item, ...]

    @property
    def end(self) -> int:
        """The size of the log up to here."""
        return self.start + len(self.items)


class Ack(NamedTuple):
    """The answer to an offer: the node holds and has verified the bodies of this host's log up to
    `size`. `receipts` are those taken just now: none where the offer did not begin there."""

    host: bytes
    size: int
    root: bytes
    receipts: int


def encode_ack(ack: Ack) -> bytes:
    """Host 32, size u64, root 32, receipts u64."""
    head = encode_head(domains.OFFER_ACK, VERSION)
    return head + ack.host + encode_u64(ack.size) + ack.root + encode_u64(ack.receipts)


def decode_ack(data: bytes) -> Ack:
    """The answer that these bytes are; SpecError for any other bytes."""
    reader = Reader(data, "answer to an offer")
    reader.read_head(domains.OFFER_ACK, VERSION)
    ack = Ack(reader.read_fixed(32), reader.read_u64(), reader.read_fixed(32), reader.read_u64())
    reader.finish()
    return ack


def encode_body(body: Body) -> bytes:
    """The canonical bytes of what comes with a segment."""
    assert not body.secret, "an offer has no room for it"
    certificates = encode_certificates(body.certificates)
    return certificates + encode_bytes(body.leaf_tags) + encode_bytes(body.packed)


def decode_body(data: bytes) -> Body:
    """What these bytes say; SpecError for any that `encode_body` does not write."""
    reader = Reader(data, "body")
    certificates = read_certificates(reader)
    leaf_tags = reader.read_bytes(LEAF_TAGS_LIMIT_BYTES)
    body = Body(certificates, leaf_tags, reader.read_bytes(segment.PACKED_LIMIT_BYTES))
    reader.finish()
    return body


def encode_certificates(certificates: tuple[bytes, ...]) -> bytes:
    """A count and the certificates, each with its signature."""
    return encode_u32(len(certificates)) + b"".join(certificates)


def read_certificates(reader: Reader) -> tuple[bytes, ...]:
    """The certificates at the reader; SpecError if they are too many or cut."""
    count = reader.read_u32(limit=CERTIFICATES_MAX)
    return tuple([reader.read_fixed(CERTIFICATE_BYTES) for _ in range(count)])


def encode_item(item: Item) -> bytes:
    """One leaf and its body."""
    return encode_bytes(item.leaf) + encode_bytes(item.body)


def encode_items(items: Sequence[Item]) -> bytes:
    """A count and the items."""
    return encode_u32(len(items)) + b"".join([encode_item(item) for item in items])


def read_items(reader: Reader, body_limit: int = BODY_LIMIT_BYTES) -> tuple[Item, ...]:
    """The items at the reader; SpecError if they are none, or too many."""
    count = reader.read_u32(limit=LEAVES_MAX)
    if not count:
        reader.refuse("has no leaf")
    limit = hostlog.LEAF_LIMIT_BYTES
    return tuple(
        [Item(reader.read_bytes(limit), reader.read_bytes(body_limit)) for _ in range(count)]
    )


def encode_offer(offer: Offer) -> bytes:
    """The canonical bytes of an offer."""
    return encode_head_of(offer) + encode_items(offer.items)


def encode_head_of(offer: Offer, tag: bytes = domains.OFFER) -> bytes:
    """All that precedes the count of the items."""
    parts = [
        encode_head(tag, VERSION),
        offer.host,
        encode_u64(offer.start),
        encode_bytes(offer.note),
        encode_proof(offer.proof),
        encode_u32(len(offer.later_keys)),
    ]
    return b"".join(parts + [encode_bytes(leaf) for leaf in offer.later_keys])


def join_offer(head: bytes, items: Iterable[bytes], count: int) -> bytes:
    """The offer of a head and `count` items that are encoded already."""
    return b"".join((head, encode_u32(count), *items))


def decode_offer(data: bytes) -> Offer:
    """The offer that these bytes are; SpecError for any other bytes. Nothing is verified."""
    return read_offer(Reader(data, "offer"), len(data), domains.OFFER, OFFER_LIMIT_BYTES)


def read_offer(reader: Reader, size: int, tag: bytes, limit: int) -> Offer:
    """What is laid out as an offer, under a tag and within a limit of its own."""
    if size > limit:
        reader.refuse(f"is above {limit} bytes")
    reader.read_head(tag, VERSION)
    head = (reader.read_fixed(32), reader.read_u64())
    note, proof = reader.read_bytes(NOTE_LIMIT_BYTES), read_proof(reader)
    count = reader.read_u32(limit=KEYS_MAX)
    later_keys = tuple([reader.read_bytes(KEY_LEAF_LIMIT_BYTES) for _ in range(count)])
    items = read_items(reader, limit)
    reader.finish()
    return Offer(*head, note, proof, later_keys, items)
