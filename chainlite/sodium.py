"""libsodium through pynacl's compiled module: nacl.bindings imports typing first (10 ms).

The one door to libsodium; it is loaded on the first call, because many commands never sign. Not
here: what is signed (keys, and the modules above it). Invariants: sodium_init was called before
anything else is; lengths are checked before a pointer is passed; results are those of
nacl.bindings (tests/chainlite/test_sodium.py). What ends in `_at` works on secrets where they lie,
by address: no byte of them becomes an object of Python, and libsodium erases its own stack.
Source: libsodium, crypto_sign(3), crypto_aead_xchacha20poly1305_ietf(3).
"""

from __future__ import annotations

from chainlite.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

SEED_BYTES = 32
PUBLIC_BYTES = 32
SECRET_BYTES = 64
SIGNATURE_BYTES = 64
NONCE_BYTES = 24
KEY_BYTES = 32
BOX_EXTRA_BYTES = 16

_loaded: list[Any] = []


def _load() -> tuple[Any, Any]:
    """libsodium's functions, ready for use, and cffi's door to memory."""
    if not _loaded:
        from nacl._sodium import ffi, lib

        if lib.sodium_init() < 0:  # 1 means that it was ready already
            raise RuntimeError("libsodium cannot be initialised")
        _loaded.extend((lib, ffi))
    return _loaded[0], _loaded[1]


def prepare() -> None:
    """Load it now, where there is time: it takes a millisecond."""
    _load()


def make_key_pair(seed: bytes) -> tuple[bytes, bytes]:
    """The public key and the 64-byte secret of a 32-byte seed."""
    _check_length("seed", seed, SEED_BYTES)
    _, ffi = _load()
    secret = ffi.new("unsigned char[]", SECRET_BYTES)
    return _make_key_pair(secret, seed), bytes(ffi.buffer(secret))


def make_key_pair_at(secret: int, seed: int) -> bytes:
    """Write the 64-byte secret of the 32-byte seed, both by address; its public key.

    The two may not overlap.
    """
    return _make_key_pair(_cast(secret), _cast(seed))


def _make_key_pair(secret: Any, seed: Any) -> bytes:
    lib, ffi = _load()
    public = ffi.new("unsigned char[]", PUBLIC_BYTES)
    if lib.crypto_sign_seed_keypair(public, secret, seed) != 0:
        raise RuntimeError("libsodium made no key pair")
    return bytes(ffi.buffer(public))


def make_random_pair_at(secret: int) -> bytes:
    """Write a new 64-byte secret at the address; its public key."""
    lib, ffi = _load()
    public = ffi.new("unsigned char[]", PUBLIC_BYTES)
    if lib.crypto_sign_keypair(public, _cast(secret)) != 0:
        raise RuntimeError("libsodium made no key pair")
    return bytes(ffi.buffer(public))


def sign(secret: bytes, message: bytes) -> bytes:
    """The 64-byte signature of a message."""
    _check_length("secret key", secret, SECRET_BYTES)
    return _sign(secret, message)


def sign_at(secret: int, message: bytes) -> bytes:
    """The 64-byte signature of a message by the 64-byte secret at the address."""
    return _sign(_cast(secret), message)


def _sign(secret: Any, message: bytes) -> bytes:
    lib, ffi = _load()
    signed = ffi.new("unsigned char[]", SIGNATURE_BYTES + len(message))
    if lib.crypto_sign(signed, ffi.NULL, message, len(message), secret) != 0:
        raise RuntimeError("libsodium did not sign")
    return bytes(ffi.buffer(signed, SIGNATURE_BYTES))


def hash_at(target: int, source: int, size: int) -> None:
    """Write the SHA-256 of `size` bytes at `source` to `target`, both by address."""
    lib, _ = _load()
    if lib.crypto_hash_sha256(_cast(target), _cast(source), size) != 0:
        raise RuntimeError("libsodium did not hash")


def seal_at(source: int, size: int, key: int, nonce: bytes, head: bytes) -> bytes:
    """`size` bytes at `source`, sealed with the 32-byte key at `key`; authentic with `head`."""
    _check_length("nonce", nonce, NONCE_BYTES)
    lib, ffi = _load()
    box, written = (
        ffi.new("unsigned char[]", size + BOX_EXTRA_BYTES),
        ffi.new("unsigned long long *"),
    )
    inputs = (_cast(source), size, head, len(head), ffi.NULL, nonce, _cast(key))
    if lib.crypto_aead_xchacha20poly1305_ietf_encrypt(box, written, *inputs) != 0:
        raise RuntimeError("libsodium did not seal")
    return bytes(ffi.buffer(box))


def open_at(target: int, box: bytes, key: int, nonce: bytes, head: bytes) -> bool:
    """Write what `seal_at` sealed to `target`; False if key, box or head are not those."""
    _check_length("nonce", nonce, NONCE_BYTES)
    lib, ffi = _load()
    written = ffi.new("unsigned long long *")
    inputs = (box, len(box), head, len(head), nonce, _cast(key))
    at = _cast(target)
    opened = lib.crypto_aead_xchacha20poly1305_ietf_decrypt(at, written, ffi.NULL, *inputs)
    return bool(opened == 0)


def seal(data: bytes, key: bytes, nonce: bytes, head: bytes) -> bytes:
    """The data sealed with a 32-byte key; authentic with `head`. No nonce twice with one key."""
    _check_length("nonce", nonce, NONCE_BYTES)
    _check_length("key", key, KEY_BYTES)
    lib, ffi = _load()
    box = ffi.new("unsigned char[]", len(data) + BOX_EXTRA_BYTES)
    written = ffi.new("unsigned long long *")
    inputs = (data, len(data), head, len(head), ffi.NULL, nonce, key)
    if lib.crypto_aead_xchacha20poly1305_ietf_encrypt(box, written, *inputs) != 0:
        raise RuntimeError("libsodium did not seal")
    return bytes(ffi.buffer(box))


def unseal(box: bytes, key: bytes, nonce: bytes, head: bytes) -> bytes | None:
    """What `seal` sealed; None if key, box, nonce or head are not those."""
    _check_length("nonce", nonce, NONCE_BYTES)
    _check_length("key", key, KEY_BYTES)
    if len(box) < BOX_EXTRA_BYTES:
        return None
    lib, ffi = _load()
    size = len(box) - BOX_EXTRA_BYTES
    data, written = ffi.new("unsigned char[]", max(size, 1)), ffi.new("unsigned long long *")
    inputs = (box, len(box), head, len(head), nonce, key)
    if lib.crypto_aead_xchacha20poly1305_ietf_decrypt(data, written, ffi.NULL, *inputs) != 0:
        return None
    return bytes(ffi.buffer(data, size))


def erase_at(address: int, size: int) -> None:
    """Overwrite with zeros, which no compiler leaves out."""
    lib, _ = _load()
    lib.sodium_memzero(_cast(address), size)


def get_view(address: int, size: int) -> Any:
    """A writable buffer over memory by address, for readv and writev; valid while the memory is."""
    _, ffi = _load()
    return ffi.buffer(_cast(address), size)


def is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether libsodium accepts the signature; False too for one or a key of another length."""
    if len(signature) != SIGNATURE_BYTES or len(public) != PUBLIC_BYTES:
        return False
    lib, ffi = _load()
    signed = signature + message
    # Nowhere to put the message: it is not copied.
    return bool(lib.crypto_sign_open(ffi.NULL, ffi.NULL, signed, len(signed), public) == 0)


def _cast(address: int) -> Any:
    _, ffi = _load()
    return ffi.cast("unsigned char *", address)


def _check_length(what: str, value: bytes, size: int) -> None:
    if len(value) != size:
        raise ValueError(f"a {what} has {size} bytes, not {len(value)}")
