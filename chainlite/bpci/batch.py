"""What a host sends a server: an offer whose bodies bring their values. Pure.

Laid out as an offer is (ledger.offer) under a tag of its own; a segment's body has its secret, or
the salts of the values that are left, and its values. On the wire it is one zstd frame.
Not here: whether it holds (ledger.bodies with `decode_segment_body`), who keeps it (store).
Invariants: what `decode_batch` accepts is what `encode_batch` writes; no more memory is taken than
the limit says, whatever a frame claims; every segment that a host can make fits a batch.
Layout: README.md of this room. Source: RFC 8878, RFC 9659.
"""

from __future__ import annotations

from chainlite import bundle, domains, segment
from chainlite.codec import Reader, encode_bytes
from chainlite.errors import SpecError
from chainlite.ledger.offer import (
    LEAF_TAGS_LIMIT_BYTES,
    Body,
    Offer,
    encode_certificates,
    encode_head_of,
    encode_items,
    read_certificates,
    read_offer,
)
from chainlite.receipt import SALT_BYTES, SECRET_BYTES

BATCH_FILL_BYTES = 4 << 20
"""Up to which a host fills a batch that has more than one leaf."""
BATCH_LIMIT_BYTES = 10 << 20
"""Of a batch before compression: the largest segment and what comes with it are below."""
WIRE_LIMIT_BYTES = BATCH_LIMIT_BYTES + (64 << 10)
"""What does not compress grows a little."""
SECRET_LIMIT_BYTES = len(bundle.SALTED) + bundle.SALTS_MAX * SALT_BYTES
LEVEL = 1
"""Of zstd: bodies are compressed already, only leaves and certificates give way."""
WINDOW_LOG_MAX = 23
"""8 MiB: what RFC 9659 lets a content coding ask of a receiver."""


def encode_body(body: Body) -> bytes:
    """The canonical bytes of what comes with a segment, its secret before its leaf tags."""
    parts = (body.secret, body.leaf_tags, body.packed)
    return encode_certificates(body.certificates) + b"".join([encode_bytes(one) for one in parts])


def decode_body(data: bytes) -> Body:
    """What these bytes say; SpecError for any that `encode_body` does not write."""
    reader = Reader(data, "body with values")
    certificates = read_certificates(reader)
    secret = reader.read_bytes(SECRET_LIMIT_BYTES)
    leaf_tags = reader.read_bytes(LEAF_TAGS_LIMIT_BYTES)
    body = Body(certificates, leaf_tags, reader.read_bytes(segment.PACKED_LIMIT_BYTES), secret)
    reader.finish()
    if len(secret) in (0, SECRET_BYTES):
        return body
    if not secret.startswith(bundle.SALTED) or len(secret) % SALT_BYTES != len(bundle.SALTED):
        reader.refuse("the secret is neither one nor salts")
    return body


def decode_segment_body(data: bytes, header: segment.Header) -> Body:
    """As `decode_body`, of a segment with this header: with a secret where it says so."""
    body = decode_body(data)
    is_salted = header.has_secret and body.secret.startswith(bundle.SALTED)
    size = SECRET_BYTES if header.has_secret else 0
    if len(body.secret) != size and not is_salted:
        raise SpecError("body with values: has not the secret that the segment's header speaks of")
    return body


def encode_head_of_batch(batch: Offer) -> bytes:
    """All that precedes the count of the items: ledger.offer.join_offer does the rest."""
    return encode_head_of(batch, domains.BPCI_BATCH)


def encode_batch(batch: Offer) -> bytes:
    """The canonical bytes of a batch."""
    return encode_head_of_batch(batch) + encode_items(batch.items)


def decode_batch(data: bytes) -> Offer:
    """The batch that these bytes are; SpecError for any other bytes. Nothing is verified."""
    return read_offer(Reader(data, "batch"), len(data), domains.BPCI_BATCH, BATCH_LIMIT_BYTES)


def compress(data: bytes) -> bytes:
    """A batch as it goes over the wire (Content-Encoding: zstd)."""
    packed: bytes = segment.get_zstd().compress(data, LEVEL)
    return packed


def decompress(packed: bytes) -> bytes:
    """The batch of one zstd frame; SpecError if it is none, or is or needs more than allowed."""
    zstd = segment.get_zstd()
    options = {zstd.DecompressionParameter.window_log_max: WINDOW_LOG_MAX}
    decompressor = zstd.ZstdDecompressor(options=options)
    try:
        data: bytes = decompressor.decompress(packed, max_length=BATCH_LIMIT_BYTES + 1)
    except zstd.ZstdError as error:
        raise SpecError(f"batch does not decompress: {error}") from None
    if len(data) > BATCH_LIMIT_BYTES or not decompressor.eof or decompressor.unused_data:
        raise SpecError(f"batch does not decompress to its end within {BATCH_LIMIT_BYTES} bytes")
    return data
