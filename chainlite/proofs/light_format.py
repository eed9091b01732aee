"""The bytes of a light proof: an event, a state of a host's log, or evidence, to a sealed block.

Nothing stands in it that follows from the rest: host, container and run come from the receipt, the
segment's root, the log's root, the transaction's root and the block's receipts_root from the paths
under them, the chain's id from whom the reader trusts. So an object that was read is whole, and
only what hashes to what a quorum sealed can be in it. Not here: whether it does (light), who makes
one (light_make). Invariant: what `decode_light` accepts is what `encode_light` writes.
Layout: README.md of this room, "Light proof".
"""

from __future__ import annotations

import struct

from chainlite import bundle, codec, domains, hostlog, keys, merkle, receipt, segment
from chainlite.codec import Reader
from chainlite.consensus.validators import VALIDATORS_MAX
from chainlite.errors import SpecError
from chainlite.lean import NamedTuple
from chainlite.ledger import operations, tx
from chainlite.ledger.header import (
    BITMAP_LIMIT_BYTES,
    ROUND_MAX,
    Header,
    Seals,
    compute_header_hash,
    encode_header,
)
from chainlite.proof import Opened, encode_opened, read_opened
from chainlite.sha2 import sha256

MAGIC = b"DOCKLOCK-FINAL\x00\x00\x01"
"""The name, and the version in the last two bytes."""
HINT_BYTES = 4
"""Of the chain's id, to tell people that they hold a proof of another chain."""
LINKS_MAX = 1024
"""Changes of the validators between what the reader trusts and the block."""
SIDES_MAX = 24
"""Levels over the transactions of a block."""
LIGHT_LIMIT_BYTES = 1 << 20
OF_LOG, OF_EVENT, OF_EVIDENCE = 0, 1, 2
CLAIM_LIMIT_BYTES = 64
"""Of evidence: a tag, a version, and whom it convicts."""
SEALED, UNDER_SEALED, UNDER_TRUSTED = 0, 1, 2
_SEGMENT = struct.Struct(">I32sQIBB32sQQ5Q64sQQ")
_ANCHOR = struct.Struct(">32sQII32s64s")
_HEADER = struct.Struct(">Q32s32s32s32s32s32sQ32s")
_FINAL = struct.Struct(">Q32s32s32s32s32sQ32s")


class Event(NamedTuple):
    """A receipt, its segment, and the paths from it to the root of the host's log."""

    receipt: bytes
    values: tuple[Opened | None, ...]
    header: segment.Header
    signature: bytes
    leaf_index: int
    segment_path: tuple[bytes, ...]
    log_path: tuple[bytes, ...]


class Anchoring(NamedTuple):
    """The anchor, at `place` of the operations in a signed envelope, and that in a block.

    `sides` has a bit for each hash of `block_path`, the lowest first: set where it is the left one.
    """

    key: bytes
    nonce: int
    operation_count: int
    place: int
    supplement_hash: bytes
    signature: bytes
    path: tuple[bytes, ...]
    sides: int
    block_path: tuple[bytes, ...]


class Link(NamedTuple):
    """A sealed header after which other validators decide: who left, by place, and who came."""

    header: Header
    seals: Seals
    removed: tuple[int, ...]
    added: tuple[bytes, ...]


class LightProof(NamedTuple):
    """The parts. `header` is that of the anchor's block.

    With a `claim`, which is that of an evidence operation, the proof is of that and not of an
    anchor: `host` is who submitted it, and there is no log.

    What makes it final: its own `seals`; those of a `newer` header, whose history_root it is under
    by `history_path`; or, with neither, that of the header that the reader trusts.
    """

    chain_id: bytes
    event: Event | None
    host: bytes
    log_size: int
    log_root: bytes
    anchoring: Anchoring
    links: tuple[Link, ...]
    header: Header
    history_path: tuple[bytes, ...]
    newer: Header | None
    seals: Seals | None
    claim: bytes = b""

    @property
    def kind(self) -> int:
        """SEALED, UNDER_SEALED or UNDER_TRUSTED."""
        if self.seals is None:
            return UNDER_TRUSTED
        return SEALED if self.newer is None else UNDER_SEALED


def encode_light(proof: LightProof) -> bytes:
    """The bytes of a proof's file."""
    parts = [MAGIC, proof.chain_id[:HINT_BYTES]]
    if proof.claim:
        parts += [codec.encode_u8(OF_EVIDENCE), proof.host, codec.encode_bytes(proof.claim)]
    elif proof.event is None:
        parts += [codec.encode_u8(OF_LOG), proof.host, codec.encode_u64(proof.log_size)]
        parts.append(proof.log_root)
    else:
        parts += [codec.encode_u8(OF_EVENT), *_encode_event(proof.event, proof.log_size)]
    a = proof.anchoring
    parts += [_ANCHOR.pack(*a[:6]), bundle.encode_proof(a.path)]
    parts += [bundle.encode_proof(a.block_path), codec.encode_u32(a.sides)]
    parts.append(len(proof.links).to_bytes(2, "big"))
    parts += map(encode_link, proof.links)
    parts += [codec.encode_u8(proof.kind), _pack_without(proof.header, "receipts_root")]
    if proof.seals is None:
        parts.append(bundle.encode_proof(proof.history_path))
    else:
        if proof.newer is not None:
            parts.append(bundle.encode_proof(proof.history_path))
            parts.append(_pack_without(proof.newer, "history_root"))
        parts.append(encode_seals(proof.seals))
    return b"".join(parts)


def _encode_event(event: Event, log_size: int) -> list[bytes]:
    h = event.header
    fixed = (*h[3:9], h.head, h.time_first, h.time_last, *h.usage)
    return [
        codec.encode_bytes(event.receipt),
        *map(encode_opened, event.values),
        _SEGMENT.pack(*fixed, event.signature, event.leaf_index, log_size),
        bundle.encode_proof(event.segment_path),
        bundle.encode_proof(event.log_path),
    ]


def _pack_without(header: Header, name: str) -> bytes:
    return _FINAL.pack(*[value for key, value in zip(Header._fields, header, strict=True)
                         if key != name])  # fmt: skip


def encode_seals(seals: Seals) -> bytes:
    """Round u32, the bitmap's length u8, the bitmap, and a signature for each bit that is set."""
    size = codec.encode_u8(len(seals.bitmap))
    return codec.encode_u32(seals.round) + size + seals.bitmap + b"".join(seals.signatures)


def read_seals(r: Reader) -> Seals:
    """The seals that come next."""
    sealed_in = r.read_u32(limit=ROUND_MAX)
    bitmap = r.read_fixed(r.read_u8(limit=BITMAP_LIMIT_BYTES))
    count = int.from_bytes(bitmap, "little").bit_count()
    return Seals(
        sealed_in, bitmap, tuple([r.read_fixed(keys.SIGNATURE_BYTES) for _ in range(count)])
    )


def encode_link(link: Link) -> bytes:
    """The header without tag and version, its seals, who left and who came."""
    sizes = bytes((len(link.removed), len(link.added)))
    change = sizes + bytes(link.removed) + b"".join(link.added)
    return _HEADER.pack(*link.header) + encode_seals(link.seals) + change


def decode_light(data: bytes, chain_id: bytes) -> LightProof:
    """The proof of these bytes for a chain; SpecError if they are not one in canonical form."""
    if data[: len(MAGIC) - 2] != MAGIC[:-2]:
        raise SpecError("not a light proof: it does not start with DOCKLOCK-FINAL")
    if not data.startswith(MAGIC):
        raise SpecError(f"light proof version {data[len(MAGIC) - 2 : len(MAGIC)].hex()}: not known")
    if len(data) > LIGHT_LIMIT_BYTES:
        raise SpecError(f"light proof: {len(data)} bytes, above {LIGHT_LIMIT_BYTES}")
    r = Reader(data[len(MAGIC) :], "light proof")
    if r.read_fixed(HINT_BYTES) != chain_id[:HINT_BYTES]:
        r.refuse("it is of another chain")
    event, claim, log_size, log_root = None, b"", 0, bytes(32)
    form = r.read_u8(limit=OF_EVIDENCE)
    if form == OF_EVENT:
        event, host, log_size, log_root = _read_event(r)
    elif form == OF_LOG:
        host, log_size, log_root = r.read_fixed(32), r.read_u64(), r.read_fixed(32)
    else:
        host, claim = r.read_fixed(32), r.read_bytes(CLAIM_LIMIT_BYTES)
        decode_evidence(claim)
    anchored = claim or encode_anchor(log_size, log_root)
    anchoring, receipts_root = _read_anchoring(r, chain_id, host, anchored)
    links = tuple([read_link(r) for _ in range(r.read_u16(limit=LINKS_MAX))])
    kind = r.read_u8(limit=UNDER_TRUSTED)
    fields = list(_FINAL.unpack(r.read_fixed(_FINAL.size)))
    fields.insert(Header._fields.index("receipts_root"), receipts_root)
    header = Header._make(fields)
    path = bundle.read_proof(r) if kind != SEALED else ()
    newer = _read_newer(r, header, path) if kind == UNDER_SEALED else None
    seals = read_seals(r) if kind != UNDER_TRUSTED else None
    r.finish()
    return LightProof(
        chain_id, event, host, log_size, log_root, anchoring, links, header, path, newer, seals,
        claim,
    )  # fmt: skip


def decode_evidence(claim: bytes) -> operations.VotesEvidence | operations.ForkEvidence:
    """Whom a claim says that evidence convicts; SpecError for the claim of any other operation."""
    found = operations.decode_operation(claim, b"")
    if not isinstance(found, operations.VotesEvidence | operations.ForkEvidence):
        raise SpecError("light proof: an operation that is no evidence")
    return found


def encode_anchor(log_size: int, log_root: bytes) -> bytes:
    """The claim of an anchor."""
    return operations.encode_operation(operations.Anchor(log_size, log_root))[0]


def _read_event(r: Reader) -> tuple[Event, bytes, int, bytes]:
    raw = r.read_bytes(receipt.RECEIPT_LIMIT_BYTES)
    about = receipt.decode_receipt(raw)
    values = tuple([read_opened(r) for _ in about.commitments])
    *fixed, signature, leaf_index, log_size = _SEGMENT.unpack(r.read_fixed(_SEGMENT.size))
    epoch, certificate_hash, first_index, count, mode, has_secret, head, first, last = fixed[:9]
    segment_path, log_path = bundle.read_proof(r), bundle.read_proof(r)
    at = about.event_index - first_index
    root = merkle.compute_root_of_path(merkle.compute_leaf_hash(raw), at, count, segment_path)
    if root is None:
        r.refuse("the path to the segment's root is not one")
    header = segment.Header(
        about.host, about.container, about.run, epoch, certificate_hash, first_index, count, mode,
        has_secret, root, head, first, last, tuple(fixed[9:]),
    )  # fmt: skip
    encoded = segment.encode_header(header)
    segment.decode_header(encoded)
    leaf = merkle.compute_leaf_hash(hostlog.encode_segment(hostlog.Segment(encoded, signature)))
    log_root = merkle.compute_root_of_path(leaf, leaf_index, log_size, log_path)
    if log_root is None:
        r.refuse("the path to the host log's root is not one")
    event = Event(raw, values, header, signature, leaf_index, segment_path, log_path)
    return event, about.host, log_size, log_root


def _read_anchoring(
    r: Reader, chain_id: bytes, host: bytes, claim: bytes
) -> tuple[Anchoring, bytes]:
    """The anchoring, and the receipts_root that it leads to."""
    fixed = _ANCHOR.unpack(r.read_fixed(_ANCHOR.size))
    path, block_path = bundle.read_proof(r), bundle.read_proof(r)
    sides = r.read_u32()
    if len(block_path) > SIDES_MAX or sides >> len(block_path):
        r.refuse("the path to the block's receipts_root is not one")
    anchoring = Anchoring._make((*fixed, path, sides, block_path))
    if not 1 <= anchoring.operation_count <= tx.OPERATIONS_MAX:
        r.refuse(f"{anchoring.operation_count} operations in a transaction")
    envelope = encode_envelope(anchoring, chain_id, host, claim)
    value = merkle.compute_leaf_hash(envelope + anchoring.signature)
    for level, sibling in enumerate(block_path):
        pair = (sibling, value) if sides >> level & 1 else (value, sibling)
        value = merkle.compute_node_hash(*pair)
    return anchoring, value


def encode_envelope(anchoring: Anchoring, chain_id: bytes, host: bytes, claim: bytes) -> bytes:
    """The envelope that holds the operation with this claim; SpecError for no such path."""
    leaf = sha256(domains.LEAF + claim + anchoring.supplement_hash).digest()
    a = anchoring
    root = merkle.compute_root_of_path(leaf, a.place, a.operation_count, a.path)
    if root is None:
        raise SpecError("light proof: the path to the transaction's root is not one")
    return tx.encode_envelope(chain_id, host, a.key, a.nonce, a.operation_count, root)


def read_link(r: Reader) -> Link:
    """The link that comes next."""
    header = Header._make(_HEADER.unpack(r.read_fixed(_HEADER.size)))
    seals = read_seals(r)
    removed, added = r.read_u8(limit=VALIDATORS_MAX), r.read_u8(limit=VALIDATORS_MAX)
    places = tuple(r.read_fixed(removed))
    public = tuple([r.read_fixed(keys.PUBLIC_BYTES) for _ in range(added)])
    if list(places) != sorted(set(places)) or list(public) != sorted(set(public)):
        r.refuse("a change of validators does not ascend")
    return Link(header, seals, places, public)


def _read_newer(r: Reader, header: Header, path: tuple[bytes, ...]) -> Header:
    fields = list(_FINAL.unpack(r.read_fixed(_FINAL.size)))
    leaf = merkle.compute_leaf_hash(compute_header_hash(encode_header(header)))
    root = merkle.compute_root_of_path(leaf, header.height, fields[0], path)
    if root is None:
        r.refuse("the path to the newer header's history_root is not one")
    fields.insert(Header._fields.index("history_root"), root)
    return Header._make(fields)
