"""Hostile bytes: a decoder gives back what encodes to the same bytes, or a named error.

Never anything else: no IndexError, no struct.error, no MemoryError. With ./test --full the three
targets here (codec, evidence file, bundle) take CASES each, 100,000 with those of the policy.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from chainlite import (
    bundle,
    checkpoint,
    cosignature,
    hostlog,
    proof,
    receipt,
    redaction,
    segment,
    verify,
)
from chainlite.errors import SpecError, TamperError
from chainlite.report import Trust, describe_report, judge, render_report
from tests.chainlite.samples import (
    WITNESS,
    decode_frames,
    encode_frames,
    encode_sample,
    make_sample,
)
from tests.chainlite.test_objects import get_encoded
from tests.chainlite.test_proof import make
from tests.chainlite.test_redaction import redact

FULL = os.environ.get("DOCKLOCK_TEST_FULL") == "1"
CASES = 34_000 if FULL else 150
fuzz = settings(max_examples=CASES, deadline=None, derandomize=not FULL, database=None)

FILE = encode_sample(make_sample(count=9, per_segment=4), b"\x01" * 32)
EACH = encode_sample(make_sample(count=9, per_segment=4, sign_each=True), b"\x01" * 32)
PROOFS = tuple(proof.fit(make(epochs=epochs).parts) for epochs in (0, 2, 40))
REDACTED = redact(FILE, "all")
OBJECTS = get_encoded()


@st.composite
def edits(draw: st.DrawFn, data: bytes) -> bytes:
    """The data with a few bytes set, cut, doubled or replaced by lengths that claim much."""
    spoilt = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(spoilt) - 1)))
        action = draw(st.integers(0, 4))
        if action == 0:
            spoilt[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif action == 1:
            del spoilt[at : at + draw(st.integers(1, 64))]
        elif action == 2:
            spoilt[at:at] = spoilt[at : at + draw(st.integers(1, 64))]
        elif action == 3:
            spoilt[at : at + 4] = draw(st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\0\0\xff\xff"]))
        else:
            spoilt[at:at] = draw(st.binary(max_size=16))
    return bytes(spoilt)


def _reencode_hostlog(data: bytes) -> bytes:
    leaf = hostlog.decode_leaf(data)
    encoders: dict[str, Callable[..., bytes]] = {
        "Boot": hostlog.encode_boot,
        "Key": hostlog.encode_key,
        "Start": hostlog.encode_start,
        "Segment": hostlog.encode_segment,
        "Exit": hostlog.encode_exit,
        "Operation": hostlog.encode_operation,
        "Revocation": hostlog.encode_revocation,
        "MldsaKey": hostlog.encode_mldsa_key,
    }
    return encoders[type(leaf).__name__](leaf)


def _reencode_seal(data: bytes) -> bytes:
    seal, signature = bundle.decode_seal(data)
    return bundle.encode_seal(seal) + signature


CODEC: dict[str, Callable[[bytes], bytes]] = {
    "receipt": lambda data: receipt.encode_receipt(receipt.decode_receipt(data)),
    "genesis": lambda data: segment.encode_genesis(segment.decode_genesis(data)),
    "certificate": lambda data: segment.encode_certificate(segment.decode_certificate(data)),
    "header": lambda data: segment.encode_header(segment.decode_header(data)),
    **{name: _reencode_hostlog for name in OBJECTS if name.startswith("leaf_")},
}


@fuzz
@given(st.data())
def test_the_codec_refuses_or_has_read_the_canonical_form(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(CODEC)))
    raw = data.draw(st.one_of(edits(OBJECTS[name]), st.binary(max_size=300)))
    try:
        again = CODEC[name](raw)
    except SpecError:
        return
    assert again == raw


@fuzz
@given(st.data())
def test_an_evidence_file_is_refused_unless_it_is_the_file(data: st.DataObject) -> None:
    """Also with all frame checks made right, so that what lies below them is reached."""
    file = data.draw(st.sampled_from([FILE, EACH]))
    if data.draw(st.booleans()):
        raw = data.draw(edits(file))
    else:
        frames = decode_frames(file)
        at = data.draw(st.integers(0, len(frames) - 1))
        kind = data.draw(st.sampled_from([frames[at][0]] * 4 + list(bundle.SIZE_LIMITS)))
        payload = data.draw(edits(frames[at][1]))
        raw = encode_frames([*frames[:at], (kind, payload), *frames[at + 1 :]])[0]
    try:
        report = verify.verify_file(io.BytesIO(raw).read)
    except SpecError:
        return
    assert raw == file or report.first_bad is not None
    verdict = judge(report, Trust(report.host, (WITNESS,)))
    assert render_report(report, verdict).rstrip("\n").replace("\n", "").isprintable()
    assert describe_report(report, verdict)["ok"] == (report.first_bad is None)


def _reencode_segment(kind: int) -> Callable[[bytes], bytes]:
    return lambda data: bundle.encode_segment(bundle.decode_segment(data, kind)[1])


def _check_redaction(data: bytes) -> bytes:
    """Redaction reads a store that may be spoilt."""
    _, stored = bundle.decode_segment(data)
    redaction.redact_segment(stored, frozenset({"all"}))
    return data


def _check_proof(data: bytes) -> bytes:
    proof.check_proof(data)
    assert data in PROOFS
    return data


def _split(data: bytes) -> bytes:
    checkpoint.parse_claim(data)
    cosignature.get_cosignatures(data, (WITNESS,))
    return data


BUNDLE: tuple[tuple[Callable[[bytes], bytes], tuple[bytes, ...]], ...] = (
    (
        lambda data: bundle.encode_logged_leaf(bundle.decode_logged_leaf(data)),
        tuple(p for kind, p in decode_frames(FILE) if kind in (bundle.START, bundle.EXIT)),
    ),
    (
        lambda data: bundle.encode_anchor(bundle.decode_anchor(data)),
        (bundle.encode_anchor(bundle.Anchor(b"note", (bytes(32),) * 3)),),
    ),
    (
        lambda data: bundle.encode_place(bundle.decode_place(data)),
        (bundle.encode_place(bundle.Place(7, (bytes(32),) * 3)),),
    ),
    (
        _reencode_segment(bundle.SEGMENT),
        tuple(p for kind, p in decode_frames(EACH) if kind == bundle.SEGMENT),
    ),
    (
        _reencode_segment(bundle.REDACTED),
        tuple(p for kind, p in REDACTED if kind == bundle.REDACTED),
    ),
    (_check_redaction, tuple(p for kind, p in decode_frames(EACH) if kind == bundle.SEGMENT)),
    (_reencode_seal, tuple(p for kind, p in decode_frames(FILE) if kind == bundle.SEAL)),
    (lambda data: proof.encode_proof(proof.decode_proof(data)), PROOFS),
    (_check_proof, PROOFS),
    (_split, tuple(p for kind, p in decode_frames(FILE) if kind == bundle.CHECKPOINT)),
)


@fuzz
@given(st.data())
def test_the_parts_of_a_bundle_are_refused_or_canonical(data: st.DataObject) -> None:
    check, samples = data.draw(st.sampled_from(BUNDLE))
    raw = data.draw(edits(data.draw(st.sampled_from(samples))))
    try:
        again = check(raw)
    except (SpecError, TamperError):
        return
    assert again == raw
