"""Genesis, certificate, header, leaves, seal: canonical forms, and the golden bytes of all."""

from __future__ import annotations

import io
import json
import os
from hashlib import sha256
from pathlib import Path

import pytest

from chainlite import bundle, checkpoint, cosignature, hostlog, proof, receipt, segment, verify
from chainlite.errors import SpecError
from tests.chainlite.samples import (
    WITNESS,
    WITNESS_KEY,
    decode_frames,
    encode_sample,
    make_key,
    make_receipt,
    make_sample,
)
from tests.chainlite.test_proof import make

VECTORS = Path(__file__).parents[1] / "vectors/formats.json"
HASH = b"\x11" * 32
GENESIS = make_sample().genesis
HEADER = segment.Header(HASH, HASH, 1, 2, HASH, 3, 4, 1, 0, HASH, HASH, 5, 6, (1, 2, 3, 4, 5))
CERTIFICATE = segment.Certificate(HASH, HASH, 1, 2, 3, 1, HASH, b"\x44" * 16, 5, 6, HASH)
LEAVES = (
    (hostlog.encode_boot, hostlog.Boot(HASH, b"\x44" * 16, 1, 2, 3)),
    (hostlog.encode_key, hostlog.Key(HASH, 1, 2, HASH, 3, HASH * 2)),
    (hostlog.encode_revocation, hostlog.Revocation(HASH, 1, 2, 3, 4, 5, HASH * 2)),
    (
        hostlog.encode_start,
        hostlog.Start(
            segment.encode_genesis(GENESIS), segment.encode_certificate(CERTIFICATE), HASH * 2
        ),
    ),
    (hostlog.encode_segment, hostlog.Segment(segment.encode_header(HEADER), HASH * 2)),
    (
        hostlog.encode_mldsa_key,
        hostlog.MldsaKey(HASH, 1, 2, HASH * 41, 3, HASH * 2, (HASH * 76)[:2420]),
    ),
    (hostlog.encode_exit, hostlog.Exit(HASH, HASH, 1, 2, HASH, -1, 0, 1, 9)),
    (hostlog.encode_operation, hostlog.Operation(HASH, HASH, "name", (("a", "b"),), 4)),
)
COSIGNED = cosignature.cosign(
    checkpoint.sign_checkpoint(checkpoint.Checkpoint("log.example", 7, HASH), make_key(1)),
    WITNESS.name,
    WITNESS_KEY,
    1_795_000_000,
)
SEAL = bundle.Seal(HASH, HASH, 3, HASH, 4, HASH, (bundle.RunState(0, 2, 5, HASH),))


REDACTED = bundle.StoredSegment(
    segment.encode_header(HEADER._replace(event_count=2)),
    HASH * 2,
    bundle.SALTED + HASH * 3,
    b"\x01\x02\x03\x04" * 2,
    b"body",
)


def get_encoded() -> dict[str, bytes]:
    commitments = (("path", b"\x66" * 32), ("argv", b"\x77" * 32))
    file = encode_sample(make_sample(count=3, per_segment=2), b"\x01" * 32)
    return {
        "receipt": receipt.encode_receipt(make_receipt(5, commitments=commitments)),
        "salt": receipt.compute_salt(HASH, 5, 1),
        "commitment": receipt.compute_commitment(HASH, 5, 1, b"/etc/passwd"),
        "chain_hash": receipt.compute_chain_hash(HASH, b"receipt"),
        "genesis": segment.encode_genesis(GENESIS),
        "genesis_hash": segment.compute_genesis_hash(segment.encode_genesis(GENESIS)),
        "certificate": segment.encode_certificate(CERTIFICATE),
        "certificate_hash": segment.compute_certificate_hash(
            segment.encode_certificate(CERTIFICATE)
        ),
        "header": segment.encode_header(HEADER),
        "seal": bundle.encode_seal(SEAL),
        "witness_key": cosignature.encode_witness(WITNESS).encode(),
        "cosigned_checkpoint": COSIGNED,
        "anchor": bundle.encode_anchor(bundle.Anchor(COSIGNED, (HASH, HASH))),
        "place": bundle.encode_place(bundle.Place(5, (HASH, HASH))),
        "redacted_segment": bundle.encode_segment(REDACTED),
        "proof": proof.encode_proof(make(epochs=1).parts),
        **{f"leaf_{type(leaf).__name__.lower()}": encode(leaf) for encode, leaf in LEAVES},  # type: ignore[operator]
        "evidence_file_without_bodies": b"".join(
            payload for kind, payload in decode_frames(file) if kind in (1, 2, 3, 6)
        ),
    }


def test_every_format_still_has_its_golden_bytes() -> None:
    encoded = {name: data.hex() for name, data in get_encoded().items()}
    if os.environ.get("DOCKLOCK_WRITE_VECTORS") == "1":
        VECTORS.write_text(json.dumps(encoded, indent=1) + "\n")
    assert json.loads(VECTORS.read_text()) == encoded


def test_the_golden_evidence_file_still_verifies() -> None:
    """Of its two segments one is compressed, one is short and so a raw block."""
    path = VECTORS.with_name("evidence.bin")
    if os.environ.get("DOCKLOCK_WRITE_VECTORS") == "1":
        sample = make_sample(per_segment=16, sign_each=True)
        path.write_bytes(encode_sample(sample, b"\x01" * 32))
    report = verify.verify_file(io.BytesIO(path.read_bytes()).read)
    assert report.first_bad is None
    assert (report.receipts, report.segments) == (20, 2)
    assert sha256(report.runs[0].head.encode()).hexdigest()


@pytest.mark.parametrize(
    ("decode", "name"),
    [
        (receipt.decode_receipt, "receipt"),
        (segment.decode_genesis, "genesis"),
        (segment.decode_certificate, "certificate"),
        (segment.decode_header, "header"),
        *[(hostlog.decode_leaf, f"leaf_{type(leaf).__name__.lower()}") for _, leaf in LEAVES],
    ],
)
def test_a_decoder_takes_exactly_its_bytes(decode: object, name: str) -> None:
    assert callable(decode)
    data = get_encoded()[name]
    decode(data)
    for spoilt in (data + b"\0", data[:-1], b"", b"\x3f" + data[1:], data[:1] + b"\0\2" + data[3:]):
        with pytest.raises(SpecError):
            decode(spoilt)


def test_each_leaf_comes_back_as_it_went_in() -> None:
    for encode, leaf in LEAVES:
        assert hostlog.decode_leaf(encode(leaf)) == leaf  # type: ignore[operator]


def test_closed_names_out_of_order_are_not_canonical() -> None:
    for closed in (("b", "a"), ("a", "a")):
        with pytest.raises(SpecError, match="ascending"):
            segment.decode_genesis(segment.encode_genesis(GENESIS._replace(closed=closed)))


def test_a_body_that_swells_beyond_its_limit_is_refused() -> None:
    bomb = segment.pack_body(bytes(segment.BODY_LIMIT_BYTES + 1))
    assert len(bomb) < 10_000
    with pytest.raises(SpecError, match="limit"):
        segment.unpack_body(bomb)
    assert len(segment.unpack_body(segment.pack_body(bytes(segment.BODY_LIMIT_BYTES)))) > 0
    for spoilt in (segment.pack_body(b"x" * 99)[:-1], segment.pack_body(b"x") + b"y", b""):
        with pytest.raises(SpecError):
            segment.unpack_body(spoilt)


@pytest.mark.parametrize(
    "size", [0, 1, 255, 256, 257, 511, 512, 4095, segment.RAW_BODY_MAX_BYTES, 4097, 70_000]
)
def test_a_body_of_any_size_is_one_zstd_frame(size: int) -> None:
    body = bytes(number * number % 251 for number in range(size))
    packed = segment.pack_body(body)
    assert segment.unpack_body(packed) == body
    assert len(packed) <= size + 16
    with pytest.raises(SpecError):
        segment.unpack_body(packed + b"\0")
    with pytest.raises(SpecError):
        segment.unpack_body(packed[:-1])
