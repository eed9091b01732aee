"""libsodium's Ed25519 through pynacl's compiled module: nacl.bindings imports typing first (10 ms).

The one door to libsodium; it is loaded on the first call, because many commands never sign. Not
here: what is signed (keys, and the modules above it). Invariants: sodium_init was called before
anything else is; lengths are checked before a pointer is passed; results are those of
nacl.bindings (tests/chainlite/test_sodium.py). Source: libsodium, crypto_sign(3).
"""

from __future__ import annotations

from chainlite.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

SEED_BYTES = 32
PUBLIC_BYTES = 32
SECRET_BYTES = 64
SIGNATURE_BYTES = 64

_loaded: list[Any] = []


def _load() -> tuple[Any, Any]:
    """libsodium's functions, ready for use, and cffi's door to memory."""
    if not _loaded:
        from nacl._sodium import ffi, lib

        if lib.sodium_init() < 0:  # 1 means that it was ready already
            raise RuntimeError("libsodium cannot be initialised")
        _loaded.extend((lib, ffi))
    return _loaded[0], _loaded[1]


def make_key_pair(seed: bytes) -> tuple[bytes, bytes]:
    """The public key and the 64-byte secret of a 32-byte seed."""
    _check_length("seed", seed, SEED_BYTES)
    lib, ffi = _load()
    public, secret = ffi.new("unsigned char[]", PUBLIC_BYTES), ffi.new("unsigned char[]", 64)
    if lib.crypto_sign_seed_keypair(public, secret, seed) != 0:
        raise RuntimeError("libsodium made no key pair")
    return ffi.buffer(public)[:], ffi.buffer(secret)[:]


def sign(secret: bytes, message: bytes) -> bytes:
    """The 64-byte signature of a message."""
    _check_length("secret key", secret, SECRET_BYTES)
    lib, ffi = _load()
    signed = ffi.new("unsigned char[]", SIGNATURE_BYTES + len(message))
    if lib.crypto_sign(signed, ffi.NULL, message, len(message), secret) != 0:
        raise RuntimeError("libsodium did not sign")
    return bytes(ffi.buffer(signed, SIGNATURE_BYTES))


def is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether libsodium accepts the signature; False too for one or a key of another length."""
    if len(signature) != SIGNATURE_BYTES or len(public) != PUBLIC_BYTES:
        return False
    lib, ffi = _load()
    signed = signature + message
    opened, size = ffi.new("unsigned char[]", len(signed)), ffi.new("unsigned long long *")
    return bool(lib.crypto_sign_open(opened, size, signed, len(signed), public) == 0)


def _check_length(what: str, value: bytes, size: int) -> None:
    if len(value) != size:
        raise ValueError(f"a {what} has {size} bytes, not {len(value)}")
