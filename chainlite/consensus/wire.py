"""What nodes tell each other beside votes: how far they are, blocks, transactions and verdicts.

Not here: votes (messages), who sends what when (node, intake). One codec; nothing here is signed by
itself: blocks carry seals, transactions carry signatures, and a status is a hint that only leads to
a question. Invariants: every list has a limit; what a decoder accepts is canonical.
Layout: README.md of this room, "Between nodes".
"""

from __future__ import annotations

from chainlite import domains
from chainlite.codec import (
    Reader,
    encode_bytes,
    encode_head,
    encode_text,
    encode_u8,
    encode_u32,
    encode_u64,
)
from chainlite.consensus import messages
from chainlite.consensus.messages import NewBlock, decode_message
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.ledger.block import BLOCK_LIMIT_BYTES, TRANSACTION_LIMIT_BYTES
from chainlite.ledger.header import SEALS_LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = 1
BLOCKS_MAX = 512
BLOCKS_LIMIT_BYTES = 3 << 20
"""One answer has blocks up to this size together, but at least one."""
TRANSACTIONS_MAX = 8_192
REASON_LIMIT = 512
TAKEN, KNOWN, REFUSED, FULL = 0, 1, 2, 3
VERDICTS = ("taken", "known", "refused", "full")


class Status(NamedTuple):
    """The newest final block of a node."""

    height: int
    block_hash: bytes


class WantBlocks(NamedTuple):
    """Blocks with their seals, from this height on, as many as one answer holds."""

    start: int


class Verdict(NamedTuple):
    """What became of a transaction: one of VERDICTS by its place, and why."""

    kind: int
    reason: str = ""


def encode_status(status: Status) -> bytes:
    """Height u64, block hash 32."""
    head = encode_head(domains.NODE_STATUS, VERSION)
    return head + encode_u64(status.height) + status.block_hash


def decode_status(data: bytes) -> Status:
    """The status that these bytes are; SpecError for any other bytes."""
    reader = Reader(data, "status")
    reader.read_head(domains.NODE_STATUS, VERSION)
    status = Status(reader.read_u64(), reader.read_fixed(32))
    reader.finish()
    return status


def encode_want(want: WantBlocks) -> bytes:
    """Height u64."""
    return encode_head(domains.WANT_BLOCKS, VERSION) + encode_u64(want.start)


def decode_want(data: bytes) -> WantBlocks:
    """The question that these bytes are; SpecError for any other bytes."""
    reader = Reader(data, "want blocks")
    reader.read_head(domains.WANT_BLOCKS, VERSION)
    want = WantBlocks(reader.read_u64())
    reader.finish()
    return want


def encode_want_checkpoint(height: int) -> bytes:
    """Height u64. The answer is a signed note over the hashes of all blocks up to it."""
    return encode_head(domains.WANT_CHECKPOINT, VERSION) + encode_u64(height)


def decode_want_checkpoint(data: bytes) -> int:
    """The height that is asked for; SpecError for any other bytes."""
    reader = Reader(data, "want checkpoint")
    reader.read_head(domains.WANT_CHECKPOINT, VERSION)
    height = reader.read_u64()
    reader.finish()
    return height


def encode_blocks(blocks: Sequence[tuple[bytes, bytes]]) -> bytes:
    """u32 count, and each block and its seals, as a NEW-BLOCK message (bytes)."""
    head = encode_head(domains.MESSAGE_NEW_BLOCK, messages.VERSION)
    parts = [encode_bytes(head + encode_bytes(block) + seals) for block, seals in blocks]
    return encode_head(domains.BLOCKS, VERSION) + encode_u32(len(parts)) + b"".join(parts)


def decode_blocks(data: bytes) -> list[NewBlock]:
    """Blocks and seals; SpecError for any other bytes. Checks neither."""
    reader = Reader(data, "blocks")
    reader.read_head(domains.BLOCKS, VERSION)
    blocks = []
    for _ in range(reader.read_u32(limit=BLOCKS_MAX)):
        message = decode_message(reader.read_bytes(BLOCK_LIMIT_BYTES + SEALS_LIMIT_BYTES + 16))
        if not isinstance(message, NewBlock):
            reader.refuse("a message that is no block")
        blocks.append(message)
    reader.finish()
    return blocks


def encode_transactions(transactions: list[bytes]) -> bytes:
    """u32 count, and each (bytes)."""
    head = encode_head(domains.TRANSACTIONS, VERSION) + encode_u32(len(transactions))
    return head + b"".join(map(encode_bytes, transactions))


def decode_transactions(data: bytes) -> list[bytes]:
    """Encoded transactions; SpecError for any other bytes. Looks into none."""
    reader = Reader(data, "transactions")
    reader.read_head(domains.TRANSACTIONS, VERSION)
    count = reader.read_u32(limit=TRANSACTIONS_MAX)
    found = reader.read_list(count, TRANSACTION_LIMIT_BYTES)
    reader.finish()
    return found


def encode_verdicts(verdicts: list[Verdict]) -> bytes:
    """u32 count, and for each its kind u8 and why (text)."""
    parts = [encode_u8(verdict.kind) + encode_text(verdict.reason) for verdict in verdicts]
    return encode_head(domains.VERDICTS, VERSION) + encode_u32(len(parts)) + b"".join(parts)


def decode_verdicts(data: bytes) -> list[Verdict]:
    """Verdicts in the order of their transactions; SpecError for any other bytes."""
    reader = Reader(data, "verdicts")
    reader.read_head(domains.VERDICTS, VERSION)
    count = reader.read_u32(limit=TRANSACTIONS_MAX)
    found = [
        Verdict(reader.read_u8(limit=len(VERDICTS) - 1), reader.read_text(REASON_LIMIT))
        for _ in range(count)
    ]
    reader.finish()
    return found
