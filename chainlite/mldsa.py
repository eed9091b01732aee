"""ML-DSA-44 (FIPS 204), pure, with the empty context: public keys, signatures.

Not here: what is signed (cosignature) and where seeds lie (docklock.evidence.keyring). The one door
to `cryptography`, which is imported on first use: it takes 13 ms, and no run needs it. A seed that
passes through here leaves copies in the memory of the process, which libsodium's keys do not:
who signs with it should not live long. Source: FIPS 204; C2SP tlog-cosignature.
"""

from __future__ import annotations

SEED_BYTES = 32
PUBLIC_BYTES = 1312
SIGNATURE_BYTES = 2420


class Signer:
    """The key of a 32-byte seed; `public` has 1312 bytes."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes) -> None:
        """ValueError for a seed of another length."""
        from cryptography.hazmat.primitives.asymmetric import mldsa

        self._key = mldsa.MLDSA44PrivateKey.from_seed_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """2420 bytes over the message; different ones each time (hedged signing)."""
        return self._key.sign(message)


def is_signed(public: bytes, message: bytes, signature: bytes, context: bytes = b"") -> bool:
    """Whether the signature is this key's; False too for a key, signature or context that is none.

    Logs use the empty context alone.
    """
    if len(public) != PUBLIC_BYTES or len(signature) != SIGNATURE_BYTES or len(context) > 255:
        return False
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import mldsa

    try:
        key = mldsa.MLDSA44PublicKey.from_public_bytes(public)
        key.verify(signature, message, context or None)
    except (InvalidSignature, ValueError):
        return False
    return True
