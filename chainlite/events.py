"""Check the receipts of one segment: the hot loop of verification, kept flat.

Not here: the segment's signature and place (verify). Invariant: each receipt is decoded whole and
in canonical form, hashed into root and chain, and each value that is present is the one committed
to. Source: README.md of this room.
"""

from __future__ import annotations

import struct
from hashlib import sha256

from blake3 import blake3

from chainlite import domains, keys, merkle, receipt, segment
from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from chainlite.bundle import StoredSegment


class BadEvent(Exception):
    """A segment's receipts fail: at `index`, or somewhere in the segment if it is None."""

    def __init__(self, index: int | None, why: str) -> None:
        super().__init__(why)
        self.index = index


def check_events(
    header: segment.Header,
    stored: StoredSegment,
    genesis: segment.Genesis,
    chain_hash: bytes,
    public: bytes,
) -> None:
    """Check all receipts of a segment whose header is signed; BadEvent names the first bad one."""
    try:
        body = segment.unpack_body(stored.body)
    except SpecError as error:
        raise BadEvent(None, str(error)) from None
    leaf_hashes, chain_hashes, end = _walk(header, stored, genesis, chain_hash, body)
    first = header.first_index
    if header.mode == segment.SIGN_EACH:
        end = _check_signatures(first, body, end, chain_hashes, public)
    if end != len(body):
        raise BadEvent(None, f"{len(body) - end} bytes follow the last receipt")
    if merkle.compute_root(leaf_hashes) != header.root or chain_hashes[-1] != header.head:
        raise BadEvent(None, "the receipts are not those under the signed root and head")


def _walk(
    header: segment.Header,
    stored: StoredSegment,
    genesis: segment.Genesis,
    chain_hash: bytes,
    body: bytes,
) -> tuple[list[bytes], list[bytes], int]:
    """Leaf hashes, chain hashes, and where the frames end."""
    constant = receipt.encode_constant(
        genesis.run, genesis.host, genesis.container, genesis.policy, genesis.boot
    )
    read_frame, read_fields = receipt.FRAME.unpack_from, receipt.VARYING.unpack_from
    constant_size, decode_rest = receipt.CONSTANT.size, receipt.decode_rest
    app, tags, secret, position = genesis.app, stored.leaf_tags, stored.secret, 0
    leaf_tag, chain_tag = domains.LEAF, domains.RECEIPT
    leaf_hashes: list[bytes] = []
    chain_hashes: list[bytes] = []
    index = header.first_index
    fields: tuple[int, ...] = ()
    try:
        for at in range(0, header.event_count * 4, 4):
            size, values_size = read_frame(body, position)
            start = position + 8
            middle = start + size
            position = middle + values_size
            data = body[start:middle]
            leaf_hash = sha256(leaf_tag + data).digest()
            if leaf_hash[:4] != tags[at : at + 4]:
                raise SpecError("its bytes are not those that were signed")
            chain_hash = blake3(chain_tag + chain_hash + data).digest()
            leaf_hashes.append(leaf_hash)
            chain_hashes.append(chain_hash)
            if size > receipt.RECEIPT_LIMIT_BYTES or not data.startswith(constant):
                raise SpecError("it is too long, or of another run")
            fields = read_fields(data, constant_size)
            shape, digests = decode_rest(data, fields)
            if fields[0] != index or shape.app != app:
                raise SpecError("it is another receipt")
            if values_size or digests:
                _check_values(secret, index, digests, body[middle:position])
            if index == header.first_index and fields[2] != header.time_first:
                raise SpecError("its time is not the header's")
            index += 1
    except (SpecError, struct.error) as error:
        raise BadEvent(index, str(error)) from None
    if fields[2] != header.time_last or fields[18:23] != header.usage:
        raise BadEvent(index - 1, "its time or usage is not the header's")
    return leaf_hashes, chain_hashes, position


def _check_values(secret: bytes, index: int, digests: tuple[bytes, ...], data: bytes) -> None:
    values = receipt.decode_values(data, len(digests), "values")
    for field, value in enumerate(values):
        if value is None:
            continue
        if not secret or receipt.compute_commitment(secret, index, field, value) != digests[field]:
            raise SpecError(f"value {field} is not the one committed to")


def _check_signatures(
    first: int, body: bytes, start: int, chain_hashes: list[bytes], public: bytes
) -> int:
    """One signature per receipt follows the frames; returns where they end."""
    tag, size = domains.SIGN_RECEIPT, keys.SIGNATURE_BYTES
    for number, chain_hash in enumerate(chain_hashes):
        if not keys.is_signed(public, tag, chain_hash, body[start : start + size]):
            raise BadEvent(first + number, "it is not signed by its epoch's key")
        start += size
    return start
