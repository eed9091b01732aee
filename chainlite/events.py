"""Check the receipts of one segment: the hot loop of verification, kept flat.

Not here: the segment's signature and place (verify). Invariant: each receipt is decoded whole and
in canonical form, hashed into root and chain, and each value that is present is the one committed
to; values that were redacted are counted. Source: README.md of this room.
"""

from __future__ import annotations

import struct
from functools import partial
from hashlib import sha256

from blake3 import blake3

from chainlite import domains, keys, merkle, receipt, segment
from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chainlite.bundle import StoredSegment


_NO_VALUES = tuple([receipt.encode_values((None,) * n) for n in range(receipt.VALUES_MAX + 1)])
"""What stands beside a receipt whose values are all redacted, by how many it has."""


class Walk(NamedTuple):
    """A body's leaf and chain hashes, where its frames end, and how many values are redacted."""

    leaf_hashes: list[bytes]
    chain_hashes: list[bytes]
    end: int
    redacted: int


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
) -> int:
    """Check all receipts of a segment whose header is signed; how many of its values are redacted.

    BadEvent names the first bad receipt.
    """
    try:
        body = segment.unpack_body(stored.body)
    except SpecError as error:
        raise BadEvent(None, str(error)) from None
    walk = _walk(header, stored, genesis, chain_hash, body)
    first, end = header.first_index, walk.end
    if header.mode == segment.SIGN_EACH:
        end = _check_signatures(first, body, end, walk.chain_hashes, public)
    if end != len(body):
        raise BadEvent(None, f"{len(body) - end} bytes follow the last receipt")
    if merkle.compute_root(walk.leaf_hashes) != header.root or walk.chain_hashes[-1] != header.head:
        raise BadEvent(None, "the receipts are not those under the signed root and head")
    return walk.redacted


def _walk(
    header: segment.Header,
    stored: StoredSegment,
    genesis: segment.Genesis,
    chain_hash: bytes,
    body: bytes,
) -> Walk:
    """Decode and hash every receipt, and check the values beside it."""
    constant = receipt.encode_constant(
        genesis.run, genesis.host, genesis.container, genesis.policy, genesis.boot
    )
    read_frame, read_fields = receipt.FRAME.unpack_from, receipt.CHECKED.unpack_from
    constant_size, find_shape = receipt.CONSTANT.size, receipt.find_shape
    app, tags, position, redacted = genesis.app, stored.leaf_tags, 0, 0
    get_salt, salts = make_salt_reader(stored)
    leaf_start, chain_hasher, chain_tag = sha256(domains.LEAF), blake3(), domains.RECEIPT
    leaf_hashes: list[bytes] = []
    chain_hashes: list[bytes] = []
    index = header.first_index
    data, time = b"", 0
    try:
        for at in range(0, header.event_count * 4, 4):
            size, values_size = read_frame(body, position)
            start = position + 8
            middle = start + size
            position = middle + values_size
            data = body[start:middle]
            hasher = leaf_start.copy()  # less than half of what a new one costs
            hasher.update(data)
            leaf_hash = hasher.digest()
            if leaf_hash[:4] != tags[at : at + 4]:
                raise SpecError("its bytes are not those that were signed")
            chain_hasher.reset()
            chain_hasher.update(chain_tag + chain_hash + data)
            chain_hash = chain_hasher.digest()
            leaf_hashes.append(leaf_hash)
            chain_hashes.append(chain_hash)
            if size > receipt.RECEIPT_LIMIT_BYTES or not data.startswith(constant):
                raise SpecError("it is too long, or of another run")
            number, time, decision, plane, seen, count = read_fields(data, constant_size)
            if number != index or find_shape(data, index, decision, plane, seen, count).app != app:
                raise SpecError("it is another receipt")
            if values_size or count:
                redacted += _check_values(get_salt, data, index, count, body[middle:position])
            if index == header.first_index and time != header.time_first:
                raise SpecError("its time is not the header's")
            index += 1
    except (SpecError, struct.error) as error:
        raise BadEvent(index, str(error)) from None
    usage = receipt.VARYING.unpack_from(data, constant_size)[18:23]
    if time != header.time_last or usage != header.usage:
        raise BadEvent(index - 1, "its time or usage is not the header's")
    if next(salts, None) is not None:
        raise BadEvent(None, "there are more salts than values")
    return Walk(leaf_hashes, chain_hashes, position, redacted)


def make_salt_reader(
    stored: StoredSegment,
) -> tuple[Callable[[int, int], bytes | None], Iterator[bytes]]:
    """What gives the salt of value `field` of receipt `index` (None: there is none), and the rest.

    In a redacted segment the salts lie in the order of the values that are left, so that it must
    be called once for each of them, in order; the rest are those not yet given.
    """
    if stored.is_redacted:
        salts = iter(stored.get_salts())
        return lambda _index, _field: next(salts, None), salts
    if not stored.secret:
        return lambda _index, _field: None, iter(())
    return partial(receipt.compute_salt, stored.secret), iter(())


def _check_values(
    get_salt: Callable[[int, int], bytes | None], raw: bytes, index: int, count: int, data: bytes
) -> int:
    """Check the values that are there against their commitments; how many are not."""
    if data == _NO_VALUES[count]:
        return count
    values, digests = (
        receipt.decode_values(data, count, "values"),
        receipt.split_digests(raw, count),
    )
    redacted = 0
    for field, value in enumerate(values):
        if value is None:
            redacted += 1
            continue
        salt = get_salt(index, field)
        if salt is None or sha256(salt + value).digest() != digests[field]:
            raise SpecError(f"value {field} is not the one committed to")
    return redacted


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
