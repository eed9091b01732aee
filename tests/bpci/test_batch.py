"""A batch brings a host's log with its values, to the last bit, or is refused."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from chainlite import bundle, hostlog, redaction, segment
from chainlite.bpci import batch
from chainlite.bpci.batch import decode_batch, decode_segment_body, encode_batch
from chainlite.errors import SpecError, TamperError
from chainlite.ledger.bodies import HostBodies, Taken, verify_offer
from chainlite.ledger.offer import (
    CERTIFICATE_BYTES,
    CERTIFICATES_MAX,
    Body,
    Offer,
    decode_offer,
)
from docklock.paths import Paths
from tests.bpci.batches import make_batch, make_data
from tests.ledger.offered import make_host, offer_range
from tests.ledger.test_formats import spoil


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return make_host(tmp_path)


def verify(data: bytes) -> Taken:
    made = decode_batch(data)
    return verify_offer(HostBodies(made.host), made, decode_segment_body)


def find_values(made: Offer) -> list[int]:
    """The items that are segments with values."""
    return [
        number
        for number, item in enumerate(made.items)
        if item.leaf[0] == hostlog.SEGMENT_KIND and batch.decode_body(item.body).secret
    ]


def change(made: Offer, number: int, **changes: object) -> bytes:
    """The batch with another body of a segment."""
    items = list(made.items)
    body = batch.decode_body(items[number].body)._replace(**changes)  # type: ignore[arg-type]
    items[number] = items[number]._replace(body=batch.encode_body(body))
    return encode_batch(made._replace(items=tuple(items)))


def get_stored(made: Offer, number: int) -> bundle.StoredSegment:
    leaf = hostlog.decode_leaf(made.items[number].leaf)
    assert isinstance(leaf, hostlog.Segment)
    body = batch.decode_body(made.items[number].body)
    return bundle.StoredSegment(*leaf, body.secret, body.leaf_tags, body.packed)


def test_a_batch_is_verified_as_the_offer_is_and_brings_values(paths: Paths) -> None:
    offer, data = offer_range(paths), make_data(paths)
    taken = verify(data)
    assert (taken.root, taken.receipts) == (offer.root, 16)
    made = decode_batch(data)
    stored = [get_stored(made, number) for number in find_values(made)]
    values = [
        value
        for one in stored
        for event in redaction.iterate_events(one, segment.unpack_body(one.body))
        for value in event.values
    ]
    assert b"/tmp/1" in values and b"ls\0-l\0" in values and None not in values


def test_neither_stands_for_the_other(paths: Paths) -> None:
    with pytest.raises(SpecError, match="starts with ac"):
        decode_batch(offer_range(paths).data)
    with pytest.raises(SpecError, match="starts with c0"):
        decode_offer(make_data(paths))


def test_every_flipped_bit_is_refused(paths: Paths, seed: int, full: bool) -> None:
    data = make_data(paths)
    bits = range(len(data) * 8)
    meaningless, root = 0, verify(data).root
    for bit in bits if full else random.Random(seed).sample(bits, 1500):
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        try:
            taken = verify(bytes(spoilt))
        except (SpecError, TamperError):
            continue
        # zstd ignores some bits of a frame's header: the same receipts in other packing
        assert taken.root == root and unpack(decode_batch(bytes(spoilt))) == unpack(
            decode_batch(data)
        )
        meaningless += 1
    assert meaningless <= len(bits) // 200


def unpack(made: Offer) -> list[Body | bytes]:
    return [
        body._replace(packed=segment.unpack_body(body.packed))
        for item in made.items
        if item.body
        for body in (batch.decode_body(item.body),)
    ] + [item.leaf for item in made.items]


def test_a_value_that_is_not_the_one_committed_to_is_refused(paths: Paths) -> None:
    made = make_batch(paths)
    for number in find_values(made):
        body = bytearray(segment.unpack_body(batch.decode_body(made.items[number].body).packed))
        for value in (b"/tmp/1", b"/tmp/4", b"ls\0-l\0"):
            at = body.find(value)
            if at >= 0:
                body[at + 1] ^= 1
                break
        else:
            continue
        with pytest.raises(TamperError, match=rf"^leaf {number} of host .*value"):
            verify(change(made, number, packed=segment.pack_body(bytes(body))))
        return
    raise AssertionError("no segment has a value")


def test_redacted_values_are_taken_as_redacted_and_no_others(paths: Paths) -> None:
    made = make_batch(paths)
    for number in find_values(made):
        stored = get_stored(made, number)
        bare = redaction.redact_segment(stored, frozenset(["all"]))
        some = redaction.redact_segment(stored, frozenset(["argv"]))
        for one in (bare, some):
            assert verify(change(made, number, secret=one.secret, packed=one.body)).receipts == 16
        # the values are gone, the secret of their salts is not said to be
        for secret in (b"", stored.secret[:16], b"\x01" + bytes(16), b"\x02" + bytes(16)):
            with pytest.raises((SpecError, TamperError)):
                verify(change(made, number, secret=secret, packed=bare.body))


def test_a_segment_without_values_has_no_secret(paths: Paths) -> None:
    made = make_batch(paths)
    for number, item in enumerate(made.items):
        if item.leaf[0] == hostlog.SEGMENT_KIND and number not in find_values(made):
            for secret in (bytes(32), bundle.SALTED):
                with pytest.raises(SpecError, match="secret that the segment's header"):
                    verify(change(made, number, secret=secret))
            return
    raise AssertionError("every segment has values")


def test_the_wire_takes_one_frame_within_its_limits(paths: Paths) -> None:
    data, zstd = make_data(paths), segment.get_zstd()
    packed = batch.compress(data)
    assert batch.decompress(packed) == data
    bomb = zstd.compress(bytes(batch.BATCH_LIMIT_BYTES + 1), 1)
    wide = zstd.compress(bytes(1 << 26), options={zstd.CompressionParameter.window_log: 27})
    for bad in (bomb, wide, packed[:-1], packed + b"\0", packed + packed, b"", data):
        with pytest.raises(SpecError, match="batch does not decompress"):
            batch.decompress(bad)


def test_the_largest_segment_fits(paths: Paths) -> None:
    made = make_batch(paths)
    body = Body(
        (bytes(CERTIFICATE_BYTES),) * CERTIFICATES_MAX,
        bytes(segment.EVENTS_MAX * segment.LEAF_TAG_BYTES),
        bytes(segment.PACKED_LIMIT_BYTES),
        bundle.SALTED + bytes(batch.SECRET_LIMIT_BYTES - 1),
    )
    item = made.items[0]._replace(body=batch.encode_body(body))
    again = made._replace(items=(item,))
    data = encode_batch(again)
    assert decode_batch(data) == again
    over = again._replace(items=(item, item))
    with pytest.raises(SpecError, match="is above"):
        decode_batch(encode_batch(over))


@pytest.mark.fuzz
def test_hostile_bytes_are_refused_or_were_canonical(paths: Paths, full: bool, seed: int) -> None:
    rng, data, taken = random.Random(seed), make_data(paths), 0
    for _ in range(50_000 if full else 2_000):
        spoilt = spoil(rng, data)
        try:
            made = decode_batch(spoilt)
        except SpecError:
            continue
        assert encode_batch(made) == spoilt
        for item in made.items:
            try:
                body = batch.decode_body(item.body)
            except SpecError:
                continue
            assert batch.encode_body(body) == item.body
        taken += 1
    assert taken > 20, "the mutations never reach what is behind the first check"
