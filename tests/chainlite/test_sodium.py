"""chainlite.sodium gives what nacl.bindings gives, and refuses what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings
from nacl.exceptions import BadSignatureError

from chainlite import sodium

TOP = Path(__file__).resolve().parent.parent.parent
SEEDS = st.binary(min_size=32, max_size=32)


def is_opened(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        bindings.crypto_sign_open(signature + message, public)
    except BadSignatureError:
        return False
    return True


@given(SEEDS, st.binary(max_size=300))
def test_keys_and_signatures_are_those_of_the_bindings(seed: bytes, message: bytes) -> None:
    public, secret = sodium.make_key_pair(seed)
    assert (public, secret) == bindings.crypto_sign_seed_keypair(seed)
    signature = sodium.sign(secret, message)
    assert signature + message == bindings.crypto_sign(message, secret)
    assert sodium.is_signed(public, message, signature)


@given(SEEDS, st.binary(max_size=64), st.integers(0, 1023))
def test_a_changed_bit_is_refused_as_by_the_bindings(seed: bytes, message: bytes, at: int) -> None:
    public, secret = sodium.make_key_pair(seed)
    signed = bytearray(sodium.sign(secret, message) + public + message)
    signed[at // 8 % len(signed)] ^= 1 << at % 8
    signature, key, text = bytes(signed[:64]), bytes(signed[64:96]), bytes(signed[96:])
    assert sodium.is_signed(key, text, signature) == is_opened(key, text, signature) is False


def test_small_order_keys_and_large_scalars_are_refused() -> None:
    order = 2**252 + 27742317777372353535851937790883648493
    public, secret = sodium.make_key_pair(bytes(32))
    signature = sodium.sign(secret, b"m")
    scalar = int.from_bytes(signature[32:], "little") + order
    larger = signature[:32] + scalar.to_bytes(32, "little")
    neutral = b"\x01" + bytes(31)
    for key, mark in ((public, larger), (neutral, neutral + bytes(32)), (bytes(32), bytes(64))):
        assert not sodium.is_signed(key, b"m", mark)
        assert not is_opened(key, b"m", mark)


def test_lengths_are_checked_before_memory_is_read() -> None:
    public, secret = sodium.make_key_pair(bytes(32))
    for wrong in (b"", secret[:-1], secret + b"x"):
        with pytest.raises(ValueError, match="bytes, not"):
            sodium.sign(wrong, b"m")
    for wrong in (b"", bytes(31), bytes(33)):
        with pytest.raises(ValueError, match="bytes, not"):
            sodium.make_key_pair(wrong)
        assert not sodium.is_signed(wrong, b"m", bytes(64))
    assert not sodium.is_signed(public, b"m", bytes(63))
    assert not sodium.is_signed(public, b"m", bytes(65))


def test_a_fresh_process_signs_without_the_bindings() -> None:
    program = (
        "import sys; from chainlite import sodium; sodium.sign(sodium.make_key_pair(bytes(32))[1],"
        "b''); print(*sorted({'typing', 'nacl.bindings'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": ":".join([str(TOP), *filter(None, sys.path)])}
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], env=environment, capture_output=True, text=True
    )
    assert (done.stdout.strip(), done.stderr) == ("", "")


@given(SEEDS, st.binary(min_size=24, max_size=24), st.binary(max_size=300), st.binary(max_size=40))
def test_boxes_are_those_of_the_bindings(
    key: bytes, nonce: bytes, data: bytes, head: bytes
) -> None:
    box = sodium.seal(data, key, nonce, head)
    assert box == bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(data, head, nonce, key)
    assert sodium.unseal(box, key, nonce, head) == data
    assert sodium.unseal(box, key, nonce, head + b"x") is None
    assert sodium.unseal(box[:-1], key, nonce, head) is sodium.unseal(b"", key, nonce, head) is None
