"""The leaves of a host's log: encode and decode.

Not here: the tree and its storage (merkle, docklock.evidence.host_log), and which keys follow from
the key records (hostkeys). Invariant: each leaf is at most 65,535 bytes (a tlog entry bundle has
16-bit lengths), starts with a tag of its kind, and decodes to what encodes to the same bytes.
Layouts: README.md of this room.
"""

from __future__ import annotations

from chainlite import codec, domains, mldsa, receipt
from chainlite.codec import Reader
from chainlite.errors import SpecError
from chainlite.keys import SIGNATURE_BYTES
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.segment import CERTIFICATE_BYTES, HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Leaf: TypeAlias = "Boot | Key | MldsaKey | Revocation | Start | Segment | Exit | Operation"

VERSION = 1
LEAF_LIMIT_BYTES = 65535
GENESIS_LIMIT_BYTES = 60000
NAME_LIMIT = 64
SEGMENT_KIND = domains.LOG_SEGMENT[0]
OPERATION_KIND = domains.LOG_OPERATION[0]
KEY_KINDS = (domains.LOG_KEY[0], domains.LOG_REVOCATION[0])
MLDSA_KEY_KIND = domains.LOG_MLDSA_KEY[0]
NO_CONTAINER = bytes(32)


class Boot(NamedTuple):
    """The host came up: its boot id, and how long the log was before."""

    host: bytes
    boot: bytes
    boottime: int
    time: int
    previous_size: int


class Key(NamedTuple):
    """The host's key number `number`, from this leaf on; the key before it signed this record.

    Number 0 is the enrolled key, and signed its own. `leaf_index` is this leaf's own place.
    """

    host: bytes
    number: int
    leaf_index: int
    public: bytes
    time: int
    signature: bytes


class MldsaKey(NamedTuple):
    """The ML-DSA-44 key that signs checkpoints with the host's key number `number`.

    Signed by that key, and by the ML-DSA key before it (the first by itself).
    """

    host: bytes
    number: int
    leaf_index: int
    public: bytes
    time: int
    signature: bytes
    mldsa_signature: bytes


class Revocation(NamedTuple):
    """What key `number` signed from leaf `first_index` on is not to be trusted, says key `by`."""

    host: bytes
    number: int
    by: int
    leaf_index: int
    first_index: int
    time: int
    signature: bytes


class Start(NamedTuple):
    """A run starts: its genesis, its first epoch certificate and the host key's signature."""

    genesis: bytes
    certificate: bytes
    signature: bytes


class Segment(NamedTuple):
    """A segment was committed: header, and the epoch key's signature."""

    header: bytes
    signature: bytes


class Exit(NamedTuple):
    """A run ended after `event_count` receipts with `head`; `cut` when a later command said so."""

    host: bytes
    container: bytes
    run: int
    event_count: int
    head: bytes
    exit_code: int
    oom: int
    cut: int
    time: int


class Operation(NamedTuple):
    """Something the runtime was told to do; `container` is NO_CONTAINER where it is to none."""

    host: bytes
    container: bytes
    name: str
    labels: tuple[tuple[str, str], ...]
    time: int


def encode_boot(leaf: Boot) -> bytes:
    """The leaf of a boot record."""
    return b"".join(
        (
            codec.encode_head(domains.LOG_BOOT, VERSION),
            leaf.host,
            leaf.boot,
            codec.encode_u64(leaf.boottime),
            codec.encode_u64(leaf.time),
            codec.encode_u64(leaf.previous_size),
        )
    )


def encode_key(leaf: Key) -> bytes:
    """The leaf of a key record; without its signature it is what that is over."""
    return b"".join(
        (
            codec.encode_head(domains.LOG_KEY, VERSION),
            leaf.host,
            codec.encode_u32(leaf.number),
            codec.encode_u64(leaf.leaf_index),
            leaf.public,
            codec.encode_u64(leaf.time),
            leaf.signature,
        )
    )


def encode_mldsa_key(leaf: MldsaKey) -> bytes:
    """The leaf of an ML-DSA key; without its two signatures it is what both are over."""
    return b"".join(
        (
            codec.encode_head(domains.LOG_MLDSA_KEY, VERSION),
            leaf.host,
            codec.encode_u32(leaf.number),
            codec.encode_u64(leaf.leaf_index),
            leaf.public,
            codec.encode_u64(leaf.time),
            leaf.signature,
            leaf.mldsa_signature,
        )
    )


def encode_revocation(leaf: Revocation) -> bytes:
    """The leaf of a revocation; without its signature it is what that is over."""
    return b"".join(
        (
            codec.encode_head(domains.LOG_REVOCATION, VERSION),
            leaf.host,
            codec.encode_u32(leaf.number),
            codec.encode_u32(leaf.by),
            codec.encode_u64(leaf.leaf_index),
            codec.encode_u64(leaf.first_index),
            codec.encode_u64(leaf.time),
            leaf.signature,
        )
    )


def encode_start(leaf: Start) -> bytes:
    """The leaf of a run's start."""
    return b"".join(
        (
            codec.encode_head(domains.LOG_START, VERSION),
            codec.encode_bytes(leaf.genesis),
            leaf.certificate,
            leaf.signature,
        )
    )


def encode_segment(leaf: Segment) -> bytes:
    """The leaf of a committed segment."""
    return codec.encode_head(domains.LOG_SEGMENT, VERSION) + leaf.header + leaf.signature


def encode_exit(leaf: Exit) -> bytes:
    """The leaf of a run's end."""
    return b"".join(
        (
            codec.encode_head(domains.LOG_EXIT, VERSION),
            leaf.host,
            leaf.container,
            codec.encode_u32(leaf.run),
            codec.encode_u64(leaf.event_count),
            leaf.head,
            codec.encode_i32(leaf.exit_code),
            codec.encode_u8(leaf.oom),
            codec.encode_u8(leaf.cut),
            codec.encode_u64(leaf.time),
        )
    )


def encode_operation(leaf: Operation) -> bytes:
    """The leaf of an operation; SpecError above a limit."""
    if len(leaf.name.encode()) > NAME_LIMIT:
        raise SpecError(f"operation {leaf.name[:NAME_LIMIT]}...: longer than {NAME_LIMIT} bytes")
    return b"".join(
        (
            codec.encode_head(domains.LOG_OPERATION, VERSION),
            leaf.host,
            leaf.container,
            codec.encode_text(leaf.name),
            receipt.encode_labels(leaf.labels),
            codec.encode_u64(leaf.time),
        )
    )


def decode_leaf(data: bytes) -> Leaf:
    """The leaf of these bytes; SpecError if they are not the canonical form of one."""
    if len(data) > LEAF_LIMIT_BYTES:
        raise SpecError(f"host-log leaf: {len(data)} bytes, above {LEAF_LIMIT_BYTES}")
    tag = data[:1]
    decode = _DECODERS.get(tag)
    if decode is None:
        raise SpecError(f"host-log leaf: tag {tag.hex() or 'missing'} is not known")
    reader = Reader(data, "host-log leaf")
    reader.read_head(tag, VERSION)
    leaf = decode(reader)
    reader.finish()
    return leaf


def _decode_boot(r: Reader) -> Boot:
    return Boot(r.read_fixed(32), r.read_fixed(16), r.read_u64(), r.read_u64(), r.read_u64())


def _decode_key(r: Reader) -> Key:
    place = (r.read_fixed(32), r.read_u32(), r.read_u64())
    return Key(*place, r.read_fixed(32), r.read_u64(), r.read_fixed(SIGNATURE_BYTES))


def _decode_mldsa_key(r: Reader) -> MldsaKey:
    place = (r.read_fixed(32), r.read_u32(), r.read_u64())
    key = (r.read_fixed(mldsa.PUBLIC_BYTES), r.read_u64())
    signatures = (r.read_fixed(SIGNATURE_BYTES), r.read_fixed(mldsa.SIGNATURE_BYTES))
    return MldsaKey(*place, *key, *signatures)


def _decode_revocation(r: Reader) -> Revocation:
    place = (r.read_fixed(32), r.read_u32(), r.read_u32(), r.read_u64())
    return Revocation(*place, r.read_u64(), r.read_u64(), r.read_fixed(SIGNATURE_BYTES))


def _decode_start(r: Reader) -> Start:
    genesis = r.read_bytes(GENESIS_LIMIT_BYTES)
    return Start(genesis, r.read_fixed(CERTIFICATE_BYTES), r.read_fixed(SIGNATURE_BYTES))


def _decode_segment(r: Reader) -> Segment:
    return Segment(r.read_fixed(HEADER_BYTES), r.read_fixed(SIGNATURE_BYTES))


def _decode_exit(r: Reader) -> Exit:
    run = (r.read_fixed(32), r.read_fixed(32), r.read_u32(), r.read_u64(), r.read_fixed(32))
    flags = (r.read_i32(), r.read_u8(limit=1), r.read_u8(limit=1))
    return Exit(*run, *flags, r.read_u64())


def _decode_operation(r: Reader) -> Operation:
    where = (r.read_fixed(32), r.read_fixed(32), r.read_text(NAME_LIMIT))
    labels = tuple(
        (r.read_text(receipt.NAME_LIMIT), r.read_text(receipt.LABEL_LIMIT))
        for _ in range(r.read_u8(limit=receipt.LABELS_MAX))
    )
    return Operation(*where, labels, r.read_u64())


_DECODERS: dict[bytes, Callable[[Reader], Leaf]] = {
    domains.LOG_BOOT: _decode_boot,
    domains.LOG_KEY: _decode_key,
    domains.LOG_START: _decode_start,
    domains.LOG_SEGMENT: _decode_segment,
    domains.LOG_EXIT: _decode_exit,
    domains.LOG_OPERATION: _decode_operation,
    domains.LOG_REVOCATION: _decode_revocation,
    domains.LOG_MLDSA_KEY: _decode_mldsa_key,
}
