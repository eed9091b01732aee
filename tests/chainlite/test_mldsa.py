"""ML-DSA-44: Wycheproof's cases, and that what is made here is what FIPS 204 says."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path

from chainlite import mldsa

VECTORS = Path(__file__).parents[1] / "vectors/mldsa_44.json"


def test_every_wycheproof_signature_is_judged_as_its_authors_say() -> None:
    groups = json.loads(VECTORS.read_text())["groups"]
    count = 0
    for group in groups:
        public = b64decode(group["public"])
        for case in group["tests"]:
            values = [b64decode(case[name]) for name in ("message", "signature", "context")]
            assert mldsa.is_signed(public, *values) is case["is_valid"], case["comment"]
            count += 1
    assert count == 180


def test_a_seed_signs_for_the_key_that_it_makes_and_no_other() -> None:
    public, other = mldsa.Signer(b"\x01" * 32).public, mldsa.Signer(b"\x02" * 32).public
    signature = mldsa.Signer(b"\x01" * 32).sign(b"message")
    assert (len(public), len(signature)) == (mldsa.PUBLIC_BYTES, mldsa.SIGNATURE_BYTES)
    assert mldsa.is_signed(public, b"message", signature)
    assert not mldsa.is_signed(other, b"message", signature)
    assert not mldsa.is_signed(public, b"massage", signature)
    assert not mldsa.is_signed(public, b"message", signature, b"context")
