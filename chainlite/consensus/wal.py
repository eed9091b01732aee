"""The vote log: what a validator has said at the height being decided, on disk before it is sent.

Not here: which votes (qbft), blocks that are final (chainlite.ledger.store). One file, written over
at each height once the block before is durable in the ledger: its blocks are allocated and written
ahead, so that a write costs one sync of data and none of the file system's own. Invariants: `write`
returns after the sync; what it wrote is given back by `read`, or the log is refused; a torn last
record is one that was never sent. Layout: README.md of this room, "Vote log".
"""

from __future__ import annotations

import os
import struct

from blake3 import blake3

from chainlite import domains
from chainlite.codec import Reader, encode_bytes, encode_u8, encode_u32
from chainlite.consensus.events import Persist, Recorded
from chainlite.consensus.messages import (
    PREPARE,
    Proposal,
    decode_message,
    encode_message,
    encode_vote,
    read_vote,
)
from chainlite.consensus.validators import VALIDATORS_MAX
from chainlite.errors import SpecError, StateError, TamperError
from chainlite.lean import TYPE_CHECKING
from chainlite.ledger.block import BLOCK_LIMIT_BYTES, decode_block

if TYPE_CHECKING:
    from pathlib import Path

    from chainlite.consensus.messages import Message, Vote
    from chainlite.ledger.block import Block

STEP_BYTES = 4 << 20
LOG_LIMIT_BYTES = 256 << 20
"""After so much at one height the validator says no more: 100 rounds of the largest blocks."""
RECORD_LIMIT_BYTES = 4 << 20
CHECK_BYTES = 16
_HEAD = struct.Struct(">IQI")


class VoteLog:
    """The writer's and the reader's side; one process has it open (the node's lock)."""

    def __init__(self, path: Path, chain_id: bytes) -> None:
        """Open the log, or make it; StateError where that fails."""
        self._path = path
        self._chain_id = chain_id
        self._height = -1
        self._position = self._sequence = 0
        self._known: set[bytes] = set()
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._size = os.fstat(self._fd).st_size
            if self._size < STEP_BYTES:
                self._grow(STEP_BYTES)
        except OSError as error:
            raise StateError(f"{path}: cannot be opened: {error.strerror}") from error

    def close(self) -> None:
        """Give the file back."""
        os.close(self._fd)

    def read_height(self) -> int:
        """The last height at which something was said; 0 if nothing was, or that is spoilt.

        A record that is spoilt is found by `read`, if it was of the height that is read.
        """
        self.begin(int(_HEAD.unpack(os.pread(self._fd, _HEAD.size, 0))[1]))
        return self._height if self._read_record() is not None else 0

    def begin(self, height: int) -> None:
        """A height begins whose parent is durable: what was said before it may be overwritten."""
        self._height = height
        self._position = self._sequence = 0
        self._known = set()

    def write(self, record: Persist) -> None:
        """Make it durable, all or nothing; StateError if the disk does not take it."""
        known = {m.block.hash for m in record.messages if isinstance(m, Proposal)}
        payload = encode_u8(len(record.messages))
        payload += b"".join(encode_bytes(encode_message(m)) for m in record.messages)
        if record.block is not None:
            inline = record.block.hash not in self._known
            payload += _encode_prepared(record.block, record.prepares, inline=inline)
            known.add(record.block.hash)
        head = _HEAD.pack(len(payload), self._height, self._sequence)
        data = head + payload + self._compute_check(head, payload)
        try:
            if self._position + len(data) > self._size:
                self._grow(len(data))
            _write_at(self._fd, data, self._position)
            os.fdatasync(self._fd)
        except OSError as error:
            raise StateError(
                f"{self._path}: the vote is not durable, so it is not sent: {error.strerror}"
            ) from error
        self._position += len(data)
        self._sequence += 1
        self._known |= known

    def read(self, height: int) -> Recorded:
        """What was said at this height, and go on after it; TamperError where it is spoilt."""
        self.begin(height)
        messages: list[Message] = []
        blocks: dict[bytes, Block] = {}
        block: Block | None = None
        prepares: tuple[Vote, ...] = ()
        while (payload := self._read_record()) is not None:
            try:
                said, prepared = _decode_record(payload, blocks)
            except SpecError as error:
                raise TamperError(f"{self._path}: byte {self._position}: {error}") from error
            messages.extend(said)
            if prepared is not None:
                block, prepares = prepared
            self._position += _HEAD.size + len(payload) + CHECK_BYTES
            self._sequence += 1
        self._refuse_hole()
        self._known = set(blocks)
        return Recorded(tuple(messages), block, prepares)

    def _compute_check(self, head: bytes, payload: bytes) -> bytes:
        return blake3(domains.VOTE_LOG + self._chain_id + head + payload).digest(CHECK_BYTES)

    def _read_record(self) -> bytes | None:
        """The payload of the next record of this height, if it is whole."""
        head = os.pread(self._fd, _HEAD.size, self._position)
        if len(head) < _HEAD.size:
            return None
        size, height, sequence = _HEAD.unpack(head)
        if (height, sequence) != (self._height, self._sequence) or size > RECORD_LIMIT_BYTES:
            return None
        rest = os.pread(self._fd, size + CHECK_BYTES, self._position + _HEAD.size)
        payload = rest[:size]
        if rest[size:] != self._compute_check(head, payload):
            return None
        return payload

    def _refuse_hole(self) -> None:
        """A whole later record of this height: the one before it was spoilt after its sync."""
        later = os.pread(self._fd, self._size - self._position, self._position)
        wanted = self._height.to_bytes(8, "big")
        start, end, sequence = self._position, self._position, self._sequence
        while (at := later.find(wanted, end - start)) >= 0:
            self._position = start + at - 4
            number = int.from_bytes(later[at + 8 : at + 12], "big")
            self._sequence = number
            if number > sequence and at >= 4 and self._read_record() is not None:
                raise TamperError(
                    f"{self._path}: byte {start}: vote {sequence} of height {self._height} is "
                    "spoilt, and a later one is whole: this validator may not vote at this height"
                )
            end = start + at + 1
        self._position, self._sequence = start, sequence

    def _grow(self, room: int) -> None:
        """More written blocks: the next syncs then have data alone to write."""
        end = self._size + max(room, STEP_BYTES)
        if end > LOG_LIMIT_BYTES:
            raise StateError(
                f"{self._path}: {LOG_LIMIT_BYTES} bytes of votes at height {self._height}: "
                "the validators do not agree; no more is said"
            )
        _write_at(self._fd, bytes(end - self._size), self._size)
        os.fsync(self._fd)
        self._size = end


def _write_at(fd: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, position)
        view, position = view[written:], position + written


def _encode_prepared(block: Block, prepares: tuple[Vote, ...], *, inline: bool) -> bytes:
    """Block hash 32, the block (bytes; none if the log has it already), count and the prepares."""
    encoded = block.encoded if inline else b""
    votes = encode_u32(len(prepares)) + b"".join(map(encode_vote, prepares))
    return block.hash + encode_bytes(encoded) + votes


def _decode_record(
    payload: bytes, blocks: dict[bytes, Block]
) -> tuple[list[Message], tuple[Block, tuple[Vote, ...]] | None]:
    """What one write held; `blocks` are those that the log has so far, by hash."""
    reader = Reader(payload, "vote record")
    messages = [
        decode_message(reader.read_bytes(RECORD_LIMIT_BYTES)) for _ in range(reader.read_u8())
    ]
    for message in messages:
        if isinstance(message, Proposal):
            blocks[message.block.hash] = message.block
    if reader.is_finished():
        return messages, None
    block_hash = reader.read_fixed(32)
    encoded = reader.read_bytes(BLOCK_LIMIT_BYTES)
    block = decode_block(encoded) if encoded else blocks.get(block_hash)
    if block is None or block.hash != block_hash:
        reader.refuse("names a block that is not there")
    blocks[block.hash] = block
    count = reader.read_u32(limit=VALIDATORS_MAX)
    prepares = tuple(read_vote(reader, PREPARE) for _ in range(count))
    reader.finish()
    return messages, (block, prepares)
