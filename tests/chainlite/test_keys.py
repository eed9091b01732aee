"""One verification rule: Wycheproof's cases, the curve's edges, and what our key texts refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from chainlite import domains, keys
from chainlite.errors import SpecError

VECTORS = Path(__file__).parents[1] / "vectors"


def test_every_wycheproof_signature_is_judged_as_its_authors_say() -> None:
    cases = read_cases("ed25519.json")
    assert len(cases) > 140
    check_cases(cases)


def test_the_edges_of_the_curve_are_judged_by_the_one_rule() -> None:
    """Where OpenSSL and ZIP 215 say otherwise: validators that judge apart would part."""
    cases = read_cases("ed25519_edges.json")
    assert len(cases) == 66 and sum(case["is_valid"] for case in cases) == 3
    check_cases(cases)
    others = sum(is_signed_for_openssl(case) for case in cases)
    assert others > 3, "OpenSSL judges as libsodium does: which of the two has changed?"


def read_cases(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((VECTORS / name).read_text())["tests"]
    return cases


def is_signed_for_openssl(case: dict[str, Any]) -> bool:
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(case["public"]))
    try:
        public.verify(bytes.fromhex(case["signature"]), bytes.fromhex(case["message"]))
    except InvalidSignature:
        return False
    return True


def check_cases(cases: list[dict[str, Any]]) -> None:
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
