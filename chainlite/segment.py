"""Run genesis, epoch certificates, segment headers and segment bodies: encode and decode.

Not here: the order in which they must follow each other (verify) and their storage
(docklock.evidence). Invariant: each object decodes to what encodes to the same bytes.
Layouts: README.md of this room.
"""

from __future__ import annotations

import struct

from blake3 import blake3

from chainlite import codec, domains
from chainlite.codec import Reader
from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.receipt import APP_LIMIT, NAME_LIMIT
from chainlite.sha2 import sha256

if TYPE_CHECKING:
    from typing import Any

VERSION = 1
EVENTS_MAX = 1024
EPOCH_NS = 60 * 10**9
BODY_LIMIT_BYTES = 8 << 20
RAW_BODY_MAX_BYTES = 4096
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
"""A body before compression; a writer closes a segment at half of it."""
PACKED_LIMIT_BYTES = BODY_LIMIT_BYTES + (1 << 16)
IMAGE_LIMIT = 256
CLOSED_MAX = 1024
LEAF_TAG_BYTES = 4
SIGN_SEGMENTS, SIGN_EACH = 0, 1
BY_HOST, BY_EPOCH, BY_RECOVERY = 0, 1, 2
ISSUERS = ("host", "epoch", "recovery")
ZERO_HASH = bytes(32)

_HEADER = struct.Struct(">cH32s32sII32sQIBB32s32sQQ5Q")


class Genesis(NamedTuple):
    """What a run's chain starts from; times in ns, `previous` the head of the run before."""

    host: bytes
    container: bytes
    run: int
    number: int
    policy: bytes
    previous: bytes
    boot: bytes
    boottime: int
    time: int
    checkpoint: bytes
    sign_each: int
    image: str
    app: str
    closed: tuple[str, ...]


class Certificate(NamedTuple):
    """Who may sign from `first_index` on; signed by the key that `issuer` names."""

    host: bytes
    container: bytes
    run: int
    epoch: int
    first_index: int
    issuer: int
    public: bytes
    boot: bytes
    boottime: int
    time: int
    checkpoint: bytes


class Header(NamedTuple):
    """A segment: what its epoch's key signs. `mode` is SIGN_SEGMENTS or SIGN_EACH.

    `certificate_hash` is that of the epoch's certificate: whoever holds the header knows which of
    all that name this key it is.
    """

    host: bytes
    container: bytes
    run: int
    epoch: int
    certificate_hash: bytes
    first_index: int
    event_count: int
    mode: int
    has_secret: int
    root: bytes
    head: bytes
    time_first: int
    time_last: int
    usage: tuple[int, ...]


def encode_genesis(genesis: Genesis) -> bytes:
    """The canonical bytes of a run's genesis."""
    g = genesis
    parts = [
        codec.encode_head(domains.GENESIS, VERSION),
        g.host,
        g.container,
        codec.encode_u32(g.run),
        codec.encode_u64(g.number),
        g.policy,
        g.previous,
        g.boot,
        codec.encode_u64(g.boottime),
        codec.encode_u64(g.time),
        g.checkpoint,
        codec.encode_u8(g.sign_each),
        codec.encode_text(g.image),
        codec.encode_text(g.app),
        codec.encode_u32(len(g.closed)),
    ]
    return b"".join(parts + [codec.encode_text(name) for name in g.closed])


def decode_genesis(data: bytes) -> Genesis:
    """The genesis of these bytes; SpecError if they are not its canonical form."""
    r = Reader(data, "genesis")
    r.read_head(domains.GENESIS, VERSION)
    fixed = (r.read_fixed(32), r.read_fixed(32), r.read_u32(), r.read_u64())
    hashes = (r.read_fixed(32), r.read_fixed(32), r.read_fixed(16))
    times = (r.read_u64(), r.read_u64())
    rest = (r.read_fixed(32), r.read_u8(limit=SIGN_EACH), r.read_text(IMAGE_LIMIT))
    app = r.read_text(APP_LIMIT)
    closed = tuple(r.read_text(NAME_LIMIT) for _ in range(r.read_u32(limit=CLOSED_MAX)))
    if list(closed) != sorted(set(closed)):
        r.refuse("the closed names are not in ascending order")
    r.finish()
    return Genesis._make((*fixed, *hashes, *times, *rest, app, closed))


def compute_genesis_hash(genesis: bytes) -> bytes:
    """The hash before the first receipt: BLAKE3(tag || genesis)."""
    return blake3(domains.GENESIS + genesis).digest()


_CERTIFICATE = struct.Struct(">cH32s32sIIQB32s16sQQ32s")
CERTIFICATE_BYTES = _CERTIFICATE.size
HEADER_BYTES = _HEADER.size


def encode_certificate(certificate: Certificate) -> bytes:
    """The canonical bytes of an epoch's certificate."""
    return _CERTIFICATE.pack(domains.CERTIFICATE, VERSION, *certificate)


def decode_certificate(data: bytes) -> Certificate:
    """The certificate of these bytes; SpecError if they are not its canonical form."""
    fields = _unpack(_CERTIFICATE, data, domains.CERTIFICATE, "certificate")
    certificate = Certificate(*fields)
    if certificate.issuer > BY_RECOVERY:
        raise SpecError(f"certificate: issuer {certificate.issuer} has no name")
    return certificate


def compute_certificate_hash(certificate: bytes) -> bytes:
    """What the headers of an epoch name: SHA-256(tag || certificate), without its signature."""
    return sha256(domains.CERTIFICATE_HASH + certificate).digest()


def encode_header(header: Header) -> bytes:
    """The canonical bytes of a segment's header."""
    return _HEADER.pack(domains.SEGMENT_HEADER, VERSION, *header[:13], *header.usage)


def decode_header(data: bytes) -> Header:
    """The header of these bytes; SpecError if they are not its canonical form."""
    fields = _unpack(_HEADER, data, domains.SEGMENT_HEADER, "segment header")
    header = Header._make((*fields[:13], fields[13:]))
    if header.mode > SIGN_EACH or header.has_secret > 1:
        raise SpecError("segment header: a mode has no name")
    if not 1 <= header.event_count <= EVENTS_MAX:
        raise SpecError(f"segment header: {header.event_count} events, not 1 to {EVENTS_MAX}")
    if header.first_index + header.event_count > codec.U64_MAX:
        raise SpecError("segment header: the index overflows")
    return header


def _unpack(layout: struct.Struct, data: bytes, tag: bytes, what: str) -> tuple[Any, ...]:
    if len(data) != layout.size:
        raise SpecError(f"{what}: {len(data)} bytes, not {layout.size}")
    found, version, *fields = layout.unpack(data)
    if found != tag or version != VERSION:
        raise SpecError(f"{what}: tag {found.hex()} version {version} is not known")
    return tuple(fields)


def pack_body(frames: bytes) -> bytes:
    """A body as it is stored: zstd at level 1, or one zstd frame of a raw block if it is short.

    The library takes 5 ms to import, and a short run's few events are all that it would pack.
    """
    size = len(frames)
    if 256 <= size <= RAW_BODY_MAX_BYTES:
        # RFC 8878, 3.1.1: single segment, two bytes of size less 256; then the last block, raw.
        head = _ZSTD_MAGIC + b"\x60" + (size - 256).to_bytes(2, "little")
        return head + (size << 3 | 1).to_bytes(3, "little") + frames
    packed: bytes = get_zstd().compress(frames, 1)
    return packed


def unpack_body(packed: bytes) -> bytes:
    """The frames of a stored body; SpecError if it is not one, or above its limit."""
    zstd = get_zstd()
    decompressor = zstd.ZstdDecompressor()
    try:
        body: bytes = decompressor.decompress(packed, max_length=BODY_LIMIT_BYTES + 1)
    except zstd.ZstdError as error:
        raise SpecError(f"body does not decompress: {error}") from None
    if len(body) > BODY_LIMIT_BYTES or not decompressor.eof or decompressor.unused_data:
        raise SpecError("body does not decompress to its end within its limit")
    return body


def get_zstd() -> Any:
    """The module that compresses: Python's own, or the backport."""
    import sys

    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd
