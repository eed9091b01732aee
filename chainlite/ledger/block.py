"""A block: header, transactions and the ends of its tick segments, with its bytes and its hash.

Not here: whether a block follows the rules (state), its seals (header). Invariants: a block's bytes
are canonical, so equal blocks have equal bytes; `hash` is its header's. The hash does not cover the
lists by itself: whoever takes a block checks them against the header's roots (state.check), and
remembers the verdict by bytes, not by hash. Layout: README.md of this room, "Block".
"""

from __future__ import annotations

from chainlite import domains
from chainlite.codec import Reader, encode_bytes, encode_head, encode_u32
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.ledger.header import (
    HEADER_BYTES,
    Header,
    compute_header_hash,
    encode_header,
    read_header,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = 1
TRANSACTION_LIMIT_BYTES = 256 * 1024
BLOCK_LIMIT_BYTES = 2 * 1024 * 1024
SEGMENTS_MAX = 1024
"""Ends of tick segments in a block."""
HASH_BYTES = 32


class Block(NamedTuple):
    """Made by `make_block` or `decode_block`, so that bytes and hash always go with the fields."""

    header: Header
    transactions: tuple[bytes, ...]
    poh: tuple[bytes, ...]
    encoded: bytes
    hash: bytes


def make_block(header: Header, transactions: Sequence[bytes], poh: Sequence[bytes]) -> Block:
    """The block with these parts. Sizes are the caller's to keep (BLOCK_LIMIT_BYTES)."""
    head = encode_header(header)
    parts = [encode_head(domains.BLOCK, VERSION), head, encode_u32(len(poh)), *poh]
    parts.append(encode_u32(len(transactions)))
    parts.extend(map(encode_bytes, transactions))
    return Block(
        header, tuple(transactions), tuple(poh), b"".join(parts), compute_header_hash(head)
    )


def decode_block(data: bytes) -> Block:
    """The block that these bytes are; SpecError for any other bytes."""
    reader = Reader(data, "block")
    if len(data) > BLOCK_LIMIT_BYTES:
        reader.refuse(f"{len(data)} bytes, above the limit of {BLOCK_LIMIT_BYTES}")
    reader.read_head(domains.BLOCK, VERSION)
    header = read_header(reader)
    poh = tuple(reader.read_fixed(HASH_BYTES) for _ in range(reader.read_u32(limit=SEGMENTS_MAX)))
    count = reader.read_u32(limit=BLOCK_LIMIT_BYTES // 4)
    transactions = tuple(reader.read_list(count, TRANSACTION_LIMIT_BYTES))
    reader.finish()
    return Block(header, transactions, poh, data, compute_header_hash(data[3 : 3 + HEADER_BYTES]))
