"""A block's header, its two hashes, and the seals that make it final.

Not here: what a block holds (block), what its roots are over (tx, state, chainlite.proofs.poh), who
may seal it (chainlite.consensus.validators). Invariants: the block hash is over the header alone,
never over a round or a seal, so that a block which is finalised in two rounds is one block; the
seal digest binds chain, block and round, and only that is ever signed.
Source: EEA QBFT v1, "Block digest"; layout: README.md of this room, "Header".
"""

from __future__ import annotations

import struct

from chainlite import domains, keys
from chainlite.codec import Reader, encode_bytes, encode_head, encode_u32
from chainlite.consensus.validators import VALIDATORS_MAX
from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.sha2 import sha256

if TYPE_CHECKING:
    from chainlite.consensus.validators import ValidatorSet

VERSION = 1
_FIXED = struct.Struct(">Q32s32s32s32s32s32sQ32s")
HEADER_BYTES = 3 + _FIXED.size
ROUND_MAX = 0xFFFFFFFE
BITMAP_LIMIT_BYTES = (VALIDATORS_MAX + 7) // 8
SEALS_LIMIT_BYTES = 3 + 4 + 4 + BITMAP_LIMIT_BYTES + VALIDATORS_MAX * keys.SIGNATURE_BYTES


class Header(NamedTuple):
    """What a block hash is over. Hashes have 32 bytes, `proposer` is a public key.

    `history_root` is RFC 6962's over the hashes of blocks 0 to height - 1, `receipts_root` over the
    signed envelopes of the block's transactions, `poh_root` over the ends of its tick segments.
    `state_root` is the state's after this block. `timestamp_ms` is Unix time in ms.
    """

    height: int
    previous: bytes
    history_root: bytes
    state_root: bytes
    receipts_root: bytes
    poh_root: bytes
    next_validators: bytes
    timestamp_ms: int
    proposer: bytes


class Seals(NamedTuple):
    """A quorum's signatures over one seal digest; signatures in the order of the bitmap's bits."""

    round: int
    bitmap: bytes
    signatures: tuple[bytes, ...]


def encode_header(header: Header) -> bytes:
    """HEADER_BYTES bytes."""
    return encode_head(domains.BLOCK_HEADER, VERSION) + _FIXED.pack(*header)


def read_header(reader: Reader) -> Header:
    """The header that comes next."""
    reader.read_head(domains.BLOCK_HEADER, VERSION)
    return Header._make(_FIXED.unpack(reader.read_fixed(_FIXED.size)))


def decode_header(data: bytes) -> Header:
    """The header that these bytes are; SpecError for any other bytes."""
    reader = Reader(data, "block header")
    header = read_header(reader)
    reader.finish()
    return header


def compute_header_hash(encoded: bytes) -> bytes:
    """The block hash: SHA-256 of the header's bytes, whose first is its tag."""
    return sha256(encoded).digest()


def compute_seal_digest(chain_id: bytes, block_hash: bytes, round: int) -> bytes:
    """What PROPOSAL, PREPARE and COMMIT of one round name a block by."""
    return sha256(domains.SEAL_DIGEST + chain_id + block_hash + encode_u32(round)).digest()


def encode_seals(seals: Seals) -> bytes:
    """Tag, version, round u32, bitmap (bytes), and the signatures, one for each bit set."""
    head = encode_head(domains.SEALS, VERSION) + encode_u32(seals.round)
    return head + encode_bytes(seals.bitmap) + b"".join(seals.signatures)


def read_seals(reader: Reader) -> Seals:
    """The seals that come next."""
    reader.read_head(domains.SEALS, VERSION)
    sealed_in = reader.read_u32(limit=ROUND_MAX)
    bitmap = reader.read_bytes(BITMAP_LIMIT_BYTES)
    count = int.from_bytes(bitmap, "little").bit_count()
    return Seals(
        sealed_in, bitmap, tuple(reader.read_fixed(keys.SIGNATURE_BYTES) for _ in range(count))
    )


def encode_commit(chain_id: bytes, height: int, round: int, seal_digest: bytes) -> bytes:
    """What a COMMIT's signature, which is the seal, is over, after its tag."""
    return chain_id + height.to_bytes(8, "big") + encode_u32(round) + seal_digest


def is_sealed(
    seals: Seals, validators: ValidatorSet, chain_id: bytes, height: int, block_hash: bytes
) -> bool:
    """Whether a quorum of this height's validators has sealed the block."""
    try:
        signers = validators.decode_bitmap(seals.bitmap)
    except SpecError:
        return False
    if len(signers) < validators.quorum or len(signers) != len(seals.signatures):
        return False
    digest = compute_seal_digest(chain_id, block_hash, seals.round)
    message = encode_commit(chain_id, height, seals.round, digest)
    return all(
        keys.is_signed(key, domains.SIGN_COMMIT, message, signature)
        for key, signature in zip(signers, seals.signatures, strict=True)
    )
