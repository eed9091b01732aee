"""One verification rule: Wycheproof's Ed25519 cases, and what our key texts refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chainlite import domains, keys
from chainlite.errors import SpecError

VECTORS = Path(__file__).parents[1] / "vectors/ed25519.json"


def test_every_wycheproof_signature_is_judged_as_its_authors_say() -> None:
    cases = json.loads(VECTORS.read_text())["tests"]
    assert len(cases) > 140
    for case in cases:
        public, message, signature = (
            bytes.fromhex(case[name]) for name in ("public", "message", "signature")
        )
        holds = keys.is_signed(public, message[:1], message[1:], signature)
        assert holds is case["is_valid"], case


def test_small_order_keys_sign_nothing() -> None:
    for public in (bytes(32), b"\x01" + bytes(31)):
        assert not keys.is_signed(public, b"", b"any", public + bytes(32))


def test_a_signature_for_one_purpose_does_not_serve_another() -> None:
    key = keys.make_key_pair(b"\x07" * 32)
    signature = keys.sign(key, domains.SIGN_SEGMENT, b"message")
    assert keys.is_signed(key.public, domains.SIGN_SEGMENT, b"message", signature)
    assert not keys.is_signed(key.public, domains.SIGN_RECEIPT, b"message", signature)


def test_key_texts_round_trip_and_name_their_key() -> None:
    key = keys.make_key_pair(b"\x07" * 32)
    text = keys.encode_verifier("docklock/host/x", key.public)
    assert keys.parse_verifier(text, "k") == ("docklock/host/x", key.public)
    signer = keys.encode_signer("docklock/host/x", b"\x07" * 32, key.public)
    assert keys.parse_signer(signer, "k") == ("docklock/host/x", key)
    fingerprint = keys.compute_host_id(key.public).hex()
    assert keys.parse_fingerprint(text) == keys.parse_fingerprint(fingerprint) == fingerprint


@pytest.mark.parametrize(
    "text",
    ["", "a+b", "name+00000000+AVH+", "z" * 64, "name+00000000+" + "A" * 44, "PRIVATE+KEY+x"],
)
def test_a_text_that_is_no_key_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(SpecError, match="here"):
        keys.parse_fingerprint(text, "here")
